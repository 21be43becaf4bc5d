// The epoll engine. One wait is epoll_wait and a bounded recvmmsg on each socket that is ready; one send is a sendmmsg per socket and batch.
// Level-triggered: what a bound leaves behind is reported again at the next wait. EPOLLERR is reported whether asked for or not until the error
// is read, so every event is answered with a receive.
#include "udpproxy/io/epoll.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "outgoing.hpp"
#include "slot_table.hpp"
#include "udpproxy/io/buffer_pool.hpp"

namespace udpproxy {

namespace {

constexpr std::size_t events_per_wait = 512;
constexpr std::size_t receives_per_socket = 64;  // per wait: one busy socket cannot starve the others
constexpr std::size_t sends_per_call = 64;
constexpr std::uint32_t no_departure = 0xffffffffU;
constexpr std::uint64_t wake_event = ~std::uint64_t{0};

constexpr Buffer buffer_of(Leg leg, std::uint32_t index) { return Buffer{index | (leg == Leg::reply ? 0x80000000U : 0U)}; }

/// One place of a recvmmsg: where name and control messages of a datagram go.
struct Incoming {
    iovec payload;
    SocketName name;
    alignas(cmsghdr) std::byte control[control_bytes_max];
    std::uint32_t buffer;
};

/// The departures of one slot, chained in order.
struct Chain {
    std::uint32_t first = no_departure;
    std::uint32_t last = no_departure;
};

}  // namespace

struct EpollBackend::State {
    State(EngineSetup setup, BufferPool request_pool, BufferPool reply_pool)
        : slots(setup.slots_max),
          requests(std::move(request_pool)),
          replies(std::move(reply_pool)),
          payload_bytes_max(setup.payload_bytes_max),
          to_close(setup.slots_max),
          starved(setup.slots_max),
          harvest(setup.buffers_per_leg, setup.slots_max),
          chains(std::make_unique<Chain[]>(setup.slots_max)),
          chained_slots(3 * std::size_t{setup.buffers_per_leg}),
          next_in_chain(std::make_unique<std::uint32_t[]>(3 * std::size_t{setup.buffers_per_leg})),
          send_faults(3 * std::size_t{setup.buffers_per_leg}),
          listeners(std::move(setup.listeners)) {}

    ~State() {
        for (std::uint32_t index = 0; index < slots.touched(); ++index) {
            if (slots[Slot{index}].descriptor >= 0) ::close(slots[Slot{index}].descriptor);
        }
        if (wake_descriptor >= 0) ::close(wake_descriptor);
        if (epoll_descriptor >= 0) ::close(epoll_descriptor);
    }
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    [[nodiscard]] BufferPool& pool_of(Leg leg) noexcept { return leg == Leg::request ? requests : replies; }
    [[nodiscard]] int watch(int descriptor, std::uint64_t data) const;
    void watch_again(Slot slot, std::uint32_t events_wanted);
    void starve(Slot slot);
    void feed_starved();
    void receive_from(Slot slot);
    [[nodiscard]] int receive_batch(Slot slot, std::size_t wanted);
    void take_arrival(Slot slot, const SlotEntry& entry, const mmsghdr& message, const Incoming& place);
    void close_queued();
    void chain_by_slot(std::span<const Departure> departures);
    void send_chain(std::span<const Departure> departures, Slot slot);
    void send_part(std::span<const Departure> departures, const SlotEntry& entry, Slot slot, std::size_t count);

    int epoll_descriptor = -1;
    int wake_descriptor = -1;
    SlotTable slots;
    BufferPool requests;
    BufferPool replies;
    std::uint32_t payload_bytes_max;
    Batch<Slot> to_close;
    Batch<Slot> starved;  // sockets with data but no buffer for it: not watched until one has come home
    Harvest harvest;

    std::array<epoll_event, events_per_wait> events{};
    std::array<mmsghdr, receives_per_socket> receive_messages{};
    std::array<Incoming, receives_per_socket> incoming{};
    std::array<mmsghdr, sends_per_call> send_messages{};
    std::array<Outgoing, sends_per_call> outgoing{};
    std::array<std::uint32_t, sends_per_call> sent_departures{};
    std::unique_ptr<Chain[]> chains;  // by slot
    Batch<Slot> chained_slots;
    std::unique_ptr<std::uint32_t[]> next_in_chain;  // by departure
    Batch<Fault> send_faults;
    EngineCounters counters;
    std::vector<ListenerSocket> listeners;
};

Result<EpollBackend> EpollBackend::open(EngineSetup setup) {
    Result<BufferPool> request_pool = BufferPool::create(setup.buffers_per_leg, setup.payload_bytes_max);
    if (!request_pool) return request_pool.error();
    Result<BufferPool> reply_pool = BufferPool::create(setup.buffers_per_leg, setup.payload_bytes_max);
    if (!reply_pool) return reply_pool.error();
    auto state = std::make_unique<State>(std::move(setup), std::move(*request_pool), std::move(*reply_pool));
    state->epoll_descriptor = ::epoll_create1(EPOLL_CLOEXEC);
    if (state->epoll_descriptor < 0) return system_error("epoll_create1", errno);
    state->wake_descriptor = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (state->wake_descriptor < 0) return system_error("eventfd", errno);
    return EpollBackend{std::move(state)};
}

EpollBackend::EpollBackend(std::unique_ptr<State> state) : state_(std::move(state)) {}
EpollBackend::EpollBackend(EpollBackend&&) noexcept = default;
EpollBackend::~EpollBackend() = default;

Result<void> EpollBackend::start() {
    State& state = *state_;
    if (const int error = state.watch(state.wake_descriptor, wake_event)) return system_error("epoll_ctl", error);
    for (ListenerSocket& listener : state.listeners) {
        const int descriptor = listener.socket.release();
        const Slot slot = state.slots.place(descriptor, listener.family, Leg::request);
        if (const int error = state.watch(descriptor, index_of(slot))) return system_error("epoll_ctl", error);
    }
    return {};
}

const Harvest& EpollBackend::wait(std::optional<Instant> deadline) {
    State& state = *state_;
    state.harvest.clear();
    state.close_queued();
    state.feed_starved();
    int limit_ms = -1;
    if (!state.harvest.closed.empty()) {
        limit_ms = 0;  // what was closed must be reported before anything is waited for
    } else if (deadline) {
        const Duration left = std::max(Duration::zero(), *deadline - now());
        const auto rounded_up = std::chrono::ceil<std::chrono::milliseconds>(left).count();
        limit_ms = static_cast<int>(std::min<std::int64_t>(rounded_up, 3'600'000));
    }
    const int ready = ::epoll_wait(state.epoll_descriptor, state.events.data(), static_cast<int>(state.events.size()), limit_ms);
    UDPPROXY_ASSERT(ready >= 0 || errno == EINTR);
    for (int i = 0; i < ready; ++i) {
        const std::uint64_t data = state.events[static_cast<std::size_t>(i)].data.u64;
        if (data == wake_event) {
            std::uint64_t value = 0;
            (void)!::read(state.wake_descriptor, &value, sizeof value);
            continue;
        }
        // Closing takes a descriptor out of the set at once, and happens between waits: no event is ever stale.
        state.receive_from(Slot{static_cast<std::uint32_t>(data)});
    }
    return state.harvest;
}

void EpollBackend::discard(Buffer buffer) {
    const auto value = static_cast<std::uint32_t>(buffer);
    state_->pool_of((value >> 31) != 0 ? Leg::reply : Leg::request).take_back(value & 0x7fffffffU);
}

OpeningOutcome EpollBackend::open_group(const GroupOpening& opening, std::span<Slot> slots) {
    State& state = *state_;
    UDPPROXY_ASSERT(slots.size() == opening.members());
    if (state.slots.slots_free() < slots.size()) return {OpeningStep::socket, EMFILE};
    std::array<int, 64> descriptors{};
    UDPPROXY_ASSERT(slots.size() <= descriptors.size());
    OpeningOutcome outcome = open_group_sockets(opening, descriptors);
    if (!outcome.opened()) return outcome;
    for (std::size_t i = 0; i < slots.size(); ++i) {
        slots[i] = state.slots.place(descriptors[i], opening.local.family(), Leg::reply);
        const int error = state.watch(descriptors[i], index_of(slots[i]));
        if (error == 0) continue;
        // ENOMEM or ENOSPC (fs.epoll.max_user_watches): the whole group goes again.
        for (std::size_t placed = 0; placed <= i; ++placed) state.slots.vacate(slots[placed]);
        for (std::size_t opened = 0; opened < slots.size(); ++opened) ::close(descriptors[opened]);
        return {OpeningStep::socket, error};
    }
    return outcome;
}

void EpollBackend::close(Slot slot) {
    SlotEntry& entry = state_->slots[slot];
    UDPPROXY_ASSERT(entry.descriptor >= 0 && !entry.closing);
    entry.closing = true;
    state_->to_close.push(slot);
}

SourceAnswer EpollBackend::source_towards(const Endpoint& upstream, const Address& wanted) {
    return udpproxy::source_towards(upstream, wanted);
}

void EpollBackend::wake() {
    const std::uint64_t one = 1;
    (void)!::write(state_->wake_descriptor, &one, sizeof one);
}

const EngineCounters& EpollBackend::counters() const { return state_->counters; }

std::span<const Fault> EpollBackend::send(std::span<const Departure> departures) {
    State& state = *state_;
    state.send_faults.clear();
    state.chain_by_slot(departures);
    for (const Slot slot : state.chained_slots) state.send_chain(departures, slot);
    state.chained_slots.clear();
    for (const Departure& departure : departures) discard(departure.buffer);
    return {state.send_faults.begin(), state.send_faults.size()};
}

int EpollBackend::State::watch(int descriptor, std::uint64_t data) const {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = data;
    return ::epoll_ctl(epoll_descriptor, EPOLL_CTL_ADD, descriptor, &event) == 0 ? 0 : errno;
}

void EpollBackend::State::watch_again(Slot slot, std::uint32_t events_wanted) {
    epoll_event event{};
    event.events = events_wanted;
    event.data.u64 = index_of(slot);
    // The descriptor is in the set: only a bug of ours makes this fail.
    UDPPROXY_ASSERT(::epoll_ctl(epoll_descriptor, EPOLL_CTL_MOD, slots[slot].descriptor, &event) == 0);
}

/// Level-triggered, data that finds no buffer would be reported for ever: the socket is not watched until one has come home. An error is
/// reported all the same, and taken out here.
void EpollBackend::State::starve(Slot slot) {
    SlotEntry& entry = slots[slot];
    if (entry.queued) {
        int error = 0;
        socklen_t length = sizeof error;
        const bool failed = ::getsockopt(entry.descriptor, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error != 0;
        if (failed && !harvest.faults.full()) harvest.faults.push(Fault{FaultKind::receive, error, slot, 0});
        return;
    }
    ++counters.buffers_exhausted;
    entry.queued = true;
    starved.push(slot);
    watch_again(slot, 0);
}

void EpollBackend::State::feed_starved() {
    std::size_t kept = 0;
    for (const Slot slot : starved) {
        if (pool_of(slots[slot].leg).at_home() == 0) {
            starved[kept++] = slot;
            continue;
        }
        slots[slot].queued = false;
        watch_again(slot, EPOLLIN);
    }
    starved.truncate(kept);
}

void EpollBackend::State::close_queued() {
    for (const Slot slot : to_close) {
        if (slots[slot].queued)
            starved.truncate(static_cast<std::size_t>(std::remove(starved.begin(), starved.end(), slot) - starved.begin()));
        ::close(slots[slot].descriptor);  // also leaves the epoll set: nobody else holds the file
        slots.vacate(slot);
        harvest.closed.push(slot);
    }
    to_close.clear();
}

void EpollBackend::State::receive_from(Slot slot) {
    std::size_t left = receives_per_socket;
    // A pending error comes before data already queued: read it, count it, and look once more.
    for (int attempt = 0; attempt < 2 && left > 0; ++attempt) {
        const BufferPool& pool = pool_of(slots[slot].leg);
        if (pool.at_home() == 0) {
            starve(slot);
            return;
        }
        const int received = receive_batch(slot, std::min(left, pool.at_home()));
        if (received >= 0) return;
        if (errno == EAGAIN || errno == EINTR) return;
        if (!harvest.faults.full()) harvest.faults.push(Fault{FaultKind::receive, errno, slot, 0});
    }
}

int EpollBackend::State::receive_batch(Slot slot, std::size_t wanted) {
    const SlotEntry& entry = slots[slot];
    BufferPool& pool = pool_of(entry.leg);
    for (std::size_t i = 0; i < wanted; ++i) {
        Incoming& place = incoming[i];
        place.buffer = pool.lend();
        place.payload = iovec{pool.at(place.buffer), payload_bytes_max};
        msghdr& header = receive_messages[i].msg_hdr;
        header = msghdr{};
        header.msg_name = &place.name;
        header.msg_namelen = sizeof place.name;
        header.msg_iov = &place.payload;
        header.msg_iovlen = 1;
        header.msg_control = place.control;
        header.msg_controllen = sizeof place.control;
    }
    const int received = ::recvmmsg(entry.descriptor, receive_messages.data(), static_cast<unsigned>(wanted), MSG_DONTWAIT, nullptr);
    const int error = errno;
    const std::size_t taken = received > 0 ? static_cast<std::size_t>(received) : 0;
    for (std::size_t i = 0; i < taken; ++i) take_arrival(slot, entry, receive_messages[i], incoming[i]);
    for (std::size_t i = wanted; i > taken; --i) pool.take_back(incoming[i - 1].buffer);
    errno = error;
    return received;
}

void EpollBackend::State::take_arrival(Slot slot, const SlotEntry& entry, const mmsghdr& message, const Incoming& place) {
    const ControlIn control = read_control(place.control, message.msg_hdr.msg_controllen);
    Arrival& arrival = (entry.leg == Leg::request ? harvest.requests : harvest.replies).append();
    arrival.slot = slot;
    arrival.buffer = buffer_of(entry.leg, place.buffer);
    arrival.payload = static_cast<const std::byte*>(place.payload.iov_base);
    arrival.bytes = message.msg_len;
    arrival.from = read_socket_name(place.name);
    arrival.local = control.local;
    arrival.interface_index = control.interface_index;
    arrival.tos = control.tos;
    arrival.truncated = (message.msg_hdr.msg_flags & MSG_TRUNC) != 0;
}

void EpollBackend::State::chain_by_slot(std::span<const Departure> departures) {
    for (std::uint32_t i = 0; i < departures.size(); ++i) {
        const Slot slot = departures[i].slot;
        Chain& chain = chains[index_of(slot)];
        next_in_chain[i] = no_departure;
        if (chain.first == no_departure) {
            chain.first = i;
            chained_slots.push(slot);
        } else {
            next_in_chain[chain.last] = i;
        }
        chain.last = i;
    }
}

void EpollBackend::State::send_chain(std::span<const Departure> departures, Slot slot) {
    const SlotEntry& entry = slots[slot];
    Chain& chain = chains[index_of(slot)];
    std::uint32_t at = chain.first;
    chain = Chain{};
    while (at != no_departure) {
        std::size_t count = 0;
        for (; at != no_departure && count < sends_per_call; at = next_in_chain[at]) {
            write_outgoing(departures[at], entry.family, outgoing[count]);
            send_messages[count].msg_hdr = outgoing[count].header;
            sent_departures[count++] = at;
        }
        send_part(departures, entry, slot, count);
    }
}

void EpollBackend::State::send_part(std::span<const Departure> departures, const SlotEntry& entry, Slot slot, std::size_t count) {
    // sendmmsg stops at the first failure; when something went out before it, the error itself is lost and has been consumed
    // (net/socket.c, __sys_sendmmsg), so the next call is that datagram's second attempt.
    bool second_attempt = false;
    for (std::size_t at = 0; at < count;) {
        const int sent = ::sendmmsg(entry.descriptor, &send_messages[at], static_cast<unsigned>(count - at), MSG_DONTWAIT | MSG_NOSIGNAL);
        const std::uint32_t departure = sent_departures[at];
        if (sent > 0) {
            if (second_attempt) send_faults.push(Fault{FaultKind::send_retry, 0, slot, departure});
            at += static_cast<std::size_t>(sent);
            second_attempt = true;
        } else if (!second_attempt && departures[departure].to.port == 0 && may_be_pending_error(errno)) {
            second_attempt = true;
        } else {
            send_faults.push(Fault{FaultKind::send, errno, slot, departure});
            ++at;
            second_attempt = false;
        }
    }
}

}  // namespace udpproxy
