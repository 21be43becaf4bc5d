// How ranges are cut into port intervals, and in which order ports are leased.
#include "udpproxy/session/port_pool.hpp"

#include <algorithm>

#include "udpproxy/base/assert.hpp"

namespace udpproxy {

std::uint32_t usable_ports(const PortRange& range, std::span<const PortRange> reserved) noexcept {
    std::uint32_t count = range.ports();
    if (!range.spares_reserved) return count;
    for (const PortRange& spared : reserved) {
        const PortRange common{std::max(range.first, spared.first),
                               std::min(range.last, spared.last)};
        if (common.first <= common.last) count -= common.ports();
    }
    return count;
}

PortPool::PortPool(std::span<const PortRange> ranges, std::uint32_t shard, std::uint32_t shards,
                   std::uint64_t start, std::span<const PortRange> reserved)
    : ranges_(ranges.begin(), ranges.end()), shard_(shard), shards_(shards) {
    std::vector<std::uint32_t> cuts;
    for (const PortRange& range : ranges_) {
        cuts.push_back(range.first);
        cuts.push_back(std::uint32_t{range.last} + 1);
    }
    for (const PortRange& range : reserved) {
        cuts.push_back(range.first);
        cuts.push_back(std::uint32_t{range.last} + 1);
    }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
        PortInterval interval;
        interval.first = static_cast<std::uint16_t>(cuts[i]);
        interval.last = static_cast<std::uint16_t>(cuts[i + 1] - 1);
        const auto is_in = [&](std::span<const PortRange> some) {
            return std::any_of(some.begin(), some.end(), [&](const PortRange& range) {
                return range.first <= interval.first && interval.last <= range.last;
            });
        };
        if (!is_in(ranges_)) continue;
        interval.is_reserved = is_in(reserved);
        for (std::uint32_t port = interval.first; port <= interval.last; ++port) {
            if (port % shards == shard)
                interval.queue.push_back(Cooling{static_cast<std::uint16_t>(port), Instant::min()});
        }
        interval.count = interval.queue.size();
        interval.head = interval.count == 0 ? 0 : start % interval.count;
        intervals_.push_back(std::move(interval));
    }
}

const PortPool::PortInterval* PortPool::next_to_lease(std::size_t range) const noexcept {
    const PortRange& wanted = ranges_[range];
    const PortInterval* best = nullptr;
    for (const PortInterval& interval : intervals_) {
        if (!may_serve(interval, wanted) || interval.count == 0) continue;
        if (best == nullptr || interval.queue[interval.head].until < best->queue[best->head].until)
            best = &interval;
    }
    return best;
}

std::optional<std::uint16_t> PortPool::lease(std::size_t range, Instant now) {
    if (!has_port(range, now)) return std::nullopt;
    PortInterval* best =
        &intervals_[static_cast<std::size_t>(next_to_lease(range) - intervals_.data())];
    const std::uint16_t port = best->queue[best->head].port;
    best->head = (best->head + 1) % best->queue.size();
    --best->count;
    ++leased_;
    return port;
}

std::size_t PortPool::ports(std::size_t range) const noexcept {
    const PortRange& wanted = ranges_[range];
    std::size_t count = 0;
    for (const PortInterval& interval : intervals_) {
        if (may_serve(interval, wanted)) count += interval.queue.size();
    }
    return count;
}

bool PortPool::may_serve(const PortInterval& interval, const PortRange& range) {
    return range.first <= interval.first && interval.last <= range.last &&
           !(interval.is_reserved && range.spares_reserved);
}

void PortPool::release(std::uint16_t port, Instant until) {
    PortInterval* interval = interval_of(port);
    UDPPROXY_ASSERT(interval != nullptr && interval->count < interval->queue.size());
    interval->queue[(interval->head + interval->count) % interval->queue.size()] =
        Cooling{port, until};
    ++interval->count;
    --leased_;
}

bool PortPool::has(std::uint16_t port) const noexcept {
    return port % shards_ == shard_ &&
           std::any_of(intervals_.begin(), intervals_.end(), [&](const PortInterval& interval) {
               return interval.first <= port && port <= interval.last;
           });
}

void PortPool::restore(const std::function<bool(std::uint16_t)>& is_leased,
                       const std::function<Instant(std::uint16_t)>& rests_until) {
    for (PortInterval& interval : intervals_) {
        std::vector<Cooling> free;
        free.reserve(interval.queue.size());
        for (std::size_t i = 0; i < interval.count; ++i) {
            const std::uint16_t port =
                interval.queue[(interval.head + i) % interval.queue.size()].port;
            if (!is_leased(port)) free.push_back({port, rests_until(port)});
        }
        std::stable_sort(free.begin(), free.end(), [](const Cooling& one, const Cooling& other) {
            return one.until < other.until;
        });
        std::copy(free.begin(), free.end(), interval.queue.begin());
        leased_ += static_cast<std::uint32_t>(interval.count - free.size());
        interval.head = 0;
        interval.count = free.size();
    }
}

void PortPool::take_over(PortPool& old) {
    const auto was_there = [&](std::uint16_t port) {
        return std::any_of(old.ranges_.begin(), old.ranges_.end(), [&](const PortRange& range) {
            return range.first <= port && port <= range.last;
        });
    };
    for (PortInterval& interval : intervals_) {
        // In a fresh pool every port is free.
        std::size_t kept = 0;
        for (std::size_t i = 0; i < interval.count; ++i) {
            const Cooling cooling = interval.queue[(interval.head + i) % interval.queue.size()];
            if (!was_there(cooling.port))
                interval.queue[(interval.head + kept++) % interval.queue.size()] = cooling;
        }
        leased_ += static_cast<std::uint32_t>(interval.count - kept);
        interval.count = kept;
    }
    // Several intervals of `old` may be one interval here, where a range has been removed.
    while (const std::optional<Cooling> cooling = old.take_first())
        if (interval_of(cooling->port) != nullptr) release(cooling->port, cooling->until);
}

std::optional<PortPool::Cooling> PortPool::take_first() {
    PortInterval* first = nullptr;
    for (PortInterval& interval : intervals_) {
        if (interval.count > 0 && (first == nullptr || interval.queue[interval.head].until <
                                                           first->queue[first->head].until))
            first = &interval;
    }
    if (first == nullptr) return std::nullopt;
    const Cooling cooling = first->queue[first->head];
    first->head = (first->head + 1) % first->queue.size();
    --first->count;
    return cooling;
}

PortPool::PortInterval* PortPool::interval_of(std::uint16_t port) {
    const auto interval =
        std::find_if(intervals_.begin(), intervals_.end(), [&](const PortInterval& candidate) {
            return candidate.first <= port && port <= candidate.last;
        });
    return interval == intervals_.end() ? nullptr : &*interval;
}

}  // namespace udpproxy
