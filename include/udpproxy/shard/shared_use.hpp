// SharedUse: what all shards count against together: capacity, the rate of new clients, and which
// ports are the program's own. Written at admission and retirement only, both rare. Relaxed, since
// nothing is ordered by it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "udpproxy/base/reserved.hpp"
#include "udpproxy/session/client_counts.hpp"
#include "udpproxy/session/source_buckets.hpp"
#include "udpproxy/session/token_bucket.hpp"
#include "udpproxy/shard/eviction_requests.hpp"

namespace udpproxy {

struct SharedUse {
    /// The most that there may be while the program runs: proxies, port pools (no more than
    /// sources), sessions, listeners, source bindings, shards.
    SharedUse(std::size_t proxies_max, std::size_t pools_max, std::uint32_t sessions_max,
              SipKey key, std::size_t listeners_max = 64, std::size_t bindings_max = 64,
              std::size_t shards = 1)
        : client_counts(sessions_max, key),
          source_buckets(key),
          proxies(proxies_max),
          own_ports(pools_max),
          listener_sessions(listeners_max),
          proxies_held(proxies_max),
          listeners_held(listeners_max),
          bindings_held(bindings_max),
          eviction_requests(shards) {}

    struct alignas(64) Line {
        std::atomic<std::uint32_t> used{0};
        /// Takes `count` unless that would pass `limit`. Other threads never see a failed attempt.
        [[nodiscard]] bool acquire(std::uint32_t count, std::uint32_t limit) noexcept {
            std::uint32_t before = used.load(std::memory_order_relaxed);
            do {
                if (before + count > limit) return false;
            } while (
                !used.compare_exchange_weak(before, before + count, std::memory_order_relaxed));
            return true;
        }
        void add(std::uint32_t count) noexcept { used.fetch_add(count, std::memory_order_relaxed); }
        void release(std::uint32_t count) noexcept {
            used.fetch_sub(count, std::memory_order_relaxed);
        }
        [[nodiscard]] std::uint32_t read() const noexcept {
            return used.load(std::memory_order_relaxed);
        }
    };

    struct ProxyUse {
        Line sessions;
        Line unassured;  // the unassured ones among them
        TokenBucket new_sessions;
        TokenBucket evictions;  // sessions evicted for a new client
    };

    /// Local ports of reply groups at one source address, in use or cooling, in any shard.
    class PortSet {
    public:
        void insert(std::uint16_t port) noexcept {
            words_[port / 64].fetch_or(bit(port), std::memory_order_relaxed);
        }
        void erase(std::uint16_t port) noexcept {
            words_[port / 64].fetch_and(~bit(port), std::memory_order_relaxed);
        }
        [[nodiscard]] bool contains(std::uint16_t port) const noexcept {
            return (words_[port / 64].load(std::memory_order_relaxed) & bit(port)) != 0;
        }

    private:
        [[nodiscard]] static std::uint64_t bit(std::uint16_t port) noexcept {
            return std::uint64_t{1} << (port % 64);
        }
        std::array<std::atomic<std::uint64_t>, 1024> words_{};
    };

    /// How many shards use a slot. The control thread counts the shards in when it assigns the
    /// slot. Each shard counts itself out; at 0 the slot is free.
    using Holders = std::atomic<std::uint32_t>;

    Line descriptors;  // of reply groups
    Line sessions;
    Line unassured;
    TokenBucket new_sessions;
    ClientCounts client_counts;
    SourceBuckets source_buckets;
    Reserved<ProxyUse> proxies;
    Reserved<PortSet> own_ports;  // by port pool
    Reserved<Line> listener_sessions;
    Reserved<Holders> proxies_held;
    Reserved<Holders> listeners_held;
    Reserved<Holders> bindings_held;
    EvictionRequests eviction_requests;
};

}  // namespace udpproxy
