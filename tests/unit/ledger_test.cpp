// The ledger: what is written is read, by whoever opens its file; what a writer's death, a stray
// write or a hostile one has left is not believed.
#include "udpproxy/ledger/ledger.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>

#include "broken_law.hpp"
#include "ledger/layout.hpp"
#include "udpproxy/base/descriptor.hpp"

namespace udpproxy {
namespace {

using namespace std::chrono_literals;
using Found = Ledger::Found;
using Bytes = std::vector<std::byte>;

constexpr LedgerSize small{2, 40, 2};

Ledger made(const LedgerSize& size = small) { return Ledger::create(size).value(); }
Ledger opened(int descriptor) {
    Result<Ledger> ledger = Ledger::open(descriptor);
    REQUIRE_MESSAGE(ledger.has_value(), ledger.error().message);
    return std::move(*ledger);
}

Endpoint endpoint(const char* text) { return parse_endpoint(text).value(); }
Address address(const char* text) { return parse_address(text).value(); }
Instant at(Duration since_boot) { return Instant{since_boot}; }

GroupRecord cooling_group() {
    GroupRecord group;
    group.proxy = 3;
    group.binding = 70'000;
    group.upstream_version = 9;
    group.local = endpoint("192.0.2.1:40000");
    group.cooling_since = at(100s);
    group.members = 2;
    group.descriptors = {17, 18};
    return group;
}
GroupRecord group_with_session() {
    GroupRecord group = cooling_group();
    group.has_open_member = true;
    SessionRecord& session = group.session.emplace();
    session.id = 0x1234'5678'9abc;
    session.listener = 2;
    session.client = endpoint("198.51.100.7:5353");
    session.local = address("203.0.113.1");
    session.interface_index = 4;
    session.replied = true;
    session.admitted_at = at(90s);
    session.last_active_at = at(99s);
    session.request_datagrams = 1;
    session.request_bytes = 2;
    session.reply_datagrams = 3;
    session.reply_bytes = 4;
    return group;
}
GroupRecord largest_group() {
    const Instant last{std::chrono::nanoseconds{instant_recorded_max_ns}};
    GroupRecord group;
    group.proxy = UINT16_MAX;
    group.binding = UINT32_MAX;
    group.upstream_version = UINT32_MAX;
    group.has_open_member = true;
    group.local = {address("fe80::ffff:ffff:ffff:ffff"), UINT32_MAX, UINT16_MAX};
    group.cooling_since = last;
    group.members = recorded_members_max;
    for (std::size_t i = 0; i < recorded_members_max; ++i)
        group.descriptors[i] = descriptor_recorded_max - static_cast<int>(i);
    const Endpoint client{address("fe80::1"), UINT32_MAX, UINT16_MAX};
    group.session = SessionRecord{
        UINT64_MAX, UINT16_MAX, client, address("ff02::1"), UINT32_MAX, true,       true,
        true,       last,       last,   UINT64_MAX,         UINT64_MAX, UINT64_MAX, UINT64_MAX};
    return group;
}
GroupRecord smallest_group() {
    GroupRecord group;
    group.local.port = 1;
    group.members = 1;
    return group;
}

ControlRecord full_control() {
    ControlRecord control;
    control.program_version = "1.2.3";
    control.toml = "[[proxy]]\nname = \"d\xc3\xa9j\xc3\xa0\"\n";
    control.reloads = UINT64_MAX;
    control.drain_deadline = at(5s);
    ControlRecord::Proxy proxy{1, ControlRecord::State::retired, true, true, "x", 7, 6, 5, at(1s),
                               {}};
    proxy.alias_counters = {{Prefix{address("10.0.0.0"), 8}, 0, std::uint16_t{53}, 255},
                            {Prefix{address("fe80::1"), 128}, UINT32_MAX, std::nullopt, 0}};
    control.proxies = {proxy, {}};
    control.versions = {{1,
                         6,
                         endpoint("10.0.0.1:53"),
                         true,
                         {{Prefix{address("::"), 0}, 0, std::nullopt, 3},
                          {Prefix{address("10.1.2.3"), 32}, 7, std::uint16_t{1}, 4}}},
                        {2, 0, {}, false, {}}};
    control.listeners = {{4,
                          ControlRecord::State::closing,
                          endpoint("[::1]:53"),
                          1,
                          at(2s),
                          {0, 5, descriptor_recorded_max}},
                         {5, {}, endpoint("0.0.0.0:53"), 0, {}, {}}};
    control.bindings = {
        {9, 1, true, address("10.0.0.9"), address("10.0.0.8"), 2, 3, {1024, 65535, true}}, {}};
    control.pools = {{2, address("2001:db8::1"), {{1, 2, false}, {3, 3, true}}}, {}};
    return control;
}

/// What a reader that opens the file now finds.
Found found_in(int file, std::uint32_t shard, std::uint32_t group, GroupRecord& record) {
    return opened(file).read(shard, group, record);
}

/// The file's bytes from an offset.
Bytes bytes_at(int file, std::size_t offset, std::size_t count) {
    Bytes bytes(count);
    REQUIRE(::pread(file, bytes.data(), count, static_cast<off_t>(offset)) ==
            static_cast<ssize_t>(count));
    return bytes;
}
void put_bytes(int file, std::size_t offset, std::span<const std::byte> bytes) {
    REQUIRE(::pwrite(file, bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
            static_cast<ssize_t>(bytes.size()));
}

TEST_CASE("every kind of group is read as it was written") {
    Ledger ledger = made();
    const std::vector<GroupRecord> groups{cooling_group(), group_with_session(), largest_group(),
                                          smallest_group()};
    for (std::uint32_t i = 0; i < groups.size(); ++i) ledger.write(i % 2, i, groups[i]);
    const Ledger reader = opened(ledger.descriptor());
    CHECK(reader.size() == small);
    for (std::uint32_t i = 0; i < groups.size(); ++i) {
        GroupRecord record;
        CHECK(reader.read(i % 2, i, record) == Found::whole);
        CHECK(record == groups[i]);
        CHECK(reader.read(1 - i % 2, i, record) == Found::free);
    }
}

TEST_CASE("the last write of a group counts, and an erased group is free") {
    Ledger ledger = made();
    GroupRecord record;
    ledger.write(0, 0, largest_group());
    ledger.write(0, 0, smallest_group());
    CHECK(found_in(ledger.descriptor(), 0, 0, record) == Found::whole);
    CHECK(record == smallest_group());
    ledger.erase(0, 0);
    CHECK(found_in(ledger.descriptor(), 0, 0, record) == Found::free);
    ledger.write(0, 0, cooling_group());
    CHECK(found_in(ledger.descriptor(), 0, 0, record) == Found::whole);
    CHECK(record == cooling_group());
}

TEST_CASE("descriptors behind a group's members are not kept") {
    Ledger ledger = made();
    GroupRecord group = cooling_group();
    group.descriptors[2] = -1;
    ledger.write(0, 0, group);
    GroupRecord record;
    CHECK(found_in(ledger.descriptor(), 0, 0, record) == Found::whole);
    CHECK(record == cooling_group());
}

TEST_CASE("the control record is read as it was put, the last one of several") {
    Ledger ledger = made();
    CHECK_FALSE(opened(ledger.descriptor()).control().has_value());
    CHECK(ledger.put(Ledger::encode(full_control())));
    CHECK(opened(ledger.descriptor()).control() == full_control());
    ControlRecord other;
    for (std::uint64_t i = 0; i < 5; ++i) {
        other.reloads = i;
        CHECK(ledger.put(Ledger::encode(other)));
        CHECK(opened(ledger.descriptor()).control() == other);
    }
}

TEST_CASE("a port rests until a time that is rounded up to 67 ms") {
    Ledger ledger = made();
    const std::vector<Duration> times{0s, 1ns, 67'108'864ns, 67'108'865ns, 1h, 24h * 365 * 9};
    for (std::size_t i = 0; i < times.size(); ++i)
        ledger.rest(1, static_cast<std::uint16_t>(i), at(times[i]));
    ledger.rest(1, UINT16_MAX, Instant::max());
    const Ledger reader = opened(ledger.descriptor());
    for (std::size_t i = 0; i < times.size(); ++i) {
        const Instant until = reader.rests_until(1, static_cast<std::uint16_t>(i));
        CHECK(until >= at(times[i]));
        CHECK(until < at(times[i] + 68ms));
        CHECK(reader.rests_until(0, static_cast<std::uint16_t>(i)) == Instant::min());
    }
    CHECK(reader.rests_until(1, UINT16_MAX) > at(24h * 365 * 9));
    CHECK(reader.rests_until(1, UINT16_MAX - 1) == Instant::min());
}

TEST_CASE("only an orderly end is told as one") {
    Ledger ledger = made();
    CHECK_FALSE(opened(ledger.descriptor()).closed_in_order().has_value());
    for (const Instant end :
         {at(0s), at(1h), at(std::chrono::nanoseconds{instant_recorded_max_ns})}) {
        ledger.close_in_order(end);
        CHECK(opened(ledger.descriptor()).closed_in_order() == end);
    }
}

TEST_CASE("records at and above the high water mark were never written") {
    const LedgerSize size{3, 100, 1};
    Ledger ledger = made(size);
    ledger.write(1, 40, cooling_group());
    const Ledger reader = opened(ledger.descriptor());
    CHECK(reader.high_water(0) == 0);
    CHECK(reader.high_water(1) > 40);
    CHECK(reader.high_water(1) <= 48);  // records of one page
    CHECK(reader.high_water(2) == 0);
    ledger.write(1, 99, cooling_group());
    ledger.write(2, 0, cooling_group());
    const Ledger again = opened(ledger.descriptor());
    CHECK(again.high_water(0) == 0);
    CHECK(again.high_water(1) == 100);
    CHECK(again.high_water(2) == 16);
}

TEST_CASE("reading a ledger takes no memory, and nor does a ledger of the greatest size") {
    const LedgerSize size{shards_recorded_max, groups_recorded_max, pools_recorded_max};
    Ledger ledger = made(size);
    ledger.write(1023, groups_recorded_max - 1, cooling_group());
    ledger.rest(UINT16_MAX, UINT16_MAX, at(1s));
    const auto blocks_of = [](int file) {
        struct stat status {};
        REQUIRE(::fstat(file, &status) == 0);
        return status.st_blocks;
    };
    const auto blocks = blocks_of(ledger.descriptor());
    CHECK(blocks <= 3 * 8);  // a page has eight
    const Ledger reader = opened(ledger.descriptor());
    GroupRecord record;
    for (std::uint32_t group = 0; group < 1000; ++group)
        CHECK(reader.read(7, group, record) == Found::free);
    for (std::uint32_t port = 0; port < ports_of_pool; ++port)
        REQUIRE(reader.rests_until(8, static_cast<std::uint16_t>(port)) == Instant::min());
    CHECK_FALSE(reader.has_rests(8));
    CHECK_FALSE(reader.has_rests(UINT16_MAX - 1));
    CHECK(reader.has_rests(UINT16_MAX));
    CHECK(reader.read(1023, groups_recorded_max - 1, record) == Found::whole);
    CHECK(reader.rests_until(UINT16_MAX, UINT16_MAX) > at(1s));
    CHECK(blocks_of(ledger.descriptor()) == blocks);
}

/// What a reader may find while a record is being written: what was there, what will be there, or
/// that it is torn.
void check_torn_writes(const std::optional<GroupRecord>& before,
                       const std::optional<GroupRecord>& after) {
    Ledger ledger = made();
    const int file = ledger.descriptor();
    const std::size_t offset = group_offset(small, 1, 7);
    const auto bring_about = [&](const std::optional<GroupRecord>& record) {
        if (record)
            ledger.write(1, 7, *record);
        else
            ledger.erase(1, 7);
        return bytes_at(file, offset, sizeof(RecordedGroup));
    };
    bring_about(group_with_session());  // its rest is what an erased record leaves
    Bytes bytes = bring_about(before);
    const Bytes end = bring_about(after);
    int torn = 0;
    const auto check = [&] {
        put_bytes(file, offset, bytes);
        GroupRecord record;
        const Found found = found_in(file, 1, 7, record);
        if (found == Found::torn) ++torn;
        const auto is = [&](const std::optional<GroupRecord>& allowed) {
            return allowed ? found == Found::whole && record == *allowed : found == Found::free;
        };
        return found == Found::torn || is(before) || is(after);
    };
    const auto step = [&](std::size_t byte, std::byte value) {
        bytes[byte] = value;
        REQUIRE_MESSAGE(check(), "at byte ", byte);
    };
    // The order of the stores; that the compiler keeps it is seen in the contract tests.
    constexpr std::size_t head = sizeof(std::uint64_t);
    if (after) {
        const auto mark = std::bit_cast<std::array<std::byte, head>>(Mark::being_written);
        for (std::size_t i = 0; i < head; ++i) step(i, mark[i]);
        for (std::size_t i = head; i < bytes.size(); ++i) {
            step(i, end[i]);
            CHECK(torn > 0);
        }
    }
    for (std::size_t i = 0; i < head; ++i) step(i, end[i]);
    CHECK(bytes == end);
    CHECK((torn > 0) == (before.has_value() || after.has_value()));
}

TEST_CASE("a write that is torn at any byte is seen as what was, as what will be, or as torn") {
    GroupRecord assured = group_with_session();
    assured.session->assured = true;
    GroupRecord succeeded = assured;
    succeeded.session->has_successor = true;
    const std::vector<std::optional<GroupRecord>> records{
        std::nullopt, cooling_group(), group_with_session(), assured,
        succeeded,    largest_group(), smallest_group()};
    for (const auto& before : records)
        for (const auto& after : records) check_torn_writes(before, after);
}

TEST_CASE("a control record that is torn at any byte leaves the one before it") {
    ControlRecord first = full_control();
    ControlRecord second = first;
    second.toml = "other";
    ControlRecord third = first;
    third.toml += "longer than before";
    Ledger ledger = made();
    const int file = ledger.descriptor();
    REQUIRE(ledger.put(Ledger::encode(first)));
    REQUIRE(ledger.put(Ledger::encode(second)));
    const std::size_t offset = area_offset(1);  // of the first and of the third
    const std::size_t count = ledger_page_bytes + Ledger::encode(third).size();
    Bytes bytes = bytes_at(file, offset, count);
    REQUIRE(ledger.put(Ledger::encode(third)));
    const Bytes end = bytes_at(file, offset, count);
    const auto step = [&](std::size_t byte, std::byte value) {
        bytes[byte] = value;
        put_bytes(file, offset, bytes);
        return opened(file).control();
    };
    constexpr std::size_t head = sizeof(std::uint64_t);
    const auto mark = std::bit_cast<std::array<std::byte, head>>(Mark::being_written);
    for (std::size_t i = 0; i < head; ++i) REQUIRE(step(i, mark[i]) == second);
    for (std::size_t i = head; i < count; ++i)
        if (bytes[i] != end[i]) REQUIRE(step(i, end[i]) == second);
    for (std::size_t i = 0; i + 1 < head; ++i) REQUIRE(step(i, end[i]) == second);
    CHECK(step(head - 1, end[head - 1]) == third);
}

TEST_CASE("a flipped bit anywhere in a record is torn") {
    Ledger ledger = made();
    const int file = ledger.descriptor();
    const std::size_t offset = group_offset(small, 0, 3);
    for (const GroupRecord& group : {cooling_group(), group_with_session(), largest_group()}) {
        ledger.write(0, 3, group);
        const Bytes whole = bytes_at(file, offset, sizeof(RecordedGroup));
        const Ledger reader = opened(file);
        for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
            Bytes flipped = whole;
            flipped[bit / 8] ^= std::byte{1} << static_cast<int>(bit % 8);
            put_bytes(file, offset, flipped);
            GroupRecord record;
            REQUIRE(reader.read(0, 3, record) == Found::torn);
        }
    }
}

TEST_CASE("a flipped bit anywhere in a control record leaves none, or the one before") {
    Ledger ledger = made();
    const int file = ledger.descriptor();
    ControlRecord before;
    REQUIRE(ledger.put(Ledger::encode(before)));
    REQUIRE(ledger.put(Ledger::encode(full_control())));
    const std::size_t count = ledger_page_bytes + Ledger::encode(full_control()).size();
    const Bytes whole = bytes_at(file, area_offset(0), count);
    const Ledger reader = opened(file);
    CHECK(reader.control() == full_control());
    for (std::size_t bit = 0; bit < 8 * count; ++bit) {
        if (bit / 8 >= sizeof(RecordedArea) && bit / 8 < ledger_page_bytes) continue;
        Bytes flipped = whole;
        flipped[bit / 8] ^= std::byte{1} << static_cast<int>(bit % 8);
        put_bytes(file, area_offset(0), flipped);
        REQUIRE(reader.control() == before);
    }
    put_bytes(file, area_offset(1), Bytes(sizeof(RecordedArea)));
    CHECK_FALSE(reader.control().has_value());
}

TEST_CASE("a record that was copied elsewhere is not believed there") {
    Ledger ledger = made();
    const int file = ledger.descriptor();
    ledger.write(0, 3, group_with_session());
    const Bytes bytes = bytes_at(file, group_offset(small, 0, 3), sizeof(RecordedGroup));
    put_bytes(file, group_offset(small, 0, 4), bytes);
    put_bytes(file, group_offset(small, 1, 3), bytes);
    GroupRecord record;
    CHECK(found_in(file, 0, 3, record) == Found::whole);
    CHECK(found_in(file, 0, 4, record) == Found::torn);
    CHECK(found_in(file, 1, 3, record) == Found::torn);
}

TEST_CASE("a record with a right checksum that says what cannot be is not believed") {
    using Change = std::function<void(RecordedGroup&)>;
    const auto found = [](const GroupRecord& group, const Change& change) {
        RecordedGroup bytes = recorded(group, 0, 0);
        change(bytes);
        bytes.checksum = group_checksum(bytes, 0, 0);
        return believed(bytes, 0, 0).has_value();
    };
    const std::vector<Change> impossible{
        [](auto& bytes) { bytes.members = 0; },
        [](auto& bytes) { bytes.members = recorded_members_max + 1; },
        [](auto& bytes) { bytes.members = 1; },  // one descriptor too many
        [](auto& bytes) { bytes.members = 255; },
        [](auto& bytes) { bytes.has_open_member = 2; },
        [](auto& bytes) { bytes.has_session = 3; },
        [](auto& bytes) { bytes.has_session = 0; },  // and yet all of it is there
        [](auto& bytes) { bytes.replied = 2; },
        [](auto& bytes) { bytes.assured = 255; },
        [](auto& bytes) { bytes.local.port = 0; },
        [](auto& bytes) { bytes.local.scope = 1; },
        [](auto& bytes) { bytes.cooling_since = -1; },
        [](auto& bytes) { bytes.cooling_since = INT64_MIN; },
        [](auto& bytes) { bytes.cooling_since = instant_recorded_max_ns + 1; },
        [](auto& bytes) { bytes.descriptors[0] = -1; },
        [](auto& bytes) { bytes.descriptors[1] = descriptor_recorded_max + 1; },
        [](auto& bytes) { bytes.descriptors[recorded_members_max - 1] = 1; },
        [](auto& bytes) { bytes.client.port = 0; },
        [](auto& bytes) { bytes.client.scope = 1; },
        [](auto& bytes) { bytes.client.address = Address::any(Family::ipv4).bytes; },
        [](auto& bytes) { bytes.client.address = Address{}.bytes; },
        [](auto& bytes) { bytes.written_to = parse_address("::1").value().bytes; },
        [](auto& bytes) { bytes.admitted_at = -1; },
        [](auto& bytes) { bytes.last_active_at = INT64_MAX; },
    };
    for (std::size_t i = 0; i < impossible.size(); ++i) {
        CAPTURE(i);
        CHECK_FALSE(found(group_with_session(), impossible[i]));
    }
    const std::vector<Change> without_session{
        [](auto& bytes) { bytes.listener = 1; },
        [](auto& bytes) { bytes.replied = 1; },
        [](auto& bytes) { bytes.assured = 1; },
        [](auto& bytes) { bytes.interface_index = 1; },
        [](auto& bytes) { bytes.session_id = 1; },
        [](auto& bytes) { bytes.client.port = 1; },
        [](auto& bytes) { bytes.written_to[0] = 1; },
        [](auto& bytes) { bytes.admitted_at = 1; },
        [](auto& bytes) { bytes.last_active_at = 1; },
        [](auto& bytes) { bytes.request_datagrams = 1; },
        [](auto& bytes) { bytes.request_bytes = 1; },
        [](auto& bytes) { bytes.reply_datagrams = 1; },
        [](auto& bytes) { bytes.reply_bytes = 1; },
        [](auto& bytes) { bytes.members = 1, bytes.has_open_member = 1, bytes.descriptors[1] = 0; },
    };
    for (std::size_t i = 0; i < without_session.size(); ++i) {
        CAPTURE(i);
        CHECK_FALSE(found(cooling_group(), without_session[i]));
    }
    // What a later version may use is not looked at.
    CHECK(found(cooling_group(), [](auto& bytes) {
        bytes.spare[0] = 1;
        bytes.spare_end[23] = 1;
        bytes.local.spare = 1;
        bytes.client.spare = 1;
    }));
}

class Random {
public:
    explicit Random(std::uint32_t seed) : engine_(seed) {}
    /// Of all sizes, the extremes often.
    template <class Number>
    Number number(std::uint64_t max = std::numeric_limits<Number>::max()) {
        switch (engine_() % 4) {
            case 0:
                return Number{};
            case 1:
                return static_cast<Number>(max);
            default: {
                const std::uint64_t value = engine_() >> engine_() % 64;
                return static_cast<Number>(max == UINT64_MAX ? value : value % (max + 1));
            }
        }
    }
    bool flag() { return engine_() % 2 == 0; }
    Address address() {
        if (flag()) return Address::ipv4(number<std::uint32_t>());
        Address address;
        for (std::uint8_t& byte : address.bytes) byte = number<std::uint8_t>();
        return address;
    }
    Endpoint endpoint() {
        Endpoint made{address(), 0, static_cast<std::uint16_t>(number<std::uint16_t>() | 1U)};
        if (made.address.is_link_local()) made.scope = number<std::uint32_t>();
        return made;
    }
    Instant instant() {
        return at(std::chrono::nanoseconds{
            number<std::int64_t>(static_cast<std::uint64_t>(instant_recorded_max_ns))});
    }
    GroupRecord group() {
        GroupRecord group;
        group.proxy = number<std::uint16_t>();
        group.binding = number<std::uint32_t>();
        group.upstream_version = number<std::uint32_t>();
        group.has_open_member = flag();
        group.local = endpoint();
        group.cooling_since = instant();
        group.members = static_cast<std::uint8_t>(2 + number<unsigned>(recorded_members_max - 2));
        for (std::size_t i = 0; i < group.members; ++i)
            group.descriptors[i] = number<int>(descriptor_recorded_max);
        if (flag()) return group;
        SessionRecord& session = group.session.emplace();
        session.id = number<std::uint64_t>();
        session.listener = number<std::uint16_t>();
        do session.client = endpoint();
        while (session.client.address.is_unspecified());
        do session.local = address();
        while (session.local.family() != session.client.family());
        session.interface_index = number<std::uint32_t>();
        session.replied = flag();
        session.assured = flag();
        session.has_successor = flag();
        session.admitted_at = instant();
        session.last_active_at = instant();
        session.request_datagrams = number<std::uint64_t>();
        session.request_bytes = number<std::uint64_t>();
        session.reply_datagrams = number<std::uint64_t>();
        session.reply_bytes = number<std::uint64_t>();
        return group;
    }

private:
    std::mt19937_64 engine_;
};

TEST_CASE("any group is read as it was written") {
    Random random{13};
    Ledger ledger = made({2, 3000, 1});
    std::vector<GroupRecord> groups;
    for (std::uint32_t i = 0; i < 3000; ++i) {
        groups.push_back(random.group());
        ledger.write(1, i, groups.back());
    }
    const Ledger reader = opened(ledger.descriptor());
    GroupRecord record;
    for (std::uint32_t i = 0; i < 3000; ++i) {
        REQUIRE(reader.read(1, i, record) == Found::whole);
        REQUIRE(record == groups[i]);
    }
}

TEST_CASE("a control record that ends early, or has a count beyond its bytes, is not believed") {
    const Bytes whole = Ledger::encode(full_control());
    CHECK(decoded(whole) == full_control());
    for (std::size_t length = 0; length < whole.size(); ++length)
        REQUIRE_FALSE(decoded(std::span{whole}.first(length)).has_value());
    Bytes counted = Ledger::encode(ControlRecord{});
    std::fill(counted.end() - 4, counted.end(), std::byte{0xff});  // so many pools
    CHECK_FALSE(decoded(counted).has_value());
}

TEST_CASE("what a later version wrote behind the fields of an item is skipped") {
    ControlRecord control;
    control.pools = {{1, address("10.0.0.1"), {{1, 2, true}}}};
    Bytes bytes = Ledger::encode(control);
    // The last list: its count, the item's length, the item.
    const std::size_t item = 4 + 16 + 4 + 4 + 5;
    std::uint32_t length = item + 3;
    std::memcpy(&bytes[bytes.size() - item - 4], &length, sizeof length);
    bytes.resize(bytes.size() + 3, std::byte{7});
    CHECK(decoded(bytes) == control);
    bytes.push_back(std::byte{8});  // and behind all fields of the record
    CHECK(decoded(bytes) == control);
}

TEST_CASE("a control record that says what cannot be is not believed") {
    const auto is_believed = [](const std::function<void(ControlRecord&)>& change) {
        ControlRecord control = full_control();
        change(control);
        return decoded(Ledger::encode(control)).has_value();
    };
    using State = ControlRecord::State;
    CHECK(is_believed([](auto&) {}));
    CHECK_FALSE(is_believed([](auto& c) { c.proxies[0].state = State{3}; }));
    CHECK_FALSE(is_believed([](auto& c) { c.proxies[0].deadline = at(-1ns); }));
    CHECK_FALSE(is_believed([](auto& c) { c.proxies[0].alias_counters[0].prefix.bits = 33; }));
    CHECK_FALSE(is_believed([](auto& c) { c.proxies[0].alias_counters[1].prefix.bits = 129; }));
    CHECK_FALSE(is_believed([](auto& c) { c.versions[0].endpoint.scope = 1; }));
    CHECK_FALSE(is_believed([](auto& c) { c.versions[0].aliases[1].prefix.bits = 255; }));
    CHECK_FALSE(is_believed([](auto& c) { c.listeners[0].state = State{255}; }));
    CHECK_FALSE(is_believed([](auto& c) { c.listeners[0].endpoint.port = 0; }));
    CHECK_FALSE(is_believed([](auto& c) { c.listeners[0].descriptors[1] = -1; }));
    CHECK_FALSE(is_believed([](auto& c) { c.listeners[0].descriptors[2] += 1; }));
    CHECK_FALSE(is_believed([](auto& c) { c.bindings[0].ports = {3, 2, false}; }));
    CHECK_FALSE(is_believed([](auto& c) { c.pools[0].ranges[0] = {UINT16_MAX, 0, false}; }));
    CHECK_FALSE(is_believed([](auto& c) { c.drain_deadline = Instant::max(); }));
    // Whether there is a drain: behind two empty texts and the number of reloads.
    Bytes bytes = Ledger::encode({});
    bytes[16] = std::byte{2};
    CHECK_FALSE(decoded(bytes).has_value());
}

TEST_CASE("a control record that does not fit is refused, and the largest one is read") {
    Ledger ledger = made();
    ControlRecord control;
    REQUIRE(ledger.put(Ledger::encode(control)));
    ControlRecord largest;
    largest.toml.assign(Ledger::control_bytes_max - Ledger::encode(control).size(), 'x');
    ControlRecord larger = largest;
    larger.toml += 'x';
    CHECK_FALSE(ledger.put(Ledger::encode(larger)));
    CHECK(opened(ledger.descriptor()).control() == control);
    CHECK(ledger.put(Ledger::encode(largest)));
    CHECK(opened(ledger.descriptor()).control() == largest);
}

constexpr int all_seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

/// A file in memory with any bytes at its beginning, of any size, with any seals.
Descriptor memory_file(std::size_t size, std::span<const std::byte> bytes, int seals = all_seals,
                       unsigned flags = 0) {
    Descriptor file{::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags)};
    REQUIRE(file);
    REQUIRE(::ftruncate(file.descriptor(), static_cast<off_t>(size)) == 0);
    if (!bytes.empty()) put_bytes(file.descriptor(), 0, bytes);
    REQUIRE(::fcntl(file.descriptor(), F_ADD_SEALS, seals) == 0);
    return file;
}

RecordedHeader small_header() {
    const Ledger ledger = made();
    RecordedHeader header{};
    REQUIRE(::pread(ledger.descriptor(), &header, sizeof header, 0) == sizeof header);
    return header;
}
template <class T>
std::span<const std::byte> bytes_of(const T& value) {
    return std::as_bytes(std::span{&value, 1});
}
std::string complaint_about(const Descriptor& file) {
    const Result<Ledger> ledger = Ledger::open(file.descriptor());
    return ledger ? "" : ledger.error().message;
}

TEST_CASE("what is no ledger of this boot and of a known form is refused with a reason") {
    const std::size_t size = ledger_bytes(small);
    const RecordedHeader right = small_header();
    const auto complaint = [&](const std::function<void(RecordedHeader&)>& change) {
        RecordedHeader header = right;
        change(header);
        return complaint_about(memory_file(size, bytes_of(header)));
    };
    CHECK(complaint([](auto&) {}) == "");
    CHECK(complaint([](auto& header) { header.magic[7] = 'x'; }) == "it is no ledger");
    CHECK(complaint([](auto& header) { header = {}; }) == "it is no ledger");
    CHECK(complaint([](auto& header) { header.form = 2; }) ==
          "its form is 2, this program reads form 1");
    CHECK(complaint([](auto& header) { header.form = 0; }) ==
          "its form is 0, this program reads form 1");
    CHECK(complaint([](auto& header) { header.boot[35] ^= 1; }) == "it is of another boot");
    const std::string wrong = "its size is not what its header says";
    CHECK(complaint([](auto& header) { header.shards += 1; }) == wrong);
    CHECK(complaint([](auto& header) { header.groups_per_shard += 16; }) == wrong);
    CHECK(complaint([](auto& header) { header.pools -= 1; }) == wrong);
    CHECK(complaint([](auto& header) { header.shards = 0; }) == wrong);
    CHECK(complaint([](auto& header) { header.shards = UINT32_MAX; }) == wrong);
    CHECK(complaint([](auto& header) {
              header.shards = header.groups_per_shard = header.pools = UINT32_MAX;
          }) == wrong);
}

TEST_CASE("an orderly end at a time that cannot be is none") {
    const auto end = [](std::uint64_t closed_at) {
        RecordedHeader header = small_header();
        header.closed_at = closed_at;
        return opened(memory_file(ledger_bytes(small), bytes_of(header)).descriptor())
            .closed_in_order();
    };
    CHECK(end(1) == Instant{});
    CHECK_FALSE(end(UINT64_MAX).has_value());
    CHECK_FALSE(end(std::uint64_t{1} << 63).has_value());
    CHECK_FALSE(end(static_cast<std::uint64_t>(instant_recorded_max_ns) + 2).has_value());
}

TEST_CASE("a file with more shards, groups or pools than there can be is refused") {
    for (const LedgerSize& size :
         {LedgerSize{shards_recorded_max + 1, 1, 1}, LedgerSize{1, groups_recorded_max + 1, 1},
          LedgerSize{1, 1, pools_recorded_max + 1}, LedgerSize{0, 1, 1}, LedgerSize{1, 0, 1},
          LedgerSize{1, 1, 0}}) {
        RecordedHeader header = small_header();
        header.shards = size.shards;
        header.groups_per_shard = size.groups_per_shard;
        header.pools = size.pools;
        CHECK(complaint_about(memory_file(ledger_bytes(size), bytes_of(header))) ==
              "its size is not what its header says");
    }
}

TEST_CASE("a file that is shorter or longer than its header says, or could become so, is refused") {
    const std::size_t size = ledger_bytes(small);
    const RecordedHeader header = small_header();
    for (const std::size_t other : {sizeof header, size - 1, size + 1, size + 4096})
        CHECK(complaint_about(memory_file(other, bytes_of(header))) ==
              "its size is not what its header says");
    CHECK(complaint_about(memory_file(0, {})) == "it is no ledger");
    CHECK(complaint_about(memory_file(sizeof header - 1, {})) == "it is no ledger");
    for (const int seals : {0, F_SEAL_GROW | F_SEAL_SEAL, F_SEAL_SHRINK | F_SEAL_SEAL,
                            F_SEAL_SHRINK | F_SEAL_GROW, F_SEAL_WRITE | F_SEAL_SEAL})
        CHECK(complaint_about(memory_file(size, bytes_of(header), seals)) ==
              "its size is not sealed");
    CHECK(complaint_about(memory_file(size, bytes_of(header), all_seals | F_SEAL_WRITE)) == "");
}

TEST_CASE("what is no file in memory is refused") {
    const char* reason = "it is no file in memory (memfd)";
    CHECK(complaint_about(Descriptor{}) == reason);
    CHECK(complaint_about(Descriptor{::open("/dev/zero", O_RDWR)}) == reason);
    CHECK(complaint_about(Descriptor{::open("/proc/self/exe", O_RDONLY)}) == reason);
    CHECK(complaint_about(Descriptor{::open("/", O_RDONLY | O_DIRECTORY)}) == reason);
}

TEST_CASE("a file of huge pages is refused, since reading it may end the reader") {
    const Descriptor file{::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB)};
    if (!file) return;  // no huge pages in this kernel
    REQUIRE(::fcntl(file.descriptor(), F_ADD_SEALS, all_seals) == 0);
    CHECK(complaint_about(file) == "it is no file in memory of ordinary pages");
}

TEST_CASE("a ledger's size is sealed, its name is known, and it ends with the program's exec") {
    Ledger ledger = made();
    const int file = ledger.descriptor();
    CHECK((::fcntl(file, F_GET_SEALS) & all_seals) == all_seals);
    CHECK(::ftruncate(file, 0) != 0);
    CHECK((::fcntl(file, F_GETFD) & FD_CLOEXEC) != 0);
    std::array<char, 64> name{};
    const std::string link = "/proc/self/fd/" + std::to_string(file);
    REQUIRE(::readlink(link.c_str(), name.data(), name.size() - 1) > 0);
    CHECK(std::string{name.data()} == "/memfd:udpproxy-ledger (deleted)");
    CHECK(opened(file).descriptor() == -1);
}

TEST_CASE("a ledger beyond the limit of a file's size is an error, not the signal SIGXFSZ") {
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    const rlimit limited{1 << 20, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limited) == 0);
    const Result<Ledger> ledger = Ledger::create(small);
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
    REQUIRE_FALSE(ledger.has_value());
    CHECK(ledger.error().message ==
          "ftruncate: the limit of a file's size (RLIMIT_FSIZE) is 1048576 bytes, the ledger has " +
              std::to_string(ledger_bytes(small)));
}

TEST_CASE("a ledger that the address space has no room for is an error") {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        (void)Ledger::create(small);  // what is allocated once is there
        const rlimit none{1, 1};
        if (::setrlimit(RLIMIT_AS, &none) != 0) ::_exit(1);
        const Result<Ledger> ledger = Ledger::create(small);
        const bool is_told = !ledger && ledger.error().message == "mmap: Cannot allocate memory";
        ::_exit(is_told ? 0 : 2);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
}

/// Of this process, in bytes.
std::uint64_t address_space() {
    std::uint64_t pages = 0;
    std::ifstream{"/proc/self/statm"} >> pages;
    return pages * ledger_page_bytes;
}

TEST_CASE("a ledger is read in the address space of what was written") {
    Ledger ledger = made({1, 64, pools_recorded_max});
    ledger.write(0, 63, cooling_group());
    ledger.rest(7, 9, at(1s));
    const std::uint64_t before = address_space();
    const Ledger reader = opened(ledger.descriptor());
    CHECK(address_space() - before < std::uint64_t{64} << 20);
    GroupRecord record;
    CHECK(reader.read(0, 63, record) == Found::whole);
    CHECK(reader.rests_until(7, 9) > at(1s));
    CHECK(reader.rests_until(UINT16_MAX, UINT16_MAX) == Instant::min());
}

TEST_CASE("a record that cannot be, or has no place, is not written") {
    Ledger ledger = made();
    const auto is_refused = [&](const std::function<void(GroupRecord&)>& change) {
        GroupRecord group = group_with_session();
        change(group);
        return breaks_a_law([&] { ledger.write(0, 0, group); });
    };
    CHECK_FALSE(is_refused([](auto&) {}));
    CHECK(is_refused([](auto& group) { group.members = 0; }));
    CHECK(is_refused([](auto& group) { group.members = recorded_members_max + 1; }));
    CHECK(is_refused([](auto& group) { group.descriptors[1] = -1; }));
    CHECK(is_refused([](auto& group) { group.local.port = 0; }));
    CHECK(is_refused([](auto& group) { group.session->client.port = 0; }));
    CHECK(is_refused([](auto& group) { group.session->last_active_at = Instant::min(); }));
    CHECK(breaks_a_law([&] { ledger.write(small.shards, 0, cooling_group()); }));
    CHECK(breaks_a_law([&] { ledger.write(0, small.groups_per_shard, cooling_group()); }));
    CHECK(breaks_a_law([&] { ledger.erase(0, small.groups_per_shard); }));
    CHECK(breaks_a_law([&] { ledger.rest(small.pools, 1, at(1s)); }));
}

TEST_CASE("a ledger is either written or read") {
    Ledger ledger = made();
    Ledger reader = opened(ledger.descriptor());
    GroupRecord record;
    CHECK(breaks_a_law([&] { reader.write(0, 0, cooling_group()); }));
    CHECK(breaks_a_law([&] { (void)reader.put(Ledger::encode({})); }));
    CHECK(breaks_a_law([&] { (void)ledger.read(0, 0, record); }));
    CHECK(breaks_a_law([&] { (void)ledger.high_water(0); }));
}

}  // namespace
}  // namespace udpproxy
