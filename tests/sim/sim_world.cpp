// The simulated kernel's behaviour. The facts behind it, and the tests that show them on a real
// kernel, are listed in docs/kernel.md.
#include "sim/sim_world.hpp"

#include <algorithm>
#include <cerrno>

namespace udpproxy::sim {

void SimWorld::client_sends(const Endpoint& client, const Endpoint& local, std::string payload,
                            std::uint8_t tos) {
    SimListener* taker = nullptr;  // the more specific one, as in the kernel
    for (SimListener& listener : listeners)
        if (listener.is_open && overlap(listener.endpoint, local) &&
            (taker == nullptr || taker->endpoint.address.is_unspecified()))
            taker = &listener;
    if (taker != nullptr)
        deliver(taker->queue, Packet{client, local, std::move(payload), tos});
    else
        ++refused_by_kernel;
}

bool SimWorld::service_sends(const Endpoint& source, const Endpoint& group, std::string payload,
                             std::uint8_t tos) {
    SimMember* best = nullptr;
    for (auto& [slot, member] : members) {
        if (member.local != group || (member.peer && *member.peer != source)) continue;
        // A connected socket's four-tuple beats an unconnected one's address and port.
        if (best == nullptr || (member.peer && !best->peer)) best = &member;
    }
    if (best == nullptr) {
        ++refused_by_kernel;
        return false;
    }
    deliver(best->queue, Packet{source, group, std::move(payload), tos});
    return true;
}

void SimWorld::deliver(std::deque<Packet>& queue, const Packet& packet) {
    const auto happens = [&](double probability) { return probability > 0 && chance(probability); };
    if (happens(loss_chance)) {
        ++lost;
        return;
    }
    for (int copies = happens(duplicate_chance) ? 2 : 1; copies > 0; --copies) {
        if (queue.size() >= queue_max) {
            ++overflowed;
            continue;
        }
        const std::size_t behind = happens(reorder_chance) ? pick(queue.size() + 1) : queue.size();
        queue.insert(queue.begin() + static_cast<std::ptrdiff_t>(behind), packet);
    }
}

void SimWorld::reject(const Endpoint& group, const Endpoint& peer, int error) {
    for (auto& [slot, member] : members) {
        if (member.local == group && member.peer == peer) member.pending_error = error;
    }
}

SourceAnswer SimWorld::source_towards(const Endpoint& to, const Address& wanted) const {
    if (source_error != 0) return {source_error, {}};
    const Address routed_from = own_addresses.contains(to.address) ? to.address : routed;
    const Address source = wanted.is_unspecified() ? routed_from : wanted;
    if (absent.contains(source)) return {wanted.is_unspecified() ? ENETUNREACH : EADDRNOTAVAIL, {}};
    return {0, Endpoint{source, 0, 0}};
}

SimBackend::SimBackend(std::shared_ptr<SimWorld> world, std::uint32_t slots_max,
                       std::uint32_t buffers_per_leg)
    : world_(std::move(world)),
      buffers_per_leg_(buffers_per_leg),
      payloads_(2 * std::size_t{buffers_per_leg}),
      completions_(std::make_unique<Completions>(buffers_per_leg, slots_max)) {
    for (std::uint32_t slot = slots_max; slot > world_->listeners.size(); --slot)
        free_slots_.push_back(slot - 1);
    for (std::uint32_t buffer = 0; buffer < buffers_per_leg; ++buffer) {
        free_[0].push_back(buffer);
        free_[1].push_back(buffers_per_leg + buffer);
    }
}

Result<void> SimBackend::start(std::vector<ListenerSocket>) { return {}; }

const Completions& SimBackend::wait(std::optional<Instant> deadline) {
    world_->live();
    completions_->clear();
    for (const Slot slot : std::exchange(closed_listeners_, {})) {
        completions_->closed.push(slot);
        world_->listeners[index_of(slot)].queue.clear();
    }
    finish_closes();
    for (std::uint32_t i = 0; i < world_->listeners.size(); ++i)
        take_arrivals(Slot{i}, world_->listeners[i].queue, Leg::request,
                      &world_->listeners[i].endpoint);
    for (auto& [slot, member] : world_->members) {
        if (member.pending_error != 0 && world_->chance(0.3)) {
            completions_->faults.push(
                Fault{FaultKind::receive, std::exchange(member.pending_error, 0), Slot{slot}, 0});
        }
        take_arrivals(Slot{slot}, member.queue, Leg::reply, nullptr);
    }
    const bool brought_nothing = completions_->requests.empty() && completions_->replies.empty() &&
                                 completions_->closed.empty() && completions_->faults.empty();
    if (brought_nothing && (!deadline || *deadline > world_->now)) ++world_->blocked_waits;
    return *completions_;
}

void SimBackend::take_arrivals(Slot slot, std::deque<Packet>& queue, Leg leg,
                               const Endpoint* listener) {
    std::vector<std::uint32_t>& free = free_[leg == Leg::request ? 0 : 1];
    while (!queue.empty() && !free.empty()) {
        const Packet& packet = queue.front();
        const std::uint32_t buffer = free.back();
        free.pop_back();
        Arrival& arrival =
            (leg == Leg::request ? completions_->requests : completions_->replies).append();
        arrival = Arrival{};
        arrival.slot = slot;
        arrival.buffer = Buffer{buffer};
        arrival.bytes = static_cast<std::uint32_t>(packet.payload.size());
        arrival.from = packet.from;
        if (listener != nullptr && listener->address.is_unspecified())
            arrival.local = packet.to.address;
        arrival.is_copied = packet.to.address.is_multicast() || packet.to.address.is_broadcast();
        if (arrival.is_copied)
            arrival.local = packet.to.address.is_ipv4() ? world_->routed : Address{};
        arrival.tos = packet.tos;
        const Packet first = packet;
        payloads_[buffer] = packet.payload;
        for (queue.pop_front();
             !queue.empty() && queue.front().to == first.to && joins(arrival, queue.front());
             queue.pop_front()) {
            if (!world_->chance(world_->train_chance)) break;
            arrival.segment_bytes = static_cast<std::uint32_t>(first.payload.size());
            payloads_[buffer] += queue.front().payload;
            arrival.bytes = static_cast<std::uint32_t>(payloads_[buffer].size());
        }
        arrival.payload = reinterpret_cast<const std::byte*>(payloads_[buffer].data());
    }
    if (!queue.empty()) ++counters_.buffers_exhausted;
}

/// What receive offload would put behind the arrival: of the same sender and class, equal in
/// length, the last one shorter.
bool SimBackend::joins(const Arrival& arrival, const Packet& packet) {
    const std::uint32_t segment_bytes =
        arrival.segment_bytes == 0 ? arrival.bytes : arrival.segment_bytes;
    return segment_bytes > 0 && arrival.bytes % segment_bytes == 0 && packet.from == arrival.from &&
           packet.tos == arrival.tos && !packet.payload.empty() &&
           packet.payload.size() <= segment_bytes && arrival.datagrams() < 64;
}

std::span<const Fault> SimBackend::send(std::span<const Departure> departures, Instant) {
    faults_.clear();
    std::map<Slot, int> held_up;  // slots on which a send had no room, and its error
    world_->now += std::exchange(world_->next_send_takes, Duration::zero());
    for (std::uint32_t i = 0; i < departures.size(); ++i) {
        const Departure& departure = departures[i];
        // Engines compare destinations, to coalesce and to remember what a path refused.
        if (departure.to.port == 0) UDPPROXY_ASSERT(departure.to == Endpoint{});
        bool has_capacity = true;
        if (const auto found = held_up.find(departure.slot); found != held_up.end()) {
            faults_.push_back(Fault{FaultKind::send_no_space, found->second, departure.slot, i,
                                    departure.datagrams(), departure.bytes, 0});
            continue;
        }
        if (departure.datagrams() > 1 && world_->chance(world_->refusal_chance)) {
            ++counters_.gso_fallbacks;
            for (std::uint32_t at = 0; at < departure.bytes && has_capacity;
                 at += departure.segment_bytes)
                has_capacity = send_part(
                    departure, i, at, std::min(departure.segment_bytes, departure.bytes - at), 0);
        } else {
            has_capacity = send_part(departure, i, 0, departure.bytes, departure.segment_bytes);
        }
        if (has_capacity)
            discard(departure.buffer);
        else
            held_up.emplace(departure.slot, faults_.back().error);
    }
    return faults_;
}

bool SimBackend::send_part(const Departure& departure, std::uint32_t index, std::uint32_t offset,
                           std::uint32_t bytes, std::uint32_t segment_bytes) {
    const std::uint32_t datagrams = segments_of(bytes, segment_bytes);
    int error = attempt(departure, offset, bytes, segment_bytes);
    if (error == ECONNREFUSED && departure.to.port == 0) {
        error = attempt(departure, offset, bytes, segment_bytes);
        if (error == 0)
            faults_.push_back(
                Fault{FaultKind::send_retry, 0, departure.slot, index, datagrams, bytes, offset});
    }
    if (error == EAGAIN || error == ENOBUFS) {
        const std::uint32_t bytes_left = departure.bytes - offset;
        faults_.push_back(Fault{FaultKind::send_no_space, error, departure.slot, index,
                                segments_of(bytes_left, departure.segment_bytes), bytes_left,
                                offset});
        return false;
    }
    if (error != 0)
        faults_.push_back(
            Fault{FaultKind::send, error, departure.slot, index, datagrams, bytes, offset});
    return true;
}

int SimBackend::attempt(const Departure& departure, std::uint32_t offset, std::uint32_t bytes,
                        std::uint32_t segment_bytes) {
    world_->live();
    if (const int error = std::exchange(world_->next_send_error, 0)) return error;
    if (world_->send_errors != 0) return world_->send_errors;
    Packet packet;
    packet.tos = departure.tos;
    std::vector<Packet>* goal = &world_->at_clients;
    if (departure.to.port == 0) {
        SimMember& member = world_->members.at(index_of(departure.slot));
        if (const int error = std::exchange(member.pending_error, 0)) return error;
        if (world_->absent.contains(member.local.address)) return ENETUNREACH;
        packet.from = member.local;
        packet.to = member.peer.value();
        goal = &world_->at_upstream;
    } else {
        packet.from = world_->listeners.at(index_of(departure.slot)).endpoint;
        if (!departure.from.is_unspecified()) packet.from.address = departure.from;
        packet.to = departure.to;
    }
    const std::string payload(reinterpret_cast<const char*>(departure.payload) + offset, bytes);
    const std::uint32_t datagrams = segments_of(bytes, segment_bytes);
    for (std::uint32_t i = 0; i < datagrams; ++i) {
        packet.payload = datagrams == 1
                             ? payload
                             : payload.substr(std::size_t{i} * segment_bytes, segment_bytes);
        goal->push_back(packet);
    }
    return 0;
}

void SimBackend::discard(Buffer buffer) {
    const auto index = static_cast<std::uint32_t>(buffer);
    std::vector<std::uint32_t>& free = free_[index < buffers_per_leg_ ? 0 : 1];
    UDPPROXY_ASSERT(std::find(free.begin(), free.end(), index) == free.end());
    free.push_back(index);
}

OpeningOutcome SimBackend::open_group(const GroupOpening& opening, std::span<Slot> slots) {
    world_->live();
    UDPPROXY_ASSERT(opening.local.port != 0 && slots.size() == opening.members());
    if (!world_->next_opening.opened())
        return std::exchange(world_->next_opening, OpeningOutcome{});
    if (free_slots_.size() < slots.size()) return {OpeningStep::socket, EMFILE};
    if (!opening.descriptors.empty()) {
        take_over(opening.descriptors, slots);
        return {};
    }
    if (world_->absent.contains(opening.local.address) ||
        world_->tentative.contains(opening.local.address))
        return {OpeningStep::bind, EADDRNOTAVAIL};
    bool is_taken = world_->taken.contains(opening.local);
    for (const auto& [slot, member] : world_->members)
        is_taken = is_taken || member.local == opening.local;
    if (is_taken) return {OpeningStep::bind, EADDRINUSE};
    for (std::size_t i = 0; i < slots.size(); ++i) {
        slots[i] = Slot{free_slots_.back()};
        free_slots_.pop_back();
        SimMember member;
        member.slot = slots[i];
        member.local = opening.local;
        if (i == 0) member.peer = opening.upstream;
        if (i > 0 && i <= opening.aliases.size()) member.peer = opening.aliases[i - 1];
        member.descriptor = world_->next_descriptor++;
        world_->members.emplace(index_of(slots[i]), std::move(member));
    }
    ++world_->openings;
    return {};
}

OpeningOutcome SimBackend::join_group(std::span<const Slot> members, const MemberJoining& joining,
                                      Slot& joined) {
    world_->live();
    for (const Slot slot : members)
        UDPPROXY_ASSERT(world_->members.at(index_of(slot)).local == joining.local);
    if (!world_->next_join.opened()) return std::exchange(world_->next_join, OpeningOutcome{});
    if (free_slots_.empty()) return {OpeningStep::socket, EMFILE};
    joined = Slot{free_slots_.back()};
    free_slots_.pop_back();
    SimMember member;
    member.slot = joined;
    member.local = joining.local;
    member.peer = joining.peer;
    member.descriptor = world_->next_descriptor++;
    world_->members.emplace(index_of(joined), std::move(member));
    return {};
}

/// The world has the listener already, in that slot.
int SimBackend::adopt(Slot slot, ListenerSocket&) {
    world_->live();
    UDPPROXY_ASSERT(index_of(slot) < world_->listeners.size());
    if (const int error = std::exchange(world_->next_adoption_error, 0)) return error;
    world_->listeners[index_of(slot)].is_open = true;
    return 0;
}

void SimBackend::take_over(std::span<const int> descriptors, std::span<Slot> slots) {
    for (std::size_t i = 0; i < slots.size(); ++i) {
        slots[i] = Slot{free_slots_.back()};
        free_slots_.pop_back();
        auto member = world_->left.extract(descriptors[i]);
        UDPPROXY_ASSERT(!member.empty());
        member.mapped().slot = slots[i];
        world_->members.emplace(index_of(slots[i]), std::move(member.mapped()));
    }
}

void SimBackend::close(Slot slot) {
    world_->live();
    if (index_of(slot) < world_->listeners.size()) {
        world_->listeners[index_of(slot)].is_open = false;
        closed_listeners_.push_back(slot);
        return;
    }
    SimMember& member = world_->members.at(index_of(slot));
    UDPPROXY_ASSERT(member.waits_until_closed < 0);
    member.waits_until_closed =
        static_cast<int>(world_->pick(static_cast<std::size_t>(world_->close_waits_max) + 1));
}

void SimBackend::finish_closes() {
    for (auto place = world_->members.begin(); place != world_->members.end();) {
        SimMember& member = place->second;
        if (member.waits_until_closed < 0 || member.waits_until_closed-- > 0) {
            ++place;
            continue;
        }
        completions_->closed.push(member.slot);
        free_slots_.push_back(index_of(member.slot));
        place = world_->members.erase(place);
    }
}

}  // namespace udpproxy::sim
