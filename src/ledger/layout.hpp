// The form of a ledger: where everything lies, in widths of its own, so that no change of the
// program's structs changes it. docs/ledger.md has the same as tables, and a test compares both. A
// ledger never leaves its boot, so numbers have the machine's byte order. A change that a reader of
// form 1 would take for something else needs another ledger_form.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>

#include "udpproxy/base/time.hpp"
#include "udpproxy/ledger/ledger.hpp"

namespace udpproxy {

inline constexpr std::array<char, 8> ledger_magic{'u', 'd', 'p', 'p', 'r', 'o', 'x', 'y'};
inline constexpr std::size_t ledger_page_bytes = 4096;
inline constexpr std::uint32_t shards_recorded_max = 1024;
inline constexpr std::uint32_t groups_recorded_max = 1U << 20;  // of a shard
inline constexpr std::uint32_t pools_recorded_max = 1U << 16;
inline constexpr std::uint32_t ports_of_pool = 1U << 16;
/// Descriptors above it are no descriptors: the kernel's limit (fs.nr_open) is lower by default,
/// and 2^30 at most (fs/file.c).
inline constexpr std::int32_t descriptor_recorded_max = 1 << 30;
/// 146 years of uptime: sums and differences of believed instants cannot overflow.
inline constexpr std::int64_t instant_recorded_max_ns = std::int64_t{1} << 62;
/// The unit of the table of ports that cool down: 2^26 ns, 67 ms. 32 bits last nine years.
inline constexpr unsigned rest_unit_shift = 26;

/// At the beginning of the file.
struct RecordedHeader {
    std::array<char, 8> magic;
    std::uint32_t form;
    std::uint32_t shards;
    std::uint32_t groups_per_shard;
    std::uint32_t pools;
    std::array<char, 36> boot;  // /proc/sys/kernel/random/boot_id
    std::uint32_t spare;
    std::uint64_t closed_at;  // ns + 1; 0: the worker did not end in order
};

/// The first word of a record. What is being written has a word that no checksum is: a checksum is
/// odd.
enum class Mark : std::uint64_t { free = 0, being_written = 2 };

struct RecordedEndpoint {
    std::array<std::uint8_t, 16> address;  // IPv4 as ::ffff:a.b.c.d
    std::uint32_t scope;
    std::uint16_t port;
    std::uint16_t spare;
};

/// One reply group. Bytes called spare are written as 0 and not looked at.
struct RecordedGroup {
    std::uint64_t checksum;  // of the rest and of its place; or a Mark
    std::uint32_t binding;
    std::uint32_t upstream_version;
    std::uint16_t proxy;
    std::uint16_t listener;
    std::uint8_t members;
    std::uint8_t has_open_member;
    std::uint8_t has_session;
    std::uint8_t replied;
    std::uint8_t assured;
    std::array<std::uint8_t, 3> spare;
    std::uint32_t interface_index;
    RecordedEndpoint local;
    std::int64_t cooling_since;
    std::array<std::int32_t, recorded_members_max> descriptors;
    std::uint64_t session_id;
    RecordedEndpoint client;
    std::array<std::uint8_t, 16> written_to;
    std::int64_t admitted_at;
    std::int64_t last_active_at;
    std::uint64_t request_datagrams;
    std::uint64_t request_bytes;
    std::uint64_t reply_datagrams;
    std::uint64_t reply_bytes;
    std::array<std::uint8_t, 24> spare_end;
};
static_assert(sizeof(RecordedGroup) == 256);
static_assert(std::has_unique_object_representations_v<RecordedGroup>, "no padding");
static_assert(std::has_unique_object_representations_v<RecordedHeader>, "no padding");

/// Before each of the two copies of the control record, on a page of its own.
struct RecordedArea {
    std::uint64_t checksum;  // of the bytes, their number and the sequence; or a Mark
    std::uint64_t sequence;  // the greater is the newer
    std::uint64_t bytes;
};

inline constexpr std::size_t area_bytes = ledger_page_bytes + Ledger::control_bytes_max;
inline constexpr std::size_t groups_offset = ledger_page_bytes + 2 * area_bytes;

/// A shard's groups begin on a page.
[[nodiscard]] constexpr std::size_t shard_bytes(const LedgerSize& size) noexcept {
    const std::size_t bytes = size.groups_per_shard * sizeof(RecordedGroup);
    return (bytes + ledger_page_bytes - 1) / ledger_page_bytes * ledger_page_bytes;
}
[[nodiscard]] constexpr std::size_t area_offset(unsigned area) noexcept {
    return ledger_page_bytes + area * area_bytes;
}
[[nodiscard]] constexpr std::size_t group_offset(const LedgerSize& size, std::uint32_t shard,
                                                 std::uint32_t group) noexcept {
    return groups_offset + shard * shard_bytes(size) + group * sizeof(RecordedGroup);
}
[[nodiscard]] constexpr std::size_t rest_offset(const LedgerSize& size, std::uint32_t pool,
                                                std::uint16_t port) noexcept {
    return groups_offset + size.shards * shard_bytes(size) +
           (std::size_t{pool} * ports_of_pool + port) * sizeof(std::uint32_t);
}
[[nodiscard]] constexpr std::size_t ledger_bytes(const LedgerSize& size) noexcept {
    return rest_offset(size, size.pools, 0);
}
[[nodiscard]] constexpr bool is_possible(const LedgerSize& size) noexcept {
    return size.shards >= 1 && size.shards <= shards_recorded_max && size.groups_per_shard >= 1 &&
           size.groups_per_shard <= groups_recorded_max && size.pools >= 1 &&
           size.pools <= pools_recorded_max;
}

/// With the place in it, a record that was copied elsewhere is not whole there.
[[nodiscard]] std::uint64_t group_checksum(const RecordedGroup& record, std::uint32_t shard,
                                           std::uint32_t group) noexcept;
/// The record with its checksum. What the record says behind its members, and without a session, is
/// not written.
[[nodiscard]] RecordedGroup recorded(const GroupRecord& record, std::uint32_t shard,
                                     std::uint32_t group) noexcept;
/// Absent: it is not whole, or no possible record.
[[nodiscard]] std::optional<GroupRecord> believed(const RecordedGroup& record, std::uint32_t shard,
                                                  std::uint32_t group) noexcept;
/// Whether these are numbers that a group can have. Whether what they stand for exists is another
/// question.
[[nodiscard]] bool is_possible(const GroupRecord& record) noexcept;
/// The checksum of a copy of the control record; the last word is filled up.
[[nodiscard]] std::uint64_t area_checksum(std::uint64_t sequence, std::uint64_t bytes,
                                          std::span<const std::uint64_t> words) noexcept;
/// Absent: the bytes are no possible record.
[[nodiscard]] std::optional<ControlRecord> decoded(std::span<const std::byte> bytes);

[[nodiscard]] inline bool is_possible(const Endpoint& endpoint) noexcept {
    return endpoint.scope == 0 || endpoint.address.is_link_local();
}
[[nodiscard]] constexpr bool is_possible(Instant instant) noexcept {
    const std::int64_t ns = instant.time_since_epoch().count();
    return ns >= 0 && ns <= instant_recorded_max_ns;
}

}  // namespace udpproxy
