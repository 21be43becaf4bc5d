// ClientCounts: how many sessions each client has, by proxy. A client is an IPv4 address or an IPv6
// /64. All shards share one ClientCounts, since a client's ports are spread over them. It has as
// many entries as there may be sessions, fixed at start; a client beyond them is refused. It is
// used at admission and retirement only, and the lock is held for one look-up (some tens of
// nanoseconds). So no datagram of a known client ever waits for the lock.
#pragma once

#include <cstdint>
#include <mutex>

#include "udpproxy/base/flat_map.hpp"
#include "udpproxy/base/siphash.hpp"
#include "udpproxy/base/slab.hpp"
#include "udpproxy/net/endpoint.hpp"

namespace udpproxy {

class ClientCounts {
public:
    /// Capacity for `sessions_max` sessions, all of different clients.
    ClientCounts(std::uint32_t sessions_max, SipKey key);

    enum class Outcome : std::uint8_t { counted, limit_met, full };

    /// Counts one more session of the client, unless the client has `limit` already (0: no limit)
    /// or no entry is left.
    [[nodiscard]] Outcome acquire(std::uint16_t proxy, const Address& client, std::uint32_t limit);
    /// Whether the client has `limit` sessions already (0: no limit).
    [[nodiscard]] bool meets_limit(std::uint16_t proxy, const Address& client, std::uint32_t limit);
    /// Counts one session less. Requires: an acquire() that counted.
    void release(std::uint16_t proxy, const Address& client);
    /// The number of clients with a session.
    [[nodiscard]] std::uint32_t clients();

private:
    using Words = std::array<std::uint64_t, 3>;
    struct Entry {
        Words client{};
        std::uint32_t sessions = 0;
    };
    [[nodiscard]] static Words words_of(std::uint16_t proxy, const Address& client) noexcept;
    [[nodiscard]] std::optional<std::uint32_t> find(std::uint64_t hash, const Words& client) const;

    std::mutex mutex_;
    SipKey key_;
    Slab<Entry> entries_;
    FlatMap map_;
};

}  // namespace udpproxy
