// Ownership checks every received datagram, at the service (a port of the proxy belongs to the
// client that was seen on it first) and at the clients (an address belongs to the client that lives
// there). Counts into the tally.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tally.hpp"

namespace udpproxy::traffic {

class Ownership {
public:
    static constexpr std::uint32_t nobody = 0xffffffff;

    // Order is watched for clients below `clients`; with `ports_are_owned` each source port of the
    // proxy must stay with one client.
    Ownership(Tally& tally, std::uint32_t clients, bool ports_are_owned);

    // `train`: datagrams of segment_bytes each, the last may be shorter, all from one source.
    // `owner`: the only client whose datagrams may come here, or nobody for "the first one seen on
    // that port".
    void check(std::span<const std::byte> train, std::size_t segment_bytes, std::uint32_t owner,
               std::uint16_t port);

private:
    void check_one(std::span<const std::byte> payload, std::uint32_t owner, std::uint16_t port);

    Tally& tally_;
    std::vector<std::uint32_t> next_sequence_;
    std::vector<std::uint32_t> owner_of_port_;  // empty: ports are nobody's
};

}  // namespace udpproxy::traffic
