// EvictionRequests: new clients of one shard meet a limit that all shards count against together,
// and what could be evicted for them is another shard's. The shard asks here, wakes the others, and
// its new clients wait a moment.
#pragma once

#include <atomic>
#include <cstdint>

#include "udpproxy/base/assert.hpp"
#include "udpproxy/base/reserved.hpp"

namespace udpproxy {

/// What new clients of one shard lack.
struct EvictionRequest {
    std::uint16_t proxy = 0;   // theirs
    bool descriptors = false;  // a group's descriptors; else a session
    std::uint8_t count = 0;    // evictions; 0: nothing is asked for

    friend bool operator==(const EvictionRequest&, const EvictionRequest&) = default;
};

/// One request by shard, which that shard alone makes; any other shard may take evictions off it.
/// Relaxed: nothing is ordered by it, and whoever evicts looks at the limit first.
class EvictionRequests {
public:
    explicit EvictionRequests(std::size_t shards) : words_(shards) {}

    [[nodiscard]] std::size_t shards() const noexcept { return words_.size(); }
    /// Whether any shard asks for anything.
    [[nodiscard]] bool are_any() const noexcept {
        return standing_.load(std::memory_order_relaxed) != 0;
    }
    [[nodiscard]] EvictionRequest of(std::uint32_t shard) const noexcept {
        UDPPROXY_ASSERT(shard < words_.size());
        return from(words_[shard].value.load(std::memory_order_relaxed));
    }
    /// Called by the shard itself. Asks for `more`, besides what stands; of that at most
    /// `standing_max` stays, since new clients that are gone want nothing.
    void ask(std::uint32_t shard, EvictionRequest more, std::uint32_t standing_max) noexcept;
    /// Takes one eviction off a request that was read. False: it is another one by now.
    [[nodiscard]] bool take(std::uint32_t shard, EvictionRequest request) noexcept;

private:
    struct alignas(64) Word {
        std::atomic<std::uint32_t> value;
    };
    static std::uint32_t word(const EvictionRequest& request) noexcept {
        if (request.count == 0) return 0;
        return std::uint32_t{request.count} << 24U | std::uint32_t{request.descriptors} << 16U |
               request.proxy;
    }
    static EvictionRequest from(std::uint32_t word) noexcept {
        return {static_cast<std::uint16_t>(word), (word >> 16U & 1U) != 0,
                static_cast<std::uint8_t>(word >> 24U)};
    }
    [[nodiscard]] bool replace(std::uint32_t shard, std::uint32_t before,
                               std::uint32_t after) noexcept;

    Reserved<Word> words_;
    alignas(64) std::atomic<std::uint32_t> standing_{0};  // requests that are not 0
};

}  // namespace udpproxy
