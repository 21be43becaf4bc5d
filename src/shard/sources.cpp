// Source addresses: where the groups of a source binding are bound, and what follows when that
// address changes, goes or comes back.
//
// A socket stays bound to its address for life. While the address is away its sends fail, and when
// it is back the same socket works, so a session outlives a flap. Only when routing has settled on
// another address is the session ended; the client's next datagram then begins a new one from the
// new address. Two events make the shard look: a send that fails, and a change of routes or
// addresses, which the control thread reports once it has settled. A session whose source is
// configured has no other source, and stays.
#include <algorithm>
#include <cerrno>

#include "steps.hpp"

namespace udpproxy {

namespace {

constexpr Duration look_again_after = std::chrono::seconds{1};

/// The look-up itself got no socket or no port (its connect takes one), so the previous answer
/// still holds.
bool says_nothing_of_the_source(int error) {
    return error == EAGAIN || error == EADDRINUSE || error == EMFILE || error == ENFILE ||
           error == ENOBUFS || error == ENOMEM;
}

/// A send fails like this when its source address has gone (net/ipv4/route.c,
/// ip_route_output_key_hash_rcu; net/ipv6/ip6_output.c).
bool may_mean_a_lost_source(int error) {
    return error == ENETUNREACH || error == EADDRNOTAVAIL || error == EINVAL ||
           error == EHOSTUNREACH;
}

}  // namespace

bool look_up_source(Shard& shard, BindingIndex index, Instant now) {
    SourceBinding& binding = shard.bindings[index];
    if (binding.checked && now - binding.checked_at < source_check_every) return false;
    binding.checked = true;
    binding.checked_at = now;
    const SourceAnswer answer = shard.source_towards(
        shard.proxies[binding.proxy].setup.upstream->endpoint(), binding.wanted);
    if (binding.error == 0 && binding.looked_up && says_nothing_of_the_source(answer.error))
        return true;
    binding.looked_up = true;
    binding.error = answer.error;
    if (answer.error == 0 && answer.source == binding.source) return true;
    shard.groups.outdate(index);
    if (answer.error != 0) return true;
    binding.source = answer.source;
    shard.pool_sources.set(binding.port_pool, answer.source.address);
    return true;
}

void note_lost_source(Shard& shard, const Departure& departure, int error) {
    if (departure.leg != Leg::request || !may_mean_a_lost_source(error) ||
        shard.suspect_groups.full())
        return;
    const std::uint32_t group = shard.group_of_slot[departure.slot];
    if (group != no_index) shard.suspect_groups.push(group);
}

void leave_lost_sources(Shard& shard, Sockets& sockets, Instant now) {
    for (const std::uint32_t index : shard.suspect_groups) {
        if (!shard.groups.is_live(index) || shard.groups[index].state != GroupState::in_use)
            continue;
        const ReplyGroup& group = shard.groups[index];
        (void)look_up_source(shard, group.binding, now);
        const SourceBinding& binding = shard.bindings[group.binding];
        if (binding.error == 0 && binding.source.address != group.local.address)
            end_session(shard, sockets, group.session, SessionEnd::source_changed, now);
    }
    shard.suspect_groups.clear();
}

void begin_source_pass(Shard& shard, Instant now) {
    // New clients are admitted by look-ups from now on; the pass visits the existing sessions.
    for (SourceBinding& binding : shard.bindings) binding.checked = false;
    for (HeldUpstream& held : shard.upstreams) held.looked_up = false;
    shard.sources_at = now;
    // The pass goes on where the last one was: changes faster than passes keep no group waiting.
    shard.sources_left = shard.groups.high_water();
    shard.source_unknown = false;
}

namespace {

/// Visits as many groups as one turn may; true when the last group was among them. What counts for
/// a session is the route to the version of the upstream that it uses.
bool pass_over_sources(Shard& shard, Sockets& sockets, Instant now) {
    std::uint32_t lookups_left = source_lookups_per_turn;
    for (std::uint32_t visited = 0; visited < reconciled_per_turn; ++visited) {
        if (shard.sources_left == 0) return true;
        if (shard.sources_next >= shard.groups.high_water()) shard.sources_next = 0;
        const std::uint32_t index = shard.sources_next++;
        --shard.sources_left;
        if (!shard.groups.is_live(index)) continue;
        const ReplyGroup& group = shard.groups[index];
        const Address& wanted = shard.bindings[group.binding].wanted;
        if (group.state != GroupState::in_use || !wanted.is_unspecified()) continue;
        HeldUpstream& held = held_upstream(shard, group.upstream);
        if (!held.looked_up) {
            if (lookups_left-- == 0) {
                --shard.sources_next;
                ++shard.sources_left;
                return false;
            }
            held.looked_up = true;
            held.routed = shard.source_towards(group.upstream->endpoint(), wanted);
            if (says_nothing_of_the_source(held.routed.error)) shard.source_unknown = true;
        }
        const Endpoint& source = held.routed.source;
        if (held.routed.error == 0 &&
            (source.address != group.local.address || source.scope != group.local.scope))
            end_session(shard, sockets, group.session, SessionEnd::source_changed, now);
    }
    return false;
}

}  // namespace

void leave_replaced_sources(Shard& shard, Sockets& sockets, Instant now) {
    if (!shard.sources_at || *shard.sources_at > now || !pass_over_sources(shard, sockets, now))
        return;
    if (shard.source_unknown)
        begin_source_pass(shard, now + look_again_after);
    else
        shard.sources_at.reset();
}

bool is_own_port(const Shard& shard, const Endpoint& source) {
    const std::span<const std::uint32_t> pools = shard.pool_sources.pools_at(source.address);
    return std::any_of(pools.begin(), pools.end(), [&](std::uint32_t pool) {
        return shard.setup.use->own_ports[pool].contains(source.port);
    });
}

}  // namespace udpproxy
