// Making room: a place for a newcomer under every limit, and who goes first when there is none: resting groups before sessions, sessions that are not
// assured before nobody. An assured session never makes way.
#include <algorithm>

#include "admission.hpp"

namespace udpproxy {

namespace {

constexpr std::uint32_t fruitless_looks_max = 4;
constexpr int victims_per_newcomer_max = 4;

}  // namespace

/// A place under every limit that is counted: of the client, of the pace, of the room; all or none.
std::optional<Drop> Admission::take_place(std::uint16_t proxy, const Stranger& stranger) {
    SharedUse& use = *shard_.setup.use;
    const ProxySetup& setup = shard_.proxies[proxy].setup;
    if (!use.newcomers.take(now_, shard_.setup.newcomers)) return Drop::session_rate;
    std::optional<Drop> refused;
    if (!use.proxies[proxy].newcomers.take(now_, setup.newcomers)) {
        refused = Drop::session_rate;
    } else {
        refused = take_session(proxy, stranger);
        if (refused) use.proxies[proxy].newcomers.give_back(setup.newcomers);
    }
    if (refused) use.newcomers.give_back(shard_.setup.newcomers);
    return refused;
}

void Admission::give_place(std::uint16_t proxy, const Address& client) {
    SharedUse& use = *shard_.setup.use;
    use.census.give(proxy, client);
    use.sessions.give(1);
    use.proxies[proxy].sessions.give(1);
    use.proxies[proxy].newcomers.give_back(shard_.proxies[proxy].setup.newcomers);
    use.newcomers.give_back(shard_.setup.newcomers);
}

std::optional<Drop> Admission::take_session(std::uint16_t proxy, const Stranger& stranger) {
    SharedUse& use = *shard_.setup.use;
    const Address& client = stranger.key.client;
    const std::uint32_t client_max = shard_.proxies[proxy].setup.sessions_per_client_max;
    // Asked before somebody is ended for a client that may have no more.
    if (client_max != 0 && !use.census.take(proxy, client, client_max)) return Drop::client_limit;
    const std::optional<Drop> refused = take_room(proxy, stranger);
    if (refused && client_max != 0) use.census.give(proxy, client);
    if (!refused && client_max == 0) (void)use.census.take(proxy, client, 0);
    return refused;
}

std::optional<Drop> Admission::take_room(std::uint16_t proxy, const Stranger& stranger) {
    SharedUse& use = *shard_.setup.use;
    // Who waits has had his token in an earlier turn.
    const auto is_held_back = [&] { return stranger.waits == 0 && is_above_source_rate(shard_, proxy, stranger.key.client, now_); };
    if (!has_room(proxy)) {
        // Another shard may take the place that was made; then the next victim makes another.
        for (int tried = 0; tried < victims_per_newcomer_max && may_evict(proxy); ++tried) {
            const std::optional<std::uint32_t> gone = first_to_make_room(proxy);
            if (!gone) break;
            if (tried == 0 && is_held_back()) return Drop::source_rate;
            evict(proxy, *gone);
            if (has_room(proxy)) return std::nullopt;
        }
        return Drop::session_limit;
    }
    if (!is_held_back()) return std::nullopt;
    use.sessions.give(1);
    use.proxies[proxy].sessions.give(1);
    return Drop::source_rate;
}

/// How fast sessions may be ended for newcomers: each sends a port to its rest, and a flood must not send them all. Three quarters of the ports that
/// sessions leave free, in the time of a rest.
Rate Admission::eviction_rate(std::uint16_t index) const {
    const Proxy& proxy = shard_.proxies[index];
    if (proxy.setup.port_rest == Duration::zero()) return Rate{};
    std::uint64_t ports = 0;
    for (PoolLane lane = proxy.first_lane; lane < proxy.first_lane + proxy.lanes; ++lane)
        ports += shard_.ports[shard_.lanes[lane].port_pool].ports(shard_.lanes[lane].port_range);
    ports *= shard_.setup.shards;  // the others have as many
    const std::uint64_t sessions = proxy.setup.sessions_max;
    const std::uint64_t spare = ports > sessions ? ports - sessions : 0;
    const auto rest_ms = static_cast<std::uint64_t>(std::chrono::ceil<std::chrono::milliseconds>(proxy.setup.port_rest).count());
    const auto per_second = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(spare * 750 / rest_ms, 1, 1'000'000));
    return Rate{per_second, static_cast<std::uint32_t>(std::max<std::uint64_t>(per_second, spare / 8))};
}

bool Admission::may_evict(std::uint16_t proxy) const {
    const Rate pace = eviction_rate(proxy);
    return pace.is_unlimited() || shard_.setup.use->proxies[proxy].evictions.has_token(now_, pace);
}

/// Ends a session for a newcomer of `proxy`.
void Admission::evict(std::uint16_t proxy, std::uint32_t session, bool keep_group) {
    (void)shard_.setup.use->proxies[proxy].evictions.take(now_, eviction_rate(proxy));
    end_session(shard_, sockets_, session, SessionEnd::evicted, now_, keep_group);
}

/// Takes a place for one more session if there is one.
bool Admission::has_room(std::uint16_t proxy) {
    SharedUse& use = *shard_.setup.use;
    if (shard_.table.full() || !use.sessions.take(1, shard_.setup.sessions_max)) return false;
    if (use.proxies[proxy].sessions.take(1, shard_.proxies[proxy].setup.sessions_max)) return true;
    use.sessions.give(1);
    return false;
}

/// Who goes first when room is short: of the proxy itself if that has somebody to give, else the least recently active of all proxies.
std::optional<std::uint32_t> Admission::victim(std::uint16_t proxy) {
    if (const auto own = shard_.table.first_to_go(proxy, now_, eviction_idle)) return own;
    std::optional<std::uint32_t> oldest;
    for (std::uint16_t other = 0; other < shard_.proxies.size(); ++other) {
        if (other == proxy) continue;
        const auto candidate = shard_.table.first_to_go(other, now_, eviction_idle);
        if (candidate && (!oldest || shard_.table[*candidate].last_active_at < shard_.table[*oldest].last_active_at)) oldest = candidate;
    }
    return oldest;
}

std::optional<std::uint32_t> Admission::first_to_make_room(std::uint16_t proxy) {
    // Nobody becomes idle within a turn; a flood of newcomers is not answered with a flood of looks.
    if (fruitless_looks_ >= fruitless_looks_max) return std::nullopt;
    const bool own_limit = shard_.setup.use->proxies[proxy].sessions.read() >= shard_.proxies[proxy].setup.sessions_max;
    const std::optional<std::uint32_t> gone = own_limit ? shard_.table.first_to_go(proxy, now_, eviction_idle) : victim(proxy);
    if (!gone) ++fruitless_looks_;
    return gone;
}

/// Every port is in use or rests. A rested group of another lane gives its port at once; else a session ends, whose group serves a later newcomer
/// when it has rested, or this one without a rest. Not more of them rest than are lent: a storm of newcomers ends nobody in vain.
Judgement Admission::make_room_for_port(PoolLane lane_index, std::uint32_t& group) {
    const SourceLane& lane = shard_.lanes[lane_index];
    for (PoolLane other = 0; other < shard_.lanes.size(); ++other) {
        if (other == lane_index || shard_.lanes[other].port_pool != lane.port_pool) continue;
        if (const auto rested = shard_.groups.rested(other, now_)) {
            close_group(shard_, sockets_, *rested);
            return wait_for_port;
        }
    }
    if (evicted_for_port_ || 2 * shard_.groups.resting(lane_index) >= shard_.groups.size(lane_index)) return refuse(Drop::ports_exhausted);
    const std::optional<std::uint32_t> gone = shard_.table.first_to_go(lane.proxy, now_, eviction_idle);
    if (!gone) return refuse(Drop::ports_exhausted);
    evicted_for_port_ = true;
    end_session(shard_, sockets_, *gone, SessionEnd::evicted, now_);
    if (const auto lent = shard_.groups.lend(lane_index, no_index, now_)) {
        group = *lent;
        shard_.counters_of(lane.proxy).groups_lent.add(1);
    }
    return refuse(Drop::ports_exhausted);
}

/// The budget is met: wait for what is being closed if that will do, else free some.
Judgement Admission::make_room_for_group(std::uint16_t proxy, std::uint32_t members) {
    descriptors_wanted_ += members;
    const std::uint32_t used = shard_.setup.use->descriptors.read();
    if (used - shard_.descriptors_closing + descriptors_wanted_ <= shard_.setup.descriptors_max) return wait_for_room;
    return free_descriptors(proxy);
}

/// Closes what is needed least: the group that has rested longest (its port goes on resting), else the group of the session that may go first.
Judgement Admission::free_descriptors(std::uint16_t proxy) {
    if (const auto resting = shard_.groups.oldest_resting()) {
        close_group(shard_, sockets_, *resting);
        return wait_for_room;
    }
    const std::optional<std::uint32_t> gone = may_evict(proxy) ? victim(proxy) : std::nullopt;
    if (!gone) return refuse(Drop::descriptor_limit);
    // With no rest asked for, the victim's group serves the newcomer as it is.
    const bool lend_it = shard_.proxies[proxy].setup.port_rest == Duration::zero() && shard_.table[*gone].proxy == proxy;
    evict(proxy, *gone, lend_it);
    return wait_for_room;
}

}  // namespace udpproxy
