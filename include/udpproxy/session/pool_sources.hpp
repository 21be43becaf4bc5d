// PoolSources: the source address of each port pool, and the pools of an address. A new client is
// looked up here, and with thousands of sources a walk over all of them made a turn of new clients
// long. Nothing is allocated after the start.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "udpproxy/base/assert.hpp"
#include "udpproxy/net/endpoint.hpp"

namespace udpproxy {

class PoolSources {
public:
    explicit PoolSources(std::size_t pools_max) {
        sources_.reserve(pools_max);
        by_address_.reserve(pools_max);
    }

    /// The address of a pool, or of the pool after the last; unspecified: not known.
    // Requires: pool <= number of pools < pools_max.
    void set(std::uint32_t pool, const Address& source) {
        UDPPROXY_ASSERT(pool <= sources_.size());
        if (pool == sources_.size()) {
            UDPPROXY_ASSERT(sources_.size() < sources_.capacity());
            sources_.push_back(source);
        } else {
            if (sources_[pool] == source) return;
            by_address_.erase(std::find(by_address_.begin(), by_address_.end(), pool));
            sources_[pool] = source;
        }
        by_address_.insert(place_of(source), pool);
    }

    /// The pools whose ports are bound at this address. There is one, unless routing has come to
    /// choose the address of another pool.
    [[nodiscard]] std::span<const std::uint32_t> pools_at(const Address& source) const {
        const auto first = place_of(source);
        auto last = first;
        while (last != by_address_.end() && sources_[*last] == source) ++last;
        return {first, last};
    }

private:
    [[nodiscard]] std::vector<std::uint32_t>::const_iterator place_of(const Address& source) const {
        return std::partition_point(by_address_.begin(), by_address_.end(),
                                    [&](auto pool) { return sources_[pool] < source; });
    }

    std::vector<Address> sources_;           // by pool
    std::vector<std::uint32_t> by_address_;  // pools, sorted by their address
};

}  // namespace udpproxy
