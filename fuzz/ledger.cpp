// Any bytes as a ledger: in its header, in records with a wrong checksum and with a right one, in
// the control record, with any size and any seals. What is whole can be written as the same bytes.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "fuzz/input.hpp"
#include "ledger/layout.hpp"
#include "udpproxy/base/assert.hpp"
#include "udpproxy/base/descriptor.hpp"
#include "udpproxy/ledger/ledger.hpp"

namespace udpproxy::fuzz {

namespace {

/// What this boot's ledgers begin with.
const RecordedHeader& right_header() {
    static const RecordedHeader header = [] {
        const Result<Ledger> ledger = Ledger::create({1, 1, 1});
        UDPPROXY_ASSERT(ledger.has_value());
        RecordedHeader found{};
        UDPPROXY_ASSERT(::pread(ledger->descriptor(), &found, sizeof found, 0) == sizeof found);
        return found;
    }();
    return header;
}

template <class T>
void copy_into(T& value, Bytes bytes) {
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), std::min(bytes.size(), sizeof value));
}

/// Behind the end of a file that was cut, nothing is written.
void put_bytes(int file, std::size_t offset, const void* bytes, std::size_t count) {
    const ssize_t written = ::pwrite(file, bytes, count, static_cast<off_t>(offset));
    UDPPROXY_ASSERT(written >= 0 || errno == EPERM);
}
template <class T>
void put(int file, std::size_t offset, const T& value) {
    put_bytes(file, offset, &value, sizeof value);
}

/// A possible group, some bytes of which are others; mostly with a right checksum.
void put_group(Input& input, int file, const LedgerSize& size) {
    const std::uint32_t shard = input.below(size.shards);
    const std::uint32_t group = input.below(size.groups_per_shard);
    GroupRecord possible;
    possible.local.port = 1;
    possible.members = static_cast<std::uint8_t>(2 + input.below(recorded_members_max - 1));
    if (input.flag()) {
        SessionRecord& session = possible.session.emplace();
        session.client = Endpoint{Address::ipv4(1), 0, 1};
    }
    RecordedGroup bytes = recorded(possible, shard, group);
    auto raw = std::bit_cast<std::array<std::uint8_t, sizeof bytes>>(bytes);
    for (std::uint32_t left = input.below(16); left > 0; --left)
        raw[input.below(raw.size())] = input.number<std::uint8_t>();
    bytes = std::bit_cast<RecordedGroup>(raw);
    if (input.below(8) != 0) bytes.checksum = group_checksum(bytes, shard, group);
    put(file, group_offset(size, shard, group), bytes);
}

void put_area(Input& input, int file) {
    const unsigned index = input.below(2);
    RecordedArea area{0, input.number<std::uint8_t>(), 0};
    const std::string_view content = Input::text_of(input.take(input.number<std::uint16_t>()));
    area.bytes = content.size();
    std::vector<std::uint64_t> words((content.size() + 7) / 8);
    std::copy(content.begin(), content.end(), reinterpret_cast<char*>(words.data()));
    area.checksum = input.below(8) != 0 ? area_checksum(area.sequence, area.bytes, words)
                                        : input.number<std::uint64_t>();
    if (input.below(8) == 0) area.bytes = input.number<std::uint64_t>();
    put(file, area_offset(index), area);
    put_bytes(file, area_offset(index) + ledger_page_bytes, words.data(), content.size());
}

void put_anything(Input& input, int file, const LedgerSize& size) {
    const std::size_t offset = input.number<std::uint32_t>() % ledger_bytes(size);
    const Bytes bytes = input.take(input.below(64));
    put_bytes(file, offset, bytes.data(), bytes.size());
}

/// The record without the bytes that are not looked at.
RecordedGroup without_spares(RecordedGroup record) {
    record.checksum = 0;
    record.spare = {};
    record.spare_end = {};
    record.local.spare = record.client.spare = 0;
    return record;
}

void check_groups(const Ledger& ledger, int file) {
    const LedgerSize& size = ledger.size();
    for (std::uint32_t shard = 0; shard < size.shards; ++shard) {
        const std::uint32_t end = ledger.high_water(shard);
        UDPPROXY_ASSERT(end <= size.groups_per_shard);
        for (std::uint32_t group = 0; group < size.groups_per_shard; ++group) {
            RecordedGroup bytes{};
            UDPPROXY_ASSERT(::pread(file, &bytes, sizeof bytes,
                                    static_cast<off_t>(group_offset(size, shard, group))) ==
                            sizeof bytes);
            GroupRecord record;
            const Ledger::Found found = ledger.read(shard, group, record);
            UDPPROXY_ASSERT((found == Ledger::Found::free) == (bytes.checksum == 0));
            if (found != Ledger::Found::free) UDPPROXY_ASSERT(group < end);
            if (found != Ledger::Found::whole) continue;
            const RecordedGroup again = without_spares(recorded(record, shard, group));
            bytes = without_spares(bytes);
            UDPPROXY_ASSERT(std::memcmp(&again, &bytes, sizeof again) == 0);
        }
    }
}

void check(const Ledger& ledger, int file) {
    check_groups(ledger, file);
    if (const std::optional<ControlRecord> control = ledger.control())
        UDPPROXY_ASSERT(decoded(Ledger::encode(*control)) == control);
    if (const std::optional<Instant> end = ledger.closed_in_order())
        UDPPROXY_ASSERT(is_possible(*end));
    for (std::uint32_t port = 0; port < ports_of_pool; port += 1021) {
        const Instant until = ledger.rests_until(0, static_cast<std::uint16_t>(port));
        UDPPROXY_ASSERT(until == Instant::min() || (ledger.has_rests(0) && is_possible(until)));
    }
}

}  // namespace

void ledger(Bytes bytes) {
    Input input(bytes);
    const auto odd = input.number<std::uint8_t>();  // what is odd about the file
    RecordedHeader header = right_header();
    header.shards = 1 + input.below(3);
    header.groups_per_shard = 1 + input.below(64);
    header.pools = 1 + input.below(2);
    const LedgerSize size{header.shards, header.groups_per_shard, header.pools};
    if ((odd & 1U) != 0) copy_into(header, input.take(sizeof header));
    if ((odd & 2U) != 0) header.closed_at = input.number<std::uint64_t>();
    std::size_t file_bytes = ledger_bytes(size);
    if ((odd & 4U) != 0) file_bytes = input.number<std::uint32_t>();
    const int seals_wanted = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    const int seals = (odd & 8U) != 0 ? static_cast<int>(input.below(8)) : seals_wanted;

    const Descriptor file{::memfd_create("ledger", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    UDPPROXY_ASSERT(bool{file});
    UDPPROXY_ASSERT(::ftruncate(file.descriptor(), static_cast<off_t>(file_bytes)) == 0);
    UDPPROXY_ASSERT(::fcntl(file.descriptor(), F_ADD_SEALS, F_SEAL_GROW) == 0);
    put(file.descriptor(), 0, header);
    while (!input.is_over()) {
        switch (input.below(4)) {
            case 0:
                put_group(input, file.descriptor(), size);
                break;
            case 1:
                put_area(input, file.descriptor());
                break;
            case 2:
                put(file.descriptor(), rest_offset(size, 0, input.number<std::uint16_t>()),
                    input.number<std::uint32_t>());
                break;
            default:
                put_anything(input, file.descriptor(), size);
        }
    }
    UDPPROXY_ASSERT(::fcntl(file.descriptor(), F_ADD_SEALS, seals) == 0);
    const Result<Ledger> opened = Ledger::open(file.descriptor());
    if (opened) {
        UDPPROXY_ASSERT(((seals | F_SEAL_GROW) & seals_wanted) == seals_wanted);
        UDPPROXY_ASSERT(file_bytes == ledger_bytes(opened->size()));
        check(*opened, file.descriptor());
    } else {
        UDPPROXY_ASSERT(!opened.error().message.empty() && is_one_line(opened.error().message));
    }
}

}  // namespace udpproxy::fuzz
