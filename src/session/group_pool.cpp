// Lending and resting of reply groups.
#include "udpproxy/session/group_pool.hpp"

#include <algorithm>
#include <span>

namespace udpproxy {

GroupPool::GroupPool(std::uint32_t groups_max, std::vector<Duration> rests, std::size_t lanes_max)
    : groups_(groups_max), lanes_(std::max(lanes_max, rests.size())), lanes_used_(rests.size()) {
    for (std::size_t lane = 0; lane < rests.size(); ++lane) lanes_[lane].rest = rests[lane];
}

void GroupPool::use_lane(PoolLane lane, Duration rest, const Upstream* upstream) {
    UDPPROXY_ASSERT(lane < lanes_.size() && lanes_[lane].groups == 0);
    lanes_[lane].rest = rest;
    lanes_[lane].upstream = upstream;
    lanes_[lane].kept = 0;
    lanes_used_ = std::max(lanes_used_, std::size_t{lane} + 1);
}

std::uint32_t GroupPool::add(PoolLane lane, std::uint32_t session) {
    const std::optional<std::uint32_t> place = groups_.acquire();
    UDPPROXY_ASSERT(place.has_value());
    ReplyGroup& group = groups_[*place];
    group.lane = lane;
    group.generation = lanes_[lane].generation;
    group.upstream = lanes_[lane].upstream;
    group.session = session;
    group.rests_since = Instant::max();
    ++lanes_[lane].groups;
    return *place;
}

std::optional<std::uint32_t> GroupPool::lend(PoolLane lane, std::uint32_t session, Instant now) {
    Lane& from = lanes_[lane];
    if (from.resting.empty()) return std::nullopt;
    const std::uint32_t index = from.resting.front();
    ReplyGroup& group = groups_[index];
    if (is_outdated(group) || now - group.rests_since < from.rest) return std::nullopt;
    from.resting.remove(index, links());
    --resting_count_;
    group.state = GroupState::lent;
    group.session = session;
    group.rests_since = Instant::max();
    return index;
}

void GroupPool::rest(std::uint32_t index, Instant now) {
    ReplyGroup& group = groups_[index];
    UDPPROXY_ASSERT(group.state == GroupState::lent);
    group.state = GroupState::resting;
    group.session = no_index;
    group.rests_since = now;
    lanes_[group.lane].resting.push_back(index, links());
    ++resting_count_;
}

void GroupPool::rest_ready(std::uint32_t index, Instant now) {
    ReplyGroup& group = groups_[index];
    UDPPROXY_ASSERT(group.state == GroupState::lent);
    group.state = GroupState::resting;
    group.session = no_index;
    group.rests_since = now - lanes_[group.lane].rest;
    lanes_[group.lane].resting.push_front(index, links());
    ++resting_count_;
}

void GroupPool::begin_close(std::uint32_t index) {
    ReplyGroup& group = groups_[index];
    UDPPROXY_ASSERT(group.state != GroupState::closing);
    if (group.state == GroupState::resting) {
        lanes_[group.lane].resting.remove(index, links());
        --resting_count_;
    }
    group.state = GroupState::closing;
    group.session = no_index;
    group.members_open = static_cast<std::uint8_t>(group.members + group.members_leaving);
}

void GroupPool::forget(std::uint32_t index) {
    UDPPROXY_ASSERT(groups_[index].state == GroupState::closing && groups_[index].members_open == 0);
    --lanes_[groups_[index].lane].groups;
    groups_.release(index);
}

std::optional<Instant> GroupPool::surplus_at(const Lane& lane, Duration surplus_after) const {
    if (lane.resting.empty()) return std::nullopt;
    const ReplyGroup& group = groups_[lane.resting.front()];
    if (is_outdated(group)) return group.rests_since;
    if (lane.resting.size() <= lane.kept) return std::nullopt;
    return group.rests_since + lane.rest + surplus_after;
}

std::optional<std::uint32_t> GroupPool::surplus(Instant now, Duration surplus_after) const {
    for (const Lane& lane : std::span{lanes_}.first(lanes_used_)) {
        if (const auto at = surplus_at(lane, surplus_after); at && *at <= now) return lane.resting.front();
    }
    return std::nullopt;
}

std::optional<Instant> GroupPool::next_surplus(Duration surplus_after) const {
    std::optional<Instant> next;
    for (const Lane& lane : std::span{lanes_}.first(lanes_used_)) {
        if (const auto at = surplus_at(lane, surplus_after); at && (!next || *at < *next)) next = at;
    }
    return next;
}

std::optional<std::uint32_t> GroupPool::rested(PoolLane lane, Instant now) const {
    const Lane& from = lanes_[lane];
    if (from.resting.empty() || now - groups_[from.resting.front()].rests_since < from.rest) return std::nullopt;
    return from.resting.front();
}

std::optional<std::uint32_t> GroupPool::oldest_resting() const {
    std::optional<std::uint32_t> oldest;
    for (const Lane& lane : std::span{lanes_}.first(lanes_used_)) {
        if (lane.resting.empty()) continue;
        const std::uint32_t index = lane.resting.front();
        if (!oldest || groups_[index].rests_since < groups_[*oldest].rests_since) oldest = index;
    }
    return oldest;
}

}  // namespace udpproxy
