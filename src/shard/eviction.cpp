// Eviction: what is freed when a new client meets a limit. Cooling groups are freed first, then
// unassured sessions. Assured sessions are never evicted.
#include <algorithm>

#include "admission.hpp"

namespace udpproxy {

namespace {

constexpr std::uint32_t fruitless_scans_max = 4;
constexpr int evictions_per_new_client_max = 4;

}  // namespace

/// How fast sessions may be evicted for new clients. Each eviction puts a port into cooldown, and a
/// flood must not put every port there. So the rate is three quarters of the ports that sessions
/// leave free, per cooldown.
Rate eviction_rate(const Shard& shard, std::uint16_t index) {
    const Proxy& proxy = shard.proxies[index];
    if (proxy.setup.port_cooldown == Duration::zero()) return Rate{};
    std::uint64_t ports = 0;
    for (BindingIndex binding = proxy.first_binding; binding < proxy.first_binding + proxy.bindings;
         ++binding)
        ports += shard.ports[shard.bindings[binding].port_pool].ports(
            shard.bindings[binding].port_range);
    ports *= shard.setup.shards;  // each shard has as many
    const std::uint64_t sessions = proxy.setup.sessions_max;
    const std::uint64_t spare = ports > sessions ? ports - sessions : 0;
    const auto cooldown_ms = static_cast<std::uint64_t>(
        std::chrono::ceil<std::chrono::milliseconds>(proxy.setup.port_cooldown).count());
    const auto per_second = static_cast<std::uint32_t>(
        std::clamp<std::uint64_t>(spare * 750 / cooldown_ms, 1, 1'000'000));
    return Rate{per_second,
                static_cast<std::uint32_t>(std::max<std::uint64_t>(per_second, spare / 8))};
}

/// Takes rate tokens, session and client count, cheapest refusal first. Evicts a session if a
/// session limit is met.
AdmissionDecision Admission::reserve(Reservation& reservation, std::uint16_t proxy,
                                     const NewClient& new_client) {
    const Address& client = new_client.key.client;
    const auto take_client = [&] {
        const std::optional<Drop> refused = reservation.take_client(client);
        return refused ? reject(*refused) : admitted;
    };
    if (!reservation.take_tokens()) return reject(Drop::session_rate);
    // A client that waits had its token in an earlier turn.
    const auto is_held_back = [&] {
        return new_client.waits == 0 && is_above_source_rate(shard_, proxy, client, now_);
    };
    if (reservation.take_session()) {
        const AdmissionDecision taken = take_client();
        return taken.verdict == Verdict::admitted && is_held_back() ? reject(Drop::source_rate)
                                                                    : taken;
    }
    // Checked first, so that no session is evicted for a client that is at its own limit.
    if (shard_.setup.use->client_counts.meets_limit(
            proxy, client, shard_.proxies[proxy].setup.sessions_per_client_max))
        return reject(Drop::client_limit);
    // Another shard may take the capacity that an eviction freed; then the next candidate is
    // evicted.
    for (int tried = 0; tried < evictions_per_new_client_max && may_evict(proxy); ++tried) {
        const std::optional<std::uint32_t> gone = first_to_evict(proxy);
        const AdmissionDecision decision = gone ? admitted : ask_for_session(proxy);
        if (decision.verdict == Verdict::dropped) return decision;
        if (tried == 0 && is_held_back()) return reject(Drop::source_rate);
        if (!gone) return decision;
        evict(proxy, *gone);
        if (reservation.take_session()) return take_client();
    }
    return reject(Drop::session_limit);
}

/// Whether it is a limit that all shards count against together.
bool Admission::meets_session_limit(std::uint16_t proxy) const {
    const SharedUse& use = *shard_.setup.use;
    return use.sessions.read() >= shard_.setup.sessions_max ||
           use.proxies[proxy].sessions.read() >= shard_.proxies[proxy].setup.sessions_max;
}

/// This shard has no session to evict. Another one has, if any session of those that count here is
/// unassured and idle.
AdmissionDecision Admission::ask_for_session(std::uint16_t proxy) const {
    const SharedUse& use = *shard_.setup.use;
    const bool own_limit =
        use.proxies[proxy].sessions.read() >= shard_.proxies[proxy].setup.sessions_max;
    const std::uint32_t unassured =
        own_limit ? use.proxies[proxy].unassured.read() : use.unassured.read();
    if (shard_.setup.shards == 1 || unassured == 0 || !meets_session_limit(proxy))
        return reject(Drop::session_limit);
    return {Verdict::ask_other_shards, Drop::session_limit};
}

bool Admission::may_evict(std::uint16_t proxy) const {
    const Rate pace = eviction_rate(shard_, proxy);
    return pace.is_unlimited() || shard_.setup.use->proxies[proxy].evictions.has_token(now_, pace);
}

/// Evicts a session for a new client of `proxy`.
void Admission::evict(std::uint16_t proxy, std::uint32_t session, bool keep_group) {
    (void)shard_.setup.use->proxies[proxy].evictions.take(now_, eviction_rate(shard_, proxy));
    end_session(shard_, sockets_, session, SessionEnd::evicted, now_, keep_group);
}

/// The session to evict first: one of the proxy itself if it has a candidate, else the least
/// recently active one of all proxies.
std::optional<std::uint32_t> Admission::eviction_candidate(std::uint16_t proxy) {
    if (const auto own = shard_.table.eviction_candidate(proxy, now_, eviction_idle)) return own;
    std::optional<std::uint32_t> oldest;
    for (std::uint16_t other = 0; other < shard_.proxies.size(); ++other) {
        if (other == proxy) continue;
        const auto candidate = shard_.table.eviction_candidate(other, now_, eviction_idle);
        if (candidate && (!oldest || shard_.table[*candidate].last_active_at <
                                         shard_.table[*oldest].last_active_at))
            oldest = candidate;
    }
    return oldest;
}

std::optional<std::uint32_t> Admission::first_to_evict(std::uint16_t proxy) {
    // No session becomes idle within a turn, so a flood of new clients must not cause a flood of
    // scans.
    if (fruitless_scans_ >= fruitless_scans_max) return std::nullopt;
    const bool own_limit = shard_.setup.use->proxies[proxy].sessions.read() >=
                           shard_.proxies[proxy].setup.sessions_max;
    const std::optional<std::uint32_t> gone =
        own_limit ? shard_.table.eviction_candidate(proxy, now_, eviction_idle)
                  : eviction_candidate(proxy);
    if (!gone) ++fruitless_scans_;
    return gone;
}

/// Whether a port of this pool will be free in a moment: the one of a cooled down group, of any
/// source binding, which is closed for that, or of such a group that is being closed already. With
/// many source bindings a search is long, and every refused client would make one for each of its
/// sources: after one in vain the next is some time later.
bool Admission::free_port_in(std::uint32_t port_pool) {
    Instant& searched_at = shard_.pools_searched_at[port_pool];
    if (now_ - searched_at < port_pool_searched_every) return false;
    bool is_being_freed = false;
    for (BindingIndex binding = 0; binding < shard_.bindings.size(); ++binding) {
        if (shard_.bindings[binding].port_pool != port_pool) continue;
        if (const auto cooled_down = shard_.groups.cooled_down(binding, now_)) {
            close_group(shard_, sockets_, *cooled_down);
            return true;
        }
        is_being_freed = is_being_freed || shard_.groups.frees_port(binding);
    }
    if (!is_being_freed) searched_at = now_;
    return is_being_freed;
}

/// Every port of some source bindings of the proxy is in use or cools down. A cooled down group of
/// another binding with the same ports releases its port at once. Otherwise a session is evicted
/// that holds one of those ports: its group serves a later new client after its cooldown, or this
/// one if no cooldown is configured. At most as many groups cool down as are in use, so that a
/// flood of new clients evicts no session in vain.
AdmissionDecision Admission::evict_for_port(std::uint16_t proxy_index, Reservation& reservation) {
    const Proxy& proxy = shard_.proxies[proxy_index];
    const auto lacks_port = [&](BindingIndex index) {
        const SourceBinding& binding = shard_.bindings[index];
        return binding.error == 0 &&
               !shard_.ports[binding.port_pool].has_port(binding.port_range, now_);
    };
    for (BindingIndex index = proxy.first_binding; index < proxy.first_binding + proxy.bindings;
         ++index) {
        if (!lacks_port(index)) continue;
        if (free_port_in(shard_.bindings[index].port_pool)) return wait_for_port;
    }
    if (!may_evict(proxy_index)) return reject(Drop::ports_exhausted);
    const auto frees_port = [&](const Session& session) {
        const BindingIndex index = shard_.groups[session.group].binding;
        return index - proxy.first_binding < proxy.bindings && lacks_port(index) &&
               2 * shard_.groups.cooling(index) < shard_.groups.size(index);
    };
    const std::optional<std::uint32_t> gone =
        shard_.table.eviction_candidate(proxy_index, now_, eviction_idle, frees_port);
    if (!gone) return reject(Drop::ports_exhausted);
    const BindingIndex freed = shard_.groups[shard_.table[*gone].group].binding;
    evict(proxy_index, *gone);
    return reuse_group(freed, reservation) ? admitted : reject(Drop::ports_exhausted);
}

/// Descriptors are short: waits for those being closed if they suffice, else frees some.
AdmissionDecision Admission::evict_for_group(std::uint16_t proxy) {
    descriptors_wanted_ += members_lacking_;
    const std::uint32_t used = shard_.setup.use->descriptors.read();
    // Of the budget; or of the system, whose other users may hold any number of them.
    const bool closing_suffice = members_lacking_ > 0
                                     ? used - shard_.descriptors_closing + descriptors_wanted_ <=
                                           shard_.setup.descriptors_max
                                     : shard_.descriptors_closing > 0;
    return closing_suffice ? wait_for_descriptors : free_descriptors(proxy);
}

/// Closes the group that is needed least: the one that has cooled down longest (its port goes on
/// cooling), else the group of the first session to evict.
AdmissionDecision Admission::free_descriptors(std::uint16_t proxy) {
    if (const auto cooling = shard_.groups.oldest_cooling()) {
        close_group(shard_, sockets_, *cooling);
        return wait_for_descriptors;
    }
    const std::optional<std::uint32_t> gone =
        may_evict(proxy) ? eviction_candidate(proxy) : std::nullopt;
    if (!gone)
        return {shard_.setup.shards > 1 ? Verdict::ask_other_shards : Verdict::dropped,
                Drop::descriptor_limit};
    // Without a cooldown, the evicted session's group serves the new client as it is.
    const bool keep_group = shard_.proxies[proxy].setup.port_cooldown == Duration::zero() &&
                            shard_.table[*gone].proxy == proxy;
    evict(proxy, *gone, keep_group);
    return wait_for_descriptors;
}

void Admission::evict_for(std::uint32_t other_shard) {
    EvictionRequests& requests = shard_.setup.use->eviction_requests;
    for (EvictionRequest request = requests.of(other_shard);
         request.count > 0 && request.proxy < shard_.proxies.size() &&
         evicted_for_others_ < admissions_per_turn;
         request = requests.of(other_shard)) {
        std::optional<std::uint32_t> cooling;
        std::optional<std::uint32_t> gone;
        if (request.descriptors)
            cooling = shard_.groups.oldest_cooling();
        else if (!meets_session_limit(request.proxy))
            return;  // it has what it needs by now
        if (!cooling && may_evict(request.proxy))
            gone = request.descriptors ? eviction_candidate(request.proxy)
                                       : first_to_evict(request.proxy);
        if (!cooling && !gone) return;
        if (!requests.take(other_shard, request)) continue;
        ++evicted_for_others_;
        if (cooling)
            close_group(shard_, sockets_, *cooling);
        else
            evict(request.proxy, *gone, !request.descriptors);
    }
}

void evict_for_other_shards(Shard& shard, Sockets& sockets, Instant now) {
    const EvictionRequests& requests = shard.setup.use->eviction_requests;
    if (!requests.are_any()) return;
    Admission admission(shard, sockets, now);
    for (std::uint32_t i = 1; i < shard.setup.shards; ++i)
        admission.evict_for((shard.setup.shard + i) % shard.setup.shards);
}

}  // namespace udpproxy
