// A reply group as 256 bytes and back. What is read is hostile until its checksum and each of its
// fields have been looked at.
#include <algorithm>
#include <bit>
#include <chrono>

#include "ledger/layout.hpp"
#include "udpproxy/base/siphash.hpp"

namespace udpproxy {

namespace {

// Not secret: the checksum is against torn and stray writes. Whoever can write a record with
// intent can compute it as well, so each field is looked at nevertheless.
constexpr std::uint64_t checksum_key = 0x6c65'6467'6572'2e31;

std::uint64_t marked(std::uint64_t hash) noexcept { return hash | 1U; }

std::int64_t number_of(Instant instant) noexcept { return instant.time_since_epoch().count(); }
Instant instant_of(std::int64_t ns) noexcept { return Instant{std::chrono::nanoseconds{ns}}; }

RecordedEndpoint recorded(const Endpoint& endpoint) noexcept {
    return {endpoint.address.bytes, endpoint.scope, endpoint.port, 0};
}
Endpoint endpoint_of(const RecordedEndpoint& endpoint) noexcept {
    return {Address{endpoint.address}, endpoint.scope, endpoint.port};
}

bool is_possible(const SessionRecord& session) noexcept {
    const bool wrote_to_own_family =
        session.local.is_unspecified() || session.local.family() == session.client.family();
    return session.client.port != 0 && !session.client.address.is_unspecified() &&
           is_possible(session.client) && wrote_to_own_family && is_possible(session.admitted_at) &&
           is_possible(session.last_active_at);
}

bool is_flag(std::uint8_t value) noexcept { return value <= 1; }

// Of `has_session`.
constexpr std::uint8_t no_session = 0;
constexpr std::uint8_t session_of_client = 1;
constexpr std::uint8_t session_with_successor = 2;  // older programs do not believe the record

/// Whether what the record does not use is zero, so that each group has one form.
bool has_empty_rest(const RecordedGroup& record) noexcept {
    const bool no_more_descriptors =
        std::all_of(record.descriptors.begin() + record.members, record.descriptors.end(),
                    [](std::int32_t descriptor) { return descriptor == 0; });
    if (record.has_session != no_session) return no_more_descriptors;
    const auto is_zero = [](const RecordedEndpoint& endpoint) {
        return endpoint_of(endpoint) == Endpoint{};
    };
    return no_more_descriptors && record.listener == 0 && record.replied == 0 &&
           record.assured == 0 && record.interface_index == 0 && record.session_id == 0 &&
           is_zero(record.client) && Address{record.written_to} == Address{} &&
           record.admitted_at == 0 && record.last_active_at == 0 && record.request_datagrams == 0 &&
           record.request_bytes == 0 && record.reply_datagrams == 0 && record.reply_bytes == 0;
}

}  // namespace

std::uint64_t group_checksum(const RecordedGroup& record, std::uint32_t shard,
                             std::uint32_t group) noexcept {
    auto words = std::bit_cast<std::array<std::uint64_t, sizeof(RecordedGroup) / 8>>(record);
    words[0] = 0;
    return marked(siphash13(SipKey{checksum_key, std::uint64_t{shard} << 32 | group}, words));
}

bool is_possible(const GroupRecord& record) noexcept {
    // An open member is never the primary.
    const unsigned members_min = record.has_open_member ? 2 : 1;
    if (record.members < members_min || record.members > recorded_members_max) return false;
    const auto* end = record.descriptors.begin() + record.members;
    const bool are_descriptors = std::all_of(record.descriptors.begin(), end, [](int descriptor) {
        return descriptor >= 0 && descriptor <= descriptor_recorded_max;
    });
    return are_descriptors && record.local.port != 0 && is_possible(record.local) &&
           is_possible(record.cooling_since) && (!record.session || is_possible(*record.session));
}

RecordedGroup recorded(const GroupRecord& record, std::uint32_t shard,
                       std::uint32_t group) noexcept {
    RecordedGroup bytes{};
    bytes.binding = record.binding;
    bytes.upstream_version = record.upstream_version;
    bytes.proxy = record.proxy;
    bytes.members = record.members;
    bytes.has_open_member = record.has_open_member;
    bytes.local = recorded(record.local);
    bytes.cooling_since = number_of(record.cooling_since);
    std::copy_n(record.descriptors.begin(), record.members, bytes.descriptors.begin());
    if (record.session) {
        const SessionRecord& session = *record.session;
        bytes.has_session = session.has_successor ? session_with_successor : session_of_client;
        bytes.listener = session.listener;
        bytes.replied = session.replied;
        bytes.assured = session.assured;
        bytes.interface_index = session.interface_index;
        bytes.session_id = session.id;
        bytes.client = recorded(session.client);
        bytes.written_to = session.local.bytes;
        bytes.admitted_at = number_of(session.admitted_at);
        bytes.last_active_at = number_of(session.last_active_at);
        bytes.request_datagrams = session.request_datagrams;
        bytes.request_bytes = session.request_bytes;
        bytes.reply_datagrams = session.reply_datagrams;
        bytes.reply_bytes = session.reply_bytes;
    }
    bytes.checksum = group_checksum(bytes, shard, group);
    return bytes;
}

std::optional<GroupRecord> believed(const RecordedGroup& bytes, std::uint32_t shard,
                                    std::uint32_t group) noexcept {
    if (bytes.checksum != group_checksum(bytes, shard, group)) return std::nullopt;
    if (!is_flag(bytes.has_open_member) || bytes.has_session > session_with_successor ||
        !is_flag(bytes.replied) || !is_flag(bytes.assured))
        return std::nullopt;
    if (bytes.members > recorded_members_max || !has_empty_rest(bytes)) return std::nullopt;
    GroupRecord record;
    record.proxy = bytes.proxy;
    record.binding = bytes.binding;
    record.upstream_version = bytes.upstream_version;
    record.has_open_member = bytes.has_open_member == 1;
    record.local = endpoint_of(bytes.local);
    record.cooling_since = instant_of(bytes.cooling_since);
    record.members = bytes.members;
    std::copy_n(bytes.descriptors.begin(), bytes.members, record.descriptors.begin());
    if (bytes.has_session != no_session) {
        SessionRecord& session = record.session.emplace();
        session.id = bytes.session_id;
        session.listener = bytes.listener;
        session.client = endpoint_of(bytes.client);
        session.local = Address{bytes.written_to};
        session.interface_index = bytes.interface_index;
        session.replied = bytes.replied == 1;
        session.assured = bytes.assured == 1;
        session.has_successor = bytes.has_session == session_with_successor;
        session.admitted_at = instant_of(bytes.admitted_at);
        session.last_active_at = instant_of(bytes.last_active_at);
        session.request_datagrams = bytes.request_datagrams;
        session.request_bytes = bytes.request_bytes;
        session.reply_datagrams = bytes.reply_datagrams;
        session.reply_bytes = bytes.reply_bytes;
    }
    if (!is_possible(record)) return std::nullopt;
    return record;
}

std::uint64_t area_checksum(std::uint64_t sequence, std::uint64_t bytes,
                            std::span<const std::uint64_t> words) noexcept {
    return marked(siphash<1, 3>(SipKey{checksum_key ^ sequence, bytes}, words));
}

}  // namespace udpproxy
