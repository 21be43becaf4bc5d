// PortPool: the local ports towards upstreams of one source address in one shard. Ports are leased
// first in, first out, and none before its cooldown is over, because a late reply must not reach a
// new client. Ranges may overlap (two proxies with the same source). The pool cuts the port space
// at their ends, so that a port is in one queue only, whichever proxy leases it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "udpproxy/base/time.hpp"

namespace udpproxy {

struct PortRange {
    std::uint16_t first = 0;  // 1 to 65535
    std::uint16_t last = 0;   // >= first
    /// The ephemeral range: ports that this host reserves (net.ipv4.ip_local_reserved_ports) are
    /// left out. In a configured range they are used: reserving them is how other programs are kept
    /// off them.
    bool spares_reserved = false;

    [[nodiscard]] std::uint32_t ports() const noexcept { return std::uint32_t{last} - first + 1; }
    friend bool operator==(const PortRange&, const PortRange&) = default;
};

/// How many ports of a range sessions may take.
[[nodiscard]] std::uint32_t usable_ports(const PortRange& range,
                                         std::span<const PortRange> reserved) noexcept;

class PortPool {
public:
    /// This shard's share of `ranges`: every port p with p % shards == shard, so that no two shards
    /// ever want the same port. `start` rotates each queue by that many ports. A random `start`
    /// keeps a restarted program off the ports to which late replies for its predecessor still go.
    /// `reserved` is what ranges may have to spare.
    PortPool(std::span<const PortRange> ranges, std::uint32_t shard, std::uint32_t shards,
             std::uint64_t start = 0, std::span<const PortRange> reserved = {});

    /// Leases the port of ranges[range] that was released first, if its cooldown is over.
    [[nodiscard]] std::optional<std::uint16_t> lease(std::size_t range, Instant now);
    /// Whether lease() would find one.
    [[nodiscard]] bool has_port(std::size_t range, Instant now) const noexcept {
        const PortInterval* interval = next_to_lease(range);
        return interval != nullptr && interval->queue[interval->head].until <= now;
    }
    /// How many ports sessions may take in ranges[range], leased or not.
    [[nodiscard]] std::size_t ports(std::size_t range) const noexcept;
    /// Releases a port, which is not leased again before `until`. Requires: the port is leased.
    void release(std::uint16_t port, Instant until);
    /// Replaces `old`, with other ranges. Ports that cool down in `old` go on cooling here in the
    /// same order, leased ports stay leased, and ports that `old` did not have are free. Ports in
    /// no range of this pool are forgotten. `old` is spent. No allocation.
    // Requires: a fresh pool; every port leased in `old` lies in a range of this one.
    void take_over(PortPool& old);
    /// Goes on from a pool of an earlier process: ports for which `is_leased(port)` are leased, the
    /// others rest until the time that `rests_until(port)` gives.
    // Requires: a fresh pool.
    void restore(const std::function<bool(std::uint16_t)>& is_leased,
                 const std::function<Instant(std::uint16_t)>& rests_until);
    /// Whether the port is one of this shard's share.
    [[nodiscard]] bool has(std::uint16_t port) const noexcept;
    [[nodiscard]] std::uint32_t leased() const noexcept { return leased_; }

private:
    struct Cooling {
        std::uint16_t port = 0;
        Instant until{};
    };
    /// The ports between two neighbouring range ends, as a queue.
    struct PortInterval {
        std::uint16_t first = 0;
        std::uint16_t last = 0;
        bool is_reserved = false;
        std::vector<Cooling> queue;  // a ring: `head` and `count`
        std::size_t head = 0;
        std::size_t count = 0;
    };

    [[nodiscard]] static bool may_serve(const PortInterval& interval, const PortRange& range);
    [[nodiscard]] PortInterval* interval_of(std::uint16_t port);
    /// The interval whose first port was released first; null when every port is leased.
    [[nodiscard]] const PortInterval* next_to_lease(std::size_t range) const noexcept;
    /// Takes out the cooling port that may be leased first; nothing when no port cools down.
    [[nodiscard]] std::optional<Cooling> take_first();

    std::vector<PortRange> ranges_;
    std::vector<PortInterval> intervals_;
    std::uint32_t shard_;
    std::uint32_t shards_;
    std::uint32_t leased_ = 0;
};

}  // namespace udpproxy
