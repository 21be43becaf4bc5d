// When a reply group may be acquired, when it cools down, and when it is surplus.
#include "udpproxy/session/group_pool.hpp"

#include <algorithm>

namespace udpproxy {

GroupPool::GroupPool(std::uint32_t groups_max, std::vector<Duration> cooldowns,
                     std::size_t bindings_max)
    : groups_(groups_max), bindings_(cooldowns.size()) {
    bindings_.reserve(std::max(bindings_max, cooldowns.size()));
    for (std::size_t binding = 0; binding < cooldowns.size(); ++binding)
        bindings_[binding].cooldown = cooldowns[binding];
}

void GroupPool::use_binding(BindingIndex binding, Duration cooldown, const Upstream* upstream) {
    UDPPROXY_ASSERT(binding < bindings_.capacity());
    if (bindings_.size() <= binding) bindings_.resize(std::size_t{binding} + 1);
    UDPPROXY_ASSERT(bindings_[binding].groups == 0);
    bindings_[binding].cooldown = cooldown;
    bindings_[binding].upstream = upstream;
    bindings_[binding].kept = 0;
    next_surplus_.reset();
}

std::uint32_t GroupPool::add(BindingIndex binding, std::uint32_t session) {
    const std::optional<std::uint32_t> index = groups_.acquire();
    UDPPROXY_ASSERT(index.has_value());
    ReplyGroup& group = groups_[*index];
    group.binding = binding;
    group.generation = bindings_[binding].generation;
    group.upstream = bindings_[binding].upstream;
    group.session = session;
    group.cooling_since = Instant::max();
    ++bindings_[binding].groups;
    return *index;
}

std::uint32_t GroupPool::adopt(BindingIndex binding, const Upstream* upstream,
                               std::uint32_t session, Instant cooling_since, bool is_outdated) {
    const std::uint32_t index = add(binding, session);
    ReplyGroup& group = groups_[index];
    group.upstream = upstream;
    if (is_outdated) --group.generation;
    if (session == no_index) cooldown(index, cooling_since);
    return index;
}

std::optional<std::uint32_t> GroupPool::acquire(BindingIndex binding, std::uint32_t session,
                                                Instant now) {
    Binding& from = bindings_[binding];
    if (from.cooling.empty()) return std::nullopt;
    const std::uint32_t index = from.cooling.front();
    ReplyGroup& group = groups_[index];
    if (is_outdated(group) || now - group.cooling_since < from.cooldown) return std::nullopt;
    from.cooling.remove(index, links());
    --cooling_count_;
    next_surplus_.reset();
    group.state = GroupState::in_use;
    group.session = session;
    group.cooling_since = Instant::max();
    return index;
}

void GroupPool::cooldown(std::uint32_t index, Instant now) {
    ReplyGroup& group = groups_[index];
    UDPPROXY_ASSERT(group.state == GroupState::in_use);
    group.state = GroupState::cooling;
    group.session = no_index;
    group.cooling_since = now;
    bindings_[group.binding].cooling.push_back(index, links());
    ++cooling_count_;
    next_surplus_.reset();
}

void GroupPool::add_ready(std::uint32_t index, Instant now) {
    ReplyGroup& group = groups_[index];
    UDPPROXY_ASSERT(group.state == GroupState::in_use);
    group.state = GroupState::cooling;
    group.session = no_index;
    group.cooling_since = now - bindings_[group.binding].cooldown;
    bindings_[group.binding].cooling.push_front(index, links());
    ++cooling_count_;
    next_surplus_.reset();
}

void GroupPool::begin_close(std::uint32_t index, Instant now) {
    ReplyGroup& group = groups_[index];
    Binding& binding = bindings_[group.binding];
    UDPPROXY_ASSERT(group.state != GroupState::closing);
    if (group.state == GroupState::cooling) {
        binding.cooling.remove(index, links());
        --cooling_count_;
        next_surplus_.reset();
    }
    group.state = GroupState::closing;
    group.frees_port = now - std::min(group.cooling_since, now) >= binding.cooldown;
    if (group.frees_port) ++binding.freeing;
    group.session = no_index;
    group.members_open = static_cast<std::uint8_t>(group.members + group.members_leaving);
}

void GroupPool::forget(std::uint32_t index) {
    UDPPROXY_ASSERT(groups_[index].state == GroupState::closing &&
                    groups_[index].members_open == 0);
    Binding& binding = bindings_[groups_[index].binding];
    --binding.groups;
    if (groups_[index].frees_port) --binding.freeing;
    groups_.release(index);
}

std::optional<Instant> GroupPool::surplus_at(const Binding& binding, Duration surplus_after) const {
    if (binding.cooling.empty()) return std::nullopt;
    const ReplyGroup& group = groups_[binding.cooling.front()];
    if (is_outdated(group)) return group.cooling_since;
    if (binding.cooling.size() <= binding.kept) return std::nullopt;
    return group.cooling_since + binding.cooldown + surplus_after;
}

std::optional<std::uint32_t> GroupPool::surplus(Instant now, Duration surplus_after) const {
    const std::optional<Instant> next = next_surplus(surplus_after);
    if (!next || *next > now) return std::nullopt;
    for (const Binding& binding : bindings_) {
        if (const auto at = surplus_at(binding, surplus_after); at && *at <= now)
            return binding.cooling.front();
    }
    return std::nullopt;
}

std::optional<Instant> GroupPool::next_surplus(Duration surplus_after) const {
    if (next_surplus_ && next_surplus_->surplus_after == surplus_after) return next_surplus_->at;
    std::optional<Instant> next;
    for (const Binding& binding : bindings_) {
        if (const auto at = surplus_at(binding, surplus_after); at && (!next || *at < *next))
            next = at;
    }
    next_surplus_ = NextSurplus{surplus_after, next};
    return next;
}

std::optional<std::uint32_t> GroupPool::cooled_down(BindingIndex binding, Instant now) const {
    const Binding& from = bindings_[binding];
    if (from.cooling.empty() || now - groups_[from.cooling.front()].cooling_since < from.cooldown)
        return std::nullopt;
    return from.cooling.front();
}

std::optional<std::uint32_t> GroupPool::oldest_cooling() const {
    std::optional<std::uint32_t> oldest;
    for (const Binding& binding : bindings_) {
        if (binding.cooling.empty()) continue;
        const std::uint32_t index = binding.cooling.front();
        if (!oldest || groups_[index].cooling_since < groups_[*oldest].cooling_since)
            oldest = index;
    }
    return oldest;
}

}  // namespace udpproxy
