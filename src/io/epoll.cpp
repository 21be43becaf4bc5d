// How the epoll engine waits, receives and sends. One wait is epoll_wait and a bounded recvmmsg on
// each socket that is ready. Epoll is level-triggered: data that the bound leaves behind is
// reported again at the next wait. Epoll reports EPOLLERR, asked for or not, until the error is
// read, so the engine answers every event with a receive.
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>

#include "epoll_state.hpp"

namespace udpproxy {

Result<EpollBackend> EpollBackend::open(const EngineSetup& setup) {
    Result<BufferPool> request_pool =
        BufferPool::create(setup.buffers_per_leg, setup.payload_bytes_max);
    if (!request_pool) return request_pool.error();
    Result<BufferPool> reply_pool =
        BufferPool::create(setup.buffers_per_leg, setup.payload_bytes_max);
    if (!reply_pool) return reply_pool.error();
    auto state = std::make_unique<State>(setup, std::move(*request_pool), std::move(*reply_pool));
    // Stays open over execve(2): see Predecessor::close_engines().
    state->epoll_descriptor = ::epoll_create1(0);
    if (state->epoll_descriptor < 0) return system_error("epoll_create1", errno);
    state->wake_descriptor = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (state->wake_descriptor < 0) return system_error("eventfd", errno);
    return EpollBackend{std::move(state)};
}

EpollBackend::EpollBackend(std::unique_ptr<State> state) : EngineBase(std::move(state)) {}

Result<void> EpollBackend::start(std::vector<ListenerSocket> listeners) {
    State& state = this->state();
    if (state.batch_wait > Duration::zero()) make_sleep_exact();
    if (const int error = state.watch(state.wake_descriptor, wake_event))
        return system_error("epoll_ctl", error);
    if (const int error = state.adopt_all(std::move(listeners)))
        return system_error("epoll_ctl", error);
    return {};
}

const Completions& EpollBackend::wait(std::optional<Instant> deadline) {
    State& state = this->state();
    state.last_arrivals = state.completions.requests.size() + state.completions.replies.size();
    state.completions.clear();
    for (const Receiving* receiving : {&state.requests, &state.replies})
        UDPPROXY_ASSERT(receiving->pool.available() + receiving->ready + receiving->in_flight ==
                        receiving->pool.count());
    const bool has_watched = state.watch_queued();
    state.close_queued();
    state.feed_starved();
    int limit_ms = -1;
    if (!state.completions.closed.empty() || !state.to_close.empty() ||
        (has_watched && !state.to_watch.empty())) {
        limit_ms = 0;  // sockets that closed must be reported before the engine waits
    } else if (deadline) {
        const Duration left = std::max(Duration::zero(), *deadline - monotonic_now());
        const auto rounded_up = std::chrono::ceil<std::chrono::milliseconds>(left).count();
        limit_ms = static_cast<int>(std::min<std::int64_t>(rounded_up, 3'600'000));
    }
    if (!has_watched && (limit_ms < 0 || limit_ms > watch_again_ms)) limit_ms = watch_again_ms;
    const int ready = state.wait_for_events(limit_ms);
    UDPPROXY_ASSERT(ready >= 0 || errno == EINTR);
    for (int i = 0; i < ready; ++i) {
        const std::uint64_t data = state.events[static_cast<std::size_t>(i)].data.u64;
        if (data == wake_event) {
            std::uint64_t value = 0;
            (void)!::read(state.wake_descriptor, &value, sizeof value);
            continue;
        }
        // A close takes the descriptor out of the epoll set at once, and happens between waits: no
        // event is ever stale.
        state.receive_from(Slot{static_cast<std::uint32_t>(data)});
    }
    return state.completions;
}

void EpollBackend::discard(Buffer buffer) {
    Receiving& receiving = state().receiving(leg_of(buffer));
    --receiving.in_flight;
    receiving.pool.release(index_of(buffer));
}

/// The Sender sends everything, socket by socket.
std::span<const Fault> EpollBackend::send(std::span<const Departure> departures, Instant now) {
    Sender& sender = state().sender;
    sender.begin(departures, now);
    for (const Slot slot : sender.slots()) {
        ChainWalk walk = sender.take(slot);
        sender.send_chain(slot, {}, walk);
    }
    for (std::size_t i = 0; i < departures.size(); ++i) {
        if (!sender.keeps(i)) discard(departures[i].buffer);
    }
    return sender.faults();
}

int EpollBackend::State::wait_for_events(int limit_ms) {
    const Duration limit = limit_ms < 0 ? Duration::max() : std::chrono::milliseconds{limit_ms};
    if (busy_poll > Duration::zero() && limit_ms != 0) {
        const Instant began = monotonic_now();
        Duration passed{};
        do {
            if (const int ready = look_for_events(0); ready > 0) return ready;
            passed = monotonic_now() - began;
        } while (passed < std::min(busy_poll, limit));
        if (passed >= limit) return 0;
    }
    const int ready = look_for_events(limit_ms);
    // Events do not tell how many datagrams wait. If the last wait brought a full batch, the next
    // wait probably brings one too.
    if (ready <= 0 || limit_ms == 0 || batch_wait == Duration::zero() ||
        last_arrivals >= full_batch)
        return ready;
    sleep_for(batch_wait);
    return look_for_events(0);
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
    // The descriptor is in the set: only a bug in the engine makes this call fail.
    UDPPROXY_ASSERT(::epoll_ctl(epoll_descriptor, EPOLL_CTL_MOD, slots[slot].descriptor, &event) ==
                    0);
}

/// Stops watching a socket until a buffer is available: level-triggered epoll would report data
/// that finds no buffer for ever. Epoll still reports an error, which is taken out here.
void EpollBackend::State::starve(Slot slot) {
    SlotEntry& entry = slots[slot];
    if (entry.queued) {
        int error = 0;
        socklen_t length = sizeof error;
        const bool failed =
            ::getsockopt(entry.descriptor, SOL_SOCKET, SO_ERROR, &error, &length) == 0 &&
            error != 0;
        if (failed && !completions.faults.full())
            completions.faults.push(Fault{FaultKind::receive, error, slot, 0});
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
        if (!receiving(slots[slot].leg).has_buffer()) {
            starved[kept++] = slot;
            continue;
        }
        slots[slot].queued = false;
        watch_again(slot, EPOLLIN);
    }
    starved.truncate(kept);
}

/// The oldest first. False: the kernel has no watch for one now, as while the epoll instance of an
/// earlier process is still open where fs.epoll.max_user_watches is low (epoll(7)).
bool EpollBackend::State::watch_queued() {
    const std::size_t count = std::min(watches_per_wait, to_watch.size());
    std::size_t done = 0;
    while (done < count && watch(slots[to_watch[done]].descriptor, index_of(to_watch[done])) == 0)
        slots[to_watch[done++]].queued = false;
    std::copy(to_watch.begin() + done, to_watch.end(), to_watch.begin());
    to_watch.truncate(to_watch.size() - done);
    return done == count;
}

void EpollBackend::State::close_queued() {
    for (std::size_t count = 0; count < closes_per_wait && !to_close.empty(); ++count) {
        const Slot slot = to_close[to_close.size() - 1];
        to_close.truncate(to_close.size() - 1);
        for (Batch<Slot>* list : {&starved, &to_watch}) {
            if (!slots[slot].queued) break;
            list->truncate(static_cast<std::size_t>(std::remove(list->begin(), list->end(), slot) -
                                                    list->begin()));
        }
        ::close(slots[slot].descriptor);  // leaves the epoll set too: no other descriptor is open
        slots.vacate(slot);
        completions.closed.push(slot);
    }
}

void Receiving::prepare(std::size_t place, std::uint32_t buffer) {
    Incoming& assign = incoming[place];
    assign.buffer = buffer;
    assign.payload = iovec{pool.at(buffer), payload_bytes};
    msghdr& header = messages[place].msg_hdr;
    header = msghdr{};
    header.msg_name = &assign.name;
    header.msg_namelen = sizeof assign.name;
    header.msg_iov = &assign.payload;
    header.msg_iovlen = 1;
    header.msg_control = assign.control;
    header.msg_controllen = sizeof assign.control;
}

bool Receiving::prepare_all() {
    for (; ready < messages.size() && pool.available() > 0; ++ready) prepare(ready, pool.acquire());
    return ready > 0;
}

void Receiving::refill(std::size_t taken) {
    in_flight += taken;
    for (std::size_t place = 0; place < taken; ++place) {
        if (pool.available() > 0) {
            prepare(place, pool.acquire());
        } else if (ready > taken) {
            --ready;
            prepare(place, incoming[ready].buffer);
        } else {
            ready = place;
            return;
        }
    }
}

void EpollBackend::State::receive_from(Slot slot) {
    // The kernel reports a pending error before data already queued: read the error, count it, and
    // receive once more.
    for (int attempt = 0; attempt < 2; ++attempt) {
        if (!receiving(slots[slot].leg).prepare_all()) {
            starve(slot);
            return;
        }
        if (receive_batch(slot) >= 0 || errno == EAGAIN || errno == EINTR) return;
        if (!completions.faults.full())
            completions.faults.push(Fault{FaultKind::receive, errno, slot, 0});
    }
}

/// The number of datagrams, or -1 and errno.
int EpollBackend::State::receive_batch(Slot slot) {
    const SlotEntry& entry = slots[slot];
    Receiving& receiving = this->receiving(entry.leg);
    // MSG_TRUNC: the kernel tells the true length of a datagram or train that does not fit.
    const int received =
        ::recvmmsg(entry.descriptor, receiving.messages.data(),
                   static_cast<unsigned>(receiving.ready), MSG_DONTWAIT | MSG_TRUNC, nullptr);
    if (received <= 0) return received;
    const auto taken = static_cast<std::size_t>(received);
    for (std::size_t i = 0; i < taken; ++i)
        take_arrival(slot, entry, receiving.messages[i], receiving.incoming[i]);
    receiving.refill(taken);
    return received;
}

void EpollBackend::State::take_arrival(Slot slot, const SlotEntry& entry, const mmsghdr& message,
                                       const Incoming& assign) {
    const ControlIn control = read_control(assign.control, message.msg_hdr.msg_controllen);
    Arrival& arrival =
        (entry.leg == Leg::request ? completions.requests : completions.replies).append();
    arrival.slot = slot;
    arrival.buffer = buffer_of(entry.leg, assign.buffer);
    arrival.payload = static_cast<const std::byte*>(assign.payload.iov_base);
    arrival.bytes = message.msg_len;
    arrival.segment_bytes = control.segment_bytes;
    arrival.from = read_socket_name(assign.name);
    arrival.local = control.local;
    arrival.interface_index = control.interface_index;
    arrival.is_copied = control.is_copied;
    arrival.tos = control.tos;
    arrival.truncated = (message.msg_hdr.msg_flags & MSG_TRUNC) != 0;
    if (control.segment_bytes != 0) ++counters.trains_received;
}

}  // namespace udpproxy
