// Cutting ranges into stretches, and the queues of resting ports.
#include "udpproxy/session/port_pool.hpp"

#include <algorithm>

#include "udpproxy/base/assert.hpp"

namespace udpproxy {

PortPool::PortPool(std::span<const PortRange> ranges, std::uint32_t shard, std::uint32_t shards, std::uint64_t start)
    : ranges_(ranges.begin(), ranges.end()) {
    std::vector<std::uint32_t> cuts;
    for (const PortRange& range : ranges_) {
        cuts.push_back(range.first);
        cuts.push_back(std::uint32_t{range.last} + 1);
    }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
        Stretch stretch;
        stretch.first = static_cast<std::uint16_t>(cuts[i]);
        stretch.last = static_cast<std::uint16_t>(cuts[i + 1] - 1);
        const bool wanted = std::any_of(ranges_.begin(), ranges_.end(),
                                        [&](const PortRange& range) { return range.first <= stretch.first && stretch.last <= range.last; });
        if (!wanted) continue;
        for (std::uint32_t port = stretch.first; port <= stretch.last; ++port) {
            if (port % shards == shard) stretch.queue.push_back(Resting{static_cast<std::uint16_t>(port), Instant::min()});
        }
        stretch.count = stretch.queue.size();
        stretch.head = stretch.count == 0 ? 0 : start % stretch.count;
        stretches_.push_back(std::move(stretch));
    }
}

std::optional<std::uint16_t> PortPool::lease(std::size_t range, Instant now) {
    const PortRange& wanted = ranges_[range];
    Stretch* best = nullptr;
    for (Stretch& stretch : stretches_) {
        if (stretch.first < wanted.first || stretch.last > wanted.last || stretch.count == 0) continue;
        if (best == nullptr || stretch.queue[stretch.head].until < best->queue[best->head].until) best = &stretch;
    }
    if (best == nullptr || best->queue[best->head].until > now) return std::nullopt;
    const std::uint16_t port = best->queue[best->head].port;
    best->head = (best->head + 1) % best->queue.size();
    --best->count;
    ++leased_;
    return port;
}

std::size_t PortPool::ports(std::size_t range) const noexcept {
    const PortRange& wanted = ranges_[range];
    std::size_t count = 0;
    for (const Stretch& stretch : stretches_) {
        if (stretch.first >= wanted.first && stretch.last <= wanted.last) count += stretch.queue.size();
    }
    return count;
}

void PortPool::release(std::uint16_t port, Instant until) {
    Stretch* stretch = stretch_of(port);
    UDPPROXY_ASSERT(stretch != nullptr && stretch->count < stretch->queue.size());
    stretch->queue[(stretch->head + stretch->count) % stretch->queue.size()] = Resting{port, until};
    ++stretch->count;
    --leased_;
}

void PortPool::take_over(const PortPool& old) {
    const auto was_there = [&](std::uint16_t port) {
        return std::any_of(old.ranges_.begin(), old.ranges_.end(),
                           [&](const PortRange& range) { return range.first <= port && port <= range.last; });
    };
    for (Stretch& stretch : stretches_) {
        // Everything is free in a fresh pool. The cuts contain those of `old`, so a stretch lies in one range of it as a whole, or in none.
        if (!was_there(stretch.first)) continue;
        leased_ += static_cast<std::uint32_t>(stretch.count);
        stretch.count = stretch.head = 0;
    }
    for (const Stretch& from : old.stretches_) {
        for (std::size_t i = 0; i < from.count; ++i) {
            const Resting& resting = from.queue[(from.head + i) % from.queue.size()];
            release(resting.port, resting.until);
        }
    }
}

PortPool::Stretch* PortPool::stretch_of(std::uint16_t port) {
    const auto stretch = std::find_if(stretches_.begin(), stretches_.end(),
                                      [&](const Stretch& candidate) { return candidate.first <= port && port <= candidate.last; });
    return stretch == stretches_.end() ? nullptr : &*stretch;
}

}  // namespace udpproxy
