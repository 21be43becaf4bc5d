// Ledger: what another process needs to go on with this one's sockets, in memory that outlives the
// process (memfd_create(2)). A shard writes the records of its reply groups on the cold path: when
// a session begins, is assured or ends, when a member joins or leaves. The control thread writes
// one record of everything it decides. Nothing is written per datagram.
//
// The next worker reads the ledger as hostile bytes: each record has a checksum, and one that is
// torn, foreign or impossible is not believed. It then writes a ledger of its own, so that a ledger
// has one writing program and never changes its form.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "udpproxy/base/result.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/ledger/records.hpp"

namespace udpproxy {

/// The form that this program writes.
inline constexpr std::uint32_t ledger_form = 1;
/// Whether this program reads a ledger of that form.
[[nodiscard]] bool reads_ledger_form(std::uint32_t form) noexcept;

struct LedgerSize {
    std::uint32_t shards = 0;            // 1 to 1024
    std::uint32_t groups_per_shard = 0;  // 1 to 2^20
    std::uint32_t pools = 0;             // port pools, 1 to 65536

    friend bool operator==(const LedgerSize&, const LedgerSize&) = default;
};

class Ledger {
public:
    /// An empty ledger, to be written. Its size is sealed. Memory is only used where something is
    /// written. Errors name the call: `memfd_create: …`, `ftruncate: …`, `mmap: …`.
    [[nodiscard]] static Result<Ledger> create(const LedgerSize& size);
    /// Maps the ledger behind `descriptor`, which stays the caller's, to be read: what is written
    /// later may not be seen. Errors: why it is no ledger of this boot that this program reads, as
    /// a sentence.
    [[nodiscard]] static Result<Ledger> open(int descriptor);

    Ledger(Ledger&&) noexcept;
    Ledger& operator=(Ledger&&) noexcept;
    ~Ledger();

    /// Of a ledger that was made here: its descriptor, with FD_CLOEXEC, open as long as this
    /// object. -1: the ledger was opened.
    [[nodiscard]] int descriptor() const noexcept;
    [[nodiscard]] const LedgerSize& size() const noexcept;

    // Written by a shard's thread, in its own records. The process allocates nothing; where the
    // kernel has no memory for the file (vm.overcommit_memory = 2), nothing is written.
    // Requires: made by create(), shard < shards, group < groups_per_shard, and a possible record:
    // ports, families, instants from 0 to 2^62 ns, 1 to 18 members (2 with an open one),
    // descriptors from 0 to 2^30.
    /// False: there is no memory for it, and it is free as before.
    bool write(std::uint32_t shard, std::uint32_t group, const GroupRecord& record) noexcept;
    void erase(std::uint32_t shard, std::uint32_t group) noexcept;
    /// The port must not be leased before `until`. One aligned word: it is never torn. Rounded up
    /// to 67 ms.
    // Requires: pool < pools; only the shard that the port belongs to calls this.
    void rest(std::uint32_t pool, std::uint16_t port, Instant until) noexcept;

    // Written by the control thread. Requires: made by create().
    /// The record's bytes. May throw std::bad_alloc.
    [[nodiscard]] static std::vector<std::byte> encode(const ControlRecord& record);
    /// Puts the bytes beside the last ones and makes them the valid ones; a reader sees the old
    /// record or the new one. False: they do not fit (control_bytes_max), or there is no memory.
    [[nodiscard]] bool put(std::span<const std::byte> control) noexcept;
    static constexpr std::size_t control_bytes_max = std::size_t{16} << 20;
    /// Tallies and times of all sessions are as of now: the orderly end of a worker.
    void close_in_order(Instant now) noexcept;

    // Read by the next worker. Requires: made by open(), shard < shards, group < groups_per_shard.
    // A whole record can be: its numbers are in their ranges. Whether its descriptors are open, its
    // own alone, and of the right kind is for the reader to find out.
    enum class Found : std::uint8_t { free, whole, torn };
    [[nodiscard]] Found read(std::uint32_t shard, std::uint32_t group, GroupRecord& record) const;
    /// Records at or above this one were never written.
    [[nodiscard]] std::uint32_t high_water(std::uint32_t shard) const noexcept;
    /// Instant::min(): the port never rested.
    [[nodiscard]] Instant rests_until(std::uint32_t pool, std::uint16_t port) const noexcept;
    /// False: no port of the pool ever rested.
    [[nodiscard]] bool has_rests(std::uint32_t pool) const noexcept;
    /// Absent: none was ever put, or neither copy is whole.
    [[nodiscard]] std::optional<ControlRecord> control() const;
    /// When the worker ended in order; absent: it died.
    [[nodiscard]] std::optional<Instant> closed_in_order() const noexcept;

private:
    struct State;
    explicit Ledger(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace udpproxy
