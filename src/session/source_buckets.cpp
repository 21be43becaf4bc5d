// Which cells belong to a source.
#include "udpproxy/session/source_buckets.hpp"

#include "udpproxy/session/source_prefix.hpp"

namespace udpproxy {

SourceBuckets::SourceBuckets(SipKey key)
    : key_(key), rows_(std::make_unique<std::array<Row, 4>>()) {}

bool SourceBuckets::take(std::uint16_t proxy, const Address& source, Instant now, const Rate& host,
                         const Rate& site) noexcept {
    const Cells of_host = cells_of((*rows_)[0], (*rows_)[1], proxy, source, host_bits(source));
    const Cells of_site = cells_of((*rows_)[2], (*rows_)[3], proxy, source, site_bits(source));
    if (!of_host.has_token(now, host) || !of_site.has_token(now, site)) return false;
    of_host.take(now, host);
    of_site.take(now, site);
    return true;
}

SourceBuckets::Cells SourceBuckets::cells_of(Row& first, Row& second, std::uint16_t proxy,
                                             const Address& source, unsigned bits) const noexcept {
    const std::array<std::uint64_t, 2> prefix = leading_bits(source, bits);
    const std::uint64_t hash = siphash13(
        key_,
        std::array<std::uint64_t, 3>{prefix[0], prefix[1], std::uint64_t{bits} << 16 | proxy});
    return {&first[hash % cells_per_row], &second[(hash >> 32) % cells_per_row]};
}

}  // namespace udpproxy
