// DepartureChains: the departures of a batch, chained by slot in their order. Each chain is cut
// into sends: long trains are split, neighbours coalesce. Both engines use it. What fits together
// is decided in net/train.hpp; the system calls are made in sender.cpp and uring_send.cpp.
#pragma once

#include <memory>
#include <span>
#include <utility>

#include "udpproxy/base/batch.hpp"
#include "udpproxy/base/reserved.hpp"
#include "udpproxy/io/traffic.hpp"

namespace udpproxy {

inline constexpr std::uint32_t no_departure = 0xffffffffU;

/// What one pass of the kernel sends to one place: a part of departure `first`, or `departures`
/// whole departures, chained.
struct Sending {
    std::uint32_t first = no_departure;
    std::uint32_t departures = 1;
    std::uint32_t offset = 0;  // of the part; 0 for whole departures
    std::uint32_t bytes = 0;   // of all departures together
    std::uint32_t segment_bytes = 0;

    [[nodiscard]] bool is_train() const noexcept {
        return segment_bytes != 0 && bytes > segment_bytes;
    }
    [[nodiscard]] std::uint32_t datagrams() const noexcept {
        return segments_of(bytes, segment_bytes);
    }
};

/// How far the cutting of a chain has come.
struct ChainWalk {
    std::uint32_t at = no_departure;
    std::uint32_t offset = 0;

    [[nodiscard]] bool is_over() const noexcept { return at == no_departure; }
};

class DepartureChains {
public:
    DepartureChains(std::size_t departures_max, std::uint32_t slots_max)
        : chains_(slots_max),
          slots_(departures_max),
          next_(std::make_unique_for_overwrite<std::uint32_t[]>(departures_max)) {}

    /// Chains a new batch. Requires: departures.size() <= departures_max.
    void chain(std::span<const Departure> departures);

    /// The slots with departures, in the order of each slot's first departure.
    [[nodiscard]] std::span<const Slot> slots() const noexcept {
        return {slots_.begin(), slots_.size()};
    }
    /// Takes a slot's chain, which is then walked once.
    [[nodiscard]] ChainWalk take(Slot slot) noexcept {
        const Chain chain = std::exchange(chains_[index_of(slot)], Chain{});
        return ChainWalk{chain.end == 0 ? no_departure : chain.first, 0};
    }

    [[nodiscard]] std::uint32_t next(std::uint32_t departure) const noexcept {
        return next_[departure];
    }

    /// Cuts the next send off the chain. `limits_towards` says what a departure's path takes
    /// (TrainLimits); it is asked only when departures could coalesce or must be split. Requires:
    /// !walk.is_over().
    template <class LimitsTowards>
    [[nodiscard]] Sending cut(std::span<const Departure> departures, ChainWalk& walk,
                              LimitsTowards&& limits_towards) const {
        const Departure& first = departures[walk.at];
        const std::uint32_t following = next_[walk.at];
        Sending sending{walk.at, 1, walk.offset, first.bytes - walk.offset, first.segment_bytes};
        const bool has_neighbour =
            following != no_departure && leave_together(first, departures[following]);
        if (!has_neighbour && !sending.is_train()) {
            sending.segment_bytes = 0;
            walk = ChainWalk{following, 0};
            return sending;
        }
        const TrainLimits limits = limits_towards(first);
        const std::uint32_t part = split(sending.bytes, first.segment_bytes, limits);
        if (walk.offset > 0 || part < sending.bytes) {
            // A part of a long train leaves alone: the neighbouring parts are as full as this one.
            walk.offset += part;
            sending.bytes = part;
            if (walk.offset == first.bytes) walk = ChainWalk{following, 0};
            if (!sending.is_train()) sending.segment_bytes = 0;
            return sending;
        }
        Coalescing coalescing(sending.bytes, first.segment_bytes, limits);
        walk = ChainWalk{following, 0};
        while (coalescing.is_open() && walk.at != no_departure &&
               leave_together(first, departures[walk.at]) &&
               coalescing.take(departures[walk.at].bytes, departures[walk.at].segment_bytes)) {
            ++sending.departures;
            walk.at = next_[walk.at];
        }
        sending.bytes = coalescing.bytes();
        sending.segment_bytes = coalescing.segment_bytes();
        return sending;
    }

private:
    struct Chain {
        std::uint32_t first = 0;
        std::uint32_t end = 0;  // behind the last departure; 0: no departure
    };

    /// Whether two departures on one slot go to one place, from one place, in one class of service.
    /// Coalescing checks their lengths.
    [[nodiscard]] static bool leave_together(const Departure& one,
                                             const Departure& other) noexcept {
        return one.tos == other.tos && one.to.port == other.to.port &&
               one.interface_index == other.interface_index && one.to.address == other.to.address &&
               one.to.scope == other.to.scope && one.from == other.from;
    }

    Reserved<Chain> chains_;  // by slot
    Batch<Slot> slots_;
    std::unique_ptr<std::uint32_t[]> next_;  // by departure
};

}  // namespace udpproxy
