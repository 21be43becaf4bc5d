// SourceBuckets: a token bucket for every possible source prefix, in fixed memory. Each prefix has
// a cell in each of two rows, chosen by a keyed hash (a count-min sketch of buckets). A source is
// limited only if both its cells are empty; sharing one cell with a flood does no harm. Without the
// key, an attacker cannot aim at the cells of another source. Shared by all shards, without locks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "udpproxy/base/siphash.hpp"
#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/session/token_bucket.hpp"

namespace udpproxy {

class SourceBuckets {
public:
    static constexpr std::size_t cells_per_row = 32768;  // 256 KiB a row, four rows

    explicit SourceBuckets(SipKey key);

    /// Takes a token for a new client of `proxy` from the bucket of its host (IPv4 address, IPv6
    /// /64) and that of its site (IPv4 /24, IPv6 /48), or from neither.
    [[nodiscard]] bool take(std::uint16_t proxy, const Address& source, Instant now,
                            const Rate& host, const Rate& site) noexcept;

private:
    using Row = std::array<TokenBucket, cells_per_row>;
    struct Cells {
        TokenBucket* first;
        TokenBucket* second;

        [[nodiscard]] bool has_token(Instant now, const Rate& rate) const noexcept {
            return first->has_token(now, rate) || second->has_token(now, rate);
        }
        void take(Instant now, const Rate& rate) const noexcept {
            (void)first->take(now, rate);
            (void)second->take(now, rate);
        }
    };
    [[nodiscard]] Cells cells_of(Row& first, Row& second, std::uint16_t proxy,
                                 const Address& source, unsigned bits) const noexcept;

    SipKey key_;
    std::unique_ptr<std::array<Row, 4>> rows_;  // two for hosts, two for sites
};

}  // namespace udpproxy
