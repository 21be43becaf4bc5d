// Admission: a new client gets a session. This is the cold path: it may make system calls through
// Sockets, and it is bounded per turn.
//
// Order within a client is kept: a client that got its session earlier in the turn is forwarded
// even beyond the bound, so its second datagram never overtakes its first.
#include <algorithm>
#include <array>

#include "admission.hpp"

namespace udpproxy {

namespace {

constexpr int ports_tried_per_group = 16;

}  // namespace

/// A datagram without a session when it was received can only have one now if its client was
/// admitted in this turn. So this turn's admissions (at most 64) are searched, not the table: a
/// full queue of new clients must not make the turn long.
bool Admission::forward_if_admitted(const NewClient& new_client) {
    const auto hashes = std::span{admitted_}.first(admitted_count_);
    if (std::find(hashes.begin(), hashes.end(), new_client.hash) == hashes.end()) return false;
    const std::optional<std::uint32_t> session = shard_.table.find(new_client.hash, new_client.key);
    if (!session || has_had_its_requests(shard_, sockets_, *session, now_)) return false;
    // Counted where the arrival was: the listener may have moved between the client's datagrams.
    forward_request(shard_, *session, new_client.arrival, now_).proxy = new_client.proxy;
    return true;
}

AdmissionDecision Admission::decide(const NewClient& new_client) {
    const std::uint16_t proxy = new_client.proxy;
    if (const std::optional<Drop> refused = failed_admission_check(shard_, new_client))
        return reject(*refused);
    Reservation reservation(shard_, proxy, now_);
    if (const AdmissionDecision reserved = reserve(reservation, proxy, new_client);
        reserved.verdict != Verdict::admitted)
        return reserved;

    const AdmissionDecision decision = find_group(proxy, reservation);
    if (!reservation.holds_group()) return decision;
    const std::uint32_t index = shard_.table.admit(new_client.hash, new_client.key, proxy, now_);
    Session& session = shard_.table[index];
    session.group = reservation.group();
    session.primary = shard_.groups[session.group].primary();
    session.interface_index = new_client.arrival.interface_index;
    reservation.commit(new_client.key, index);
    shard_.counters_of(proxy).sessions_admitted.add(1);
    forward_request(shard_, index, new_client.arrival, now_);
    admitted_[admitted_count_++] = new_client.hash;
    return admitted;
}

/// Tries every source binding before anything is evicted for the new client: another one may have a
/// group or a port to spare.
AdmissionDecision Admission::find_group(std::uint16_t proxy_index, Reservation& reservation) {
    Proxy& proxy = shard_.proxies[proxy_index];
    AdmissionDecision decision = reject(Drop::source_unavailable);
    bool lacks_descriptors = false;
    bool lacks_port = false;
    for (BindingIndex tried = 0; tried < proxy.bindings; ++tried) {
        const BindingIndex binding =
            proxy.first_binding + (proxy.next_binding + tried) % proxy.bindings;
        if (look_up_source(shard_, binding, now_)) ++lookups_;
        if (shard_.bindings[binding].error != 0) {
            decision = reject(Drop::source_unavailable);
            continue;
        }
        if (!reuse_group(binding, reservation)) decision = open_group(binding, reservation);
        if (reservation.holds_group()) {
            shard_.prewarming = shard_.prewarming || shard_.groups.lacking(binding) > 0;
            proxy.next_binding = (binding - proxy.first_binding + 1) % proxy.bindings;
            return admitted;
        }
        if (decision.verdict == Verdict::wait) {
            // The next turn begins at another source: a turn opens only so many sockets.
            proxy.next_binding = (binding - proxy.first_binding + 1) % proxy.bindings;
            return decision;
        }
        lacks_descriptors = lacks_descriptors || decision.reason == Drop::descriptor_limit;
        lacks_port = lacks_port || decision.reason == Drop::ports_exhausted;
    }
    if (lacks_descriptors) return evict_for_group(proxy_index);
    if (lacks_port) return evict_for_port(proxy_index, reservation);
    return decision;
}

bool Admission::reuse_group(BindingIndex binding, Reservation& reservation) {
    const std::optional<std::uint32_t> group = shard_.groups.acquire(binding, no_index, now_);
    if (!group) return false;
    reservation.hold(*group);
    shard_.counters_of(shard_.bindings[binding].proxy).groups_reused.add(1);
    return true;
}

AdmissionDecision Admission::open_group(BindingIndex binding_index, Reservation& reservation) {
    const SourceBinding& binding = shard_.bindings[binding_index];
    Proxy& proxy = shard_.proxies[binding.proxy];
    GroupOpening opening;
    opening.local = binding.source;
    const Upstream& upstream = *proxy.setup.upstream;
    opening.upstream = upstream.endpoint();
    opening.aliases = upstream.connected_aliases();
    opening.path_mtu = proxy.setup.path_mtu;
    opening.receive_buffer_bytes = proxy.setup.member_receive_buffer_bytes;
    opening.offload = proxy.setup.offload;
    const bool watches = shall_watch(proxy);
    opening.with_open_member = watches || upstream.needs_open_member();

    auto members = static_cast<std::uint32_t>(opening.members());
    bool taken = !shard_.groups.full() && reservation.take_descriptors(members);
    if (!taken && !shard_.groups.full() && proxy.setup.watch == Watch::spare_capacity &&
        opening.with_open_member && !upstream.needs_open_member()) {
        // An open member is only for spare descriptors.
        opening.with_open_member = false;
        taken = reservation.take_descriptors(--members);
    }
    members_lacking_ = taken ? 0 : members;
    if (!taken) return reject(Drop::descriptor_limit);

    std::array<Slot, group_members_max> slots{};
    OpeningOutcome outcome;
    for (int tried = 0; tried < ports_tried_per_group; ++tried) {
        const std::optional<std::uint16_t> port = reservation.take_port(binding);
        if (!port) return reject(Drop::ports_exhausted);
        opening.local.port = *port;
        ++openings_;
        outcome = sockets_.open_group(opening, std::span{slots}.first(members));
        if (outcome.opened()) {
            reservation.hold_opened(
                add_group(binding_index, opening, std::span{slots}.first(members)));
            return admitted;
        }
        if (outcome.step != OpeningStep::bind || outcome.error != EADDRINUSE) break;
        shard_.counters_of(binding.proxy).ports_taken.add(1);
    }
    return decide_on_failure(outcome, binding_index);
}

bool Admission::prepare_group(BindingIndex binding) {
    (void)look_up_source(shard_, binding, now_);
    if (shard_.bindings[binding].error != 0) return false;
    // The reservation is not committed, so the group stands ready for a new client.
    Reservation reservation(shard_, shard_.bindings[binding].proxy, now_);
    (void)open_group(binding, reservation);
    return reservation.holds_group();
}

std::uint32_t Admission::add_group(BindingIndex binding, const GroupOpening& opening,
                                   std::span<const Slot> slots) {
    const std::uint32_t index = shard_.groups.add(binding, no_index);
    ReplyGroup& group = shard_.groups[index];
    group.local = opening.local;
    group.proxy = shard_.bindings[binding].proxy;
    group.members = static_cast<std::uint8_t>(slots.size());
    group.has_open_member = opening.with_open_member;
    for (std::size_t i = 0; i < slots.size(); ++i) {
        group.slots[i] = slots[i];
        shard_.group_of_slot.set(slots[i], index);
    }
    shard_.setup.use->own_ports[shard_.bindings[binding].port_pool].insert(group.local.port);
    hold_upstream(shard_, shard_.proxies[group.proxy]);
    ++shard_.proxies[group.proxy].opened;
    shard_.counters_of(group.proxy).groups_opened.add(1);
    return index;
}

AdmissionDecision Admission::decide_on_failure(const OpeningOutcome& outcome,
                                               BindingIndex binding_index) {
    SourceBinding& binding = shard_.bindings[binding_index];
    // Other processes hold every port tried; the next turn tries the ports after them.
    if (outcome.step == OpeningStep::bind && outcome.error == EADDRINUSE) return wait_for_port;
    if (outcome.step == OpeningStep::bind && outcome.error == EADDRNOTAVAIL) {
        // The source address has gone since it was looked up. The next look-up is a second later.
        binding.error = outcome.error;
        shard_.groups.outdate(binding_index);
        return reject(Drop::source_unavailable);
    }
    // Another user of descriptors holds some that the budget counted on.
    if (outcome.step == OpeningStep::socket && (outcome.error == EMFILE || outcome.error == ENFILE))
        return reject(Drop::descriptor_limit);
    if (outcome.step == OpeningStep::connect) return reject(Drop::upstream_unroutable);
    return reject(Drop::group_failed);
}

bool Admission::shall_watch(Proxy& proxy) const {
    switch (proxy.setup.watch) {
        case Watch::none:
            return false;
        case Watch::all:
            return true;
        case Watch::spare_capacity:
            break;
    }
    const std::uint32_t used = shard_.setup.use->descriptors.read();
    return used < shard_.setup.descriptors_max / 2 || proxy.opened % 16 == 0;
}

namespace {

/// The same client among the first `kept` new clients, behind whose datagram this one waits; null
/// when there is none.
NewClient* waiting(Shard& shard, std::size_t kept, const NewClient& new_client) {
    for (std::size_t i = 0; i < kept; ++i) {
        NewClient& other = shard.new_clients[i];
        if (other.hash == new_client.hash && other.key == new_client.key) return &other;
    }
    return nullptr;
}

/// The new clients of one pass that wait for other shards to evict, and what they ask for. The one
/// that has waited longest says what is lacking. Those that lack something else ask after it.
class AskingOtherShards {
public:
    AskingOtherShards(Shard& shard, Instant now) : shard_(shard), now_(now) {}

    /// Whether the new client may wait.
    [[nodiscard]] bool may_wait(NewClient& new_client, Drop lacks) {
        if (!new_client.waits_for_shards_since) new_client.waits_for_shards_since = now_;
        new_client.lacks = lacks;
        if (waiting_ == other_shards_waiting_max ||
            now_ - *new_client.waits_for_shards_since >= other_shards_wait_max)
            return false;
        const bool descriptors = lacks == Drop::descriptor_limit;
        if (waiting_++ == 0) {
            more_.proxy = new_client.proxy;
            more_.descriptors = descriptors;
        }
        if (new_client.proxy != more_.proxy || descriptors != more_.descriptors) return true;
        if (now_ - new_client.asked_at >= other_shards_asked_every) {
            new_client.asked_at = now_;
            ++more_.count;
        } else {
            ++asked_before_;
        }
        return true;
    }
    /// Whether there is nothing new for a client that lacks descriptors: to decide on it again
    /// would take one of the few openings of this turn, for which others wait.
    [[nodiscard]] bool stands_as_before(const NewClient& new_client) const {
        return new_client.waits_for_shards_since && new_client.lacks == Drop::descriptor_limit &&
               now_ - new_client.asked_at < other_shards_asked_every &&
               shard_.setup.use->eviction_requests.of(shard_.setup.shard).count > 0;
    }
    /// Whether a further datagram of a client that waits for them may wait behind it.
    [[nodiscard]] bool may_follow() {
        return waiting_ < other_shards_waiting_max && ++waiting_ > 0;
    }
    /// `is_complete`: the pass has looked at every new client.
    void ask(bool is_complete) {
        if (shard_.setup.shards == 1 || (!is_complete && more_.count == 0)) return;
        shard_.setup.use->eviction_requests.ask(shard_.setup.shard, more_, asked_before_);
        if (more_.count > 0) shard_.wake_others();
    }

private:
    Shard& shard_;
    Instant now_;
    std::uint32_t waiting_ = 0;  // datagrams
    std::uint32_t asked_before_ = 0;
    EvictionRequest more_;
};

/// The new clients that one pass over their queue keeps, in their order, and the number of their
/// datagrams.
class KeptNewClients {
public:
    explicit KeptNewClients(Shard& shard) : shard_(shard) { shard.datagrams_waiting = 0; }
    KeptNewClients(const KeptNewClients&) = delete;
    ~KeptNewClients() { shard_.new_clients.truncate(count_); }

    void keep(const NewClient& new_client) {
        shard_.datagrams_waiting += new_client.arrival.datagrams();
        shard_.new_clients[count_++] = new_client;
    }
    [[nodiscard]] std::size_t count() const noexcept { return count_; }

private:
    Shard& shard_;
    std::size_t count_ = 0;
};

template <class Goes>
void drop_new_clients(Shard& shard, Goes goes, Drop reason = Drop::draining) {
    KeptNewClients kept(shard);
    for (const NewClient& new_client : shard.new_clients) {
        if (goes(new_client))
            shard.drop(new_client.arrival, new_client.proxy, reason);
        else
            kept.keep(new_client);
    }
}

}  // namespace

void drop_new_clients_at(Shard& shard, std::uint16_t listener) {
    drop_new_clients(
        shard, [&](const NewClient& new_client) { return new_client.key.listener == listener; });
}

void drop_new_clients_of(Shard& shard, std::uint16_t proxy) {
    drop_new_clients(shard, [&](const NewClient& new_client) { return new_client.proxy == proxy; });
}

void give_up_new_clients(Shard& shard) {
    drop_new_clients(
        shard, [](const NewClient&) { return true; }, Drop::stopping);
}

void admit_new_clients(Shard& shard, Sockets& sockets, Instant now) {
    Admission admission(shard, sockets, now);
    AskingOtherShards asking(shard, now);
    std::uint32_t left = admissions_per_turn;
    KeptNewClients kept(shard);
    std::size_t next = 0;
    for (; next < shard.new_clients.size() && left > 0 && !admission.is_spent(); ++next) {
        NewClient& new_client = shard.new_clients[next];
        if (admission.forward_if_admitted(new_client)) continue;
        AdmissionDecision decision = wait_for_descriptors;
        if (const NewClient* ahead = waiting(shard, kept.count(), new_client)) {
            if (ahead->waits_for_shards_since && !asking.may_follow())
                decision = reject(ahead->lacks);
        } else {
            if (asking.stands_as_before(new_client)) {
                decision = {Verdict::ask_other_shards, new_client.lacks};
            } else {
                if (!shard.stopping) --left;  // refusing costs nothing
                decision = admission.decide(new_client);
            }
            if (decision.verdict == Verdict::wait && ++new_client.waits > waits_max)
                decision.verdict = Verdict::dropped;
            if (decision.verdict == Verdict::ask_other_shards) {
                ++new_client.waits;
                decision.verdict =
                    asking.may_wait(new_client, decision.reason) ? Verdict::wait : Verdict::dropped;
            }
        }
        switch (decision.verdict) {
            case Verdict::admitted:
                break;
            case Verdict::dropped:
                shard.drop(new_client.arrival, new_client.proxy, decision.reason);
                break;
            case Verdict::wait:
            case Verdict::ask_other_shards:
                kept.keep(new_client);
                break;
        }
    }
    shard.admission_bound_met = next < shard.new_clients.size();
    asking.ask(!shard.admission_bound_met);
    for (; next < shard.new_clients.size(); ++next) {
        const NewClient& new_client = shard.new_clients[next];
        if (!admission.forward_if_admitted(new_client)) kept.keep(new_client);
    }
}

}  // namespace udpproxy
