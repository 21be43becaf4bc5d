// Sender: sends with sendmmsg(2) and send(2). It makes the second attempt after a pending socket
// error, and sends singly what the kernel refuses as a train. The epoll engine sends everything
// with it. The io_uring engine sends with it whatever is not a slot's only send, and whatever
// failed at the first attempt. How departures become sends is in departure_chains.hpp.
#pragma once

#include <array>
#include <memory>
#include <utility>

#include "departure_chains.hpp"
#include "outgoing.hpp"
#include "segment_limits.hpp"
#include "slot_table.hpp"
#include "udpproxy/io/backend.hpp"

namespace udpproxy {

inline constexpr std::size_t sends_per_call = 64;

/// Marks a few of many indices; a look-up costs one comparison while no index is marked.
class IndexMarks {
public:
    explicit IndexMarks(std::size_t indices)
        : marks_(std::make_unique<bool[]>(indices)), marked_(indices) {}

    void insert(std::uint32_t index) {
        if (!std::exchange(marks_[index], true)) marked_.push(index);
    }
    [[nodiscard]] bool contains(std::size_t index) const noexcept {
        return !marked_.empty() && marks_[index];
    }
    void clear() noexcept {
        for (const std::uint32_t index : marked_) marks_[index] = false;
        marked_.clear();
    }

private:
    std::unique_ptr<bool[]> marks_;
    Batch<std::uint32_t> marked_;
};

class Sender {
public:
    /// At most `departures_max` departures in a batch.
    Sender(SlotTable& slots, EngineCounters& counters, std::size_t departures_max);

    /// Begins a batch: chains it and forgets the faults of the batch before. `now` is the time of
    /// the turn.
    void begin(std::span<const Departure> departures, Instant now);
    [[nodiscard]] std::span<const Slot> slots() const noexcept { return chains_.slots(); }
    [[nodiscard]] ChainWalk take(Slot slot) noexcept { return chains_.take(slot); }
    [[nodiscard]] Sending cut(Slot slot, ChainWalk& walk);

    /// Whether the send is a part of a departure: the departure's other parts must not leave before
    /// it.
    [[nodiscard]] bool is_part(const Sending& sending) const noexcept {
        return sending.departures == 1 && sending.bytes < departures_[sending.first].bytes;
    }
    /// Whether the departure, or the end of it, had no room: its buffer stays with the shard.
    [[nodiscard]] bool keeps(std::size_t departure) const noexcept {
        return without_space_.contains(departure);
    }

    /// Points `parts` at the payload of a send; returns the number of parts used, at most
    /// train_segments_max.
    std::size_t write_parts(const Sending& sending, iovec* parts) const noexcept;

    /// Sends `head`, which was cut off the chain before, and then the rest of the chain.
    void send_chain(Slot slot, std::span<const Sending> head, ChainWalk& walk);
    /// Settles a send whose first attempt, made by the engine itself, failed with `error`: sends
    /// again what may be sent again, and notes as faults what cannot leave.
    void settle(Slot slot, const Sending& sending, int error);

    [[nodiscard]] std::span<const Fault> faults() const noexcept {
        return {faults_.begin(), faults_.size()};
    }

private:
    [[nodiscard]] bool take_next(Slot slot, std::span<const Sending>& head, ChainWalk& walk,
                                 Sending& sending);
    // These three return the error of a send that the kernel had no room for, or 0. Later sends on
    // the slot must not overtake that send.
    [[nodiscard]] int send_messages(Slot slot, std::size_t count);
    [[nodiscard]] int give_up(Slot slot, const Sending& sending, int error);
    [[nodiscard]] int send_singly(Slot slot, const Sending& sending, int refusal);
    [[nodiscard]] int send_many(Slot slot, std::size_t at, std::size_t count);
    [[nodiscard]] int send_last(Slot slot, std::size_t at);
    [[nodiscard]] int send_segment(Slot slot, std::uint32_t departure, std::uint32_t offset,
                                   std::uint32_t bytes);
    void keep(Slot slot, const Sending& sending, int error);
    void keep_from(Slot slot, std::uint32_t departure, std::uint32_t offset, int error);
    [[nodiscard]] int attempt(Slot slot, const Sending& sending);
    void remember(Slot slot, const Sending& sending, int error, bool singles_left);
    void note(const Fault& fault);
    void note_all(FaultKind kind, int error, Slot slot, const Sending& sending);

    SlotTable& table_;
    EngineCounters& counters_;
    std::span<const Departure> departures_;
    Instant now_{};
    DepartureChains chains_;
    SegmentLimits limits_;
    Batch<Fault> faults_;
    IndexMarks without_space_;

    std::array<mmsghdr, sends_per_call> messages_{};
    std::array<Outgoing, sends_per_call> outgoing_;
    std::array<Sending, sends_per_call> sendings_{};
    std::array<iovec, 4 * train_segments_max> parts_{};
};

}  // namespace udpproxy
