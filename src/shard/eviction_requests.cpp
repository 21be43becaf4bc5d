// How a shard asks the others to evict, and how one of them takes that off its request. What is
// evicted then is in eviction.cpp.
#include "udpproxy/shard/eviction_requests.hpp"

#include <algorithm>
#include <limits>

namespace udpproxy {

bool EvictionRequests::replace(std::uint32_t shard, std::uint32_t before,
                               std::uint32_t after) noexcept {
    if (!words_[shard].value.compare_exchange_strong(before, after, std::memory_order_relaxed))
        return false;
    if (before == 0 && after != 0) standing_.fetch_add(1, std::memory_order_relaxed);
    if (before != 0 && after == 0) standing_.fetch_sub(1, std::memory_order_relaxed);
    return true;
}

void EvictionRequests::ask(std::uint32_t shard, EvictionRequest more,
                           std::uint32_t standing_max) noexcept {
    EvictionRequest standing;
    EvictionRequest wanted;
    do {
        standing = of(shard);
        wanted = more;
        wanted.count = static_cast<std::uint8_t>(std::min<std::uint32_t>(
            std::min<std::uint32_t>(standing.count, standing_max) + more.count,
            std::numeric_limits<std::uint8_t>::max()));
    } while (wanted != standing && !replace(shard, word(standing), word(wanted)));
}

bool EvictionRequests::take(std::uint32_t shard, EvictionRequest request) noexcept {
    UDPPROXY_ASSERT(request.count > 0);
    EvictionRequest left = request;
    --left.count;
    return replace(shard, word(request), word(left));
}

}  // namespace udpproxy
