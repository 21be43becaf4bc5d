// UnlistedSources: addresses that answered though no proxy lists them. A small fixed table per
// shard: the first reply of a source is reported at once, later ones are summed and reported at
// most once a minute.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "udpproxy/base/time.hpp"
#include "udpproxy/net/endpoint.hpp"

namespace udpproxy {

class UnlistedSources {
public:
    static constexpr Duration report_every = std::chrono::minutes{1};

    /// Notes `datagrams` of one source; returns how many to report now (0: none). When the table is
    /// full, it evicts the source seen longest ago.
    [[nodiscard]] std::uint64_t note(std::uint16_t proxy, const Endpoint& source,
                                     std::uint64_t datagrams, Instant now) noexcept {
        Entry* place = &entries_[0];
        for (Entry& entry : entries_) {
            if (entry.used && entry.proxy == proxy && entry.source == source) {
                entry.seen_at = now;
                entry.datagrams += datagrams;
                entry.unreported += datagrams;
                if (now - entry.reported_at < report_every) return 0;
                entry.reported_at = now;
                return std::exchange(entry.unreported, 0);
            }
            if (!entry.used || (place->used && entry.seen_at < place->seen_at)) place = &entry;
        }
        *place = Entry{true, proxy, source, now, now, datagrams, 0};
        return datagrams;
    }

    struct Entry {
        bool used = false;
        std::uint16_t proxy = 0;
        Endpoint source;
        Instant seen_at{};
        Instant reported_at{};
        std::uint64_t datagrams = 0;
        std::uint64_t unreported = 0;
    };
    static constexpr std::size_t sources_max = 64;
    [[nodiscard]] const std::array<Entry, sources_max>& entries() const noexcept {
        return entries_;
    }

private:
    std::array<Entry, sources_max> entries_{};
};

}  // namespace udpproxy
