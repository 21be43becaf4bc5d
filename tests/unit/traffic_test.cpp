// The traffic of the load tool and of the benchmark (tests/traffic): a yardstick that cannot tell a
// foreign datagram from an owned one measures nothing.
#include <doctest/doctest.h>

#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "traffic/frame.hpp"
#include "traffic/mark.hpp"
#include "traffic/ownership.hpp"
#include "traffic/pace.hpp"
#include "traffic/packet.hpp"
#include "traffic/stamp.hpp"

namespace {

using namespace udpproxy;
using namespace udpproxy::traffic;

std::vector<std::byte> stamped(std::size_t bytes, Stamp stamp) {
    std::vector<std::byte> payload(bytes);
    write_stamp(payload, stamp);
    return payload;
}

std::uint32_t sum_of(std::span<const std::byte> bytes) {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) {
        sum += std::to_integer<unsigned>(bytes[i]) << 8 | std::to_integer<unsigned>(bytes[i + 1]);
    }
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

TEST_CASE("a stamp is read as it was written") {
    for (const std::size_t bytes : {stamp_bytes_min, std::size_t{64}, std::size_t{1200}}) {
        const auto read = read_stamp(stamped(bytes, {77, 123456}));
        REQUIRE(read.has_value());
        CHECK(read->client == 77);
        CHECK(read->sequence == 123456);
    }
}

TEST_CASE("a datagram that was cut, lengthened or spliced from two others has no stamp") {
    const auto whole = stamped(64, {1, 2});
    CHECK_FALSE(read_stamp(std::span(whole).first(63)).has_value());
    CHECK_FALSE(read_stamp(std::span(whole).first(8)).has_value());
    CHECK_FALSE(read_stamp({}).has_value());

    auto longer = whole;
    longer.push_back(std::byte{0});
    CHECK_FALSE(read_stamp(longer).has_value());

    auto spliced = whole;
    const auto other = stamped(64, {1, 3});
    std::copy(other.begin() + 32, other.end(), spliced.begin() + 32);
    CHECK_FALSE(read_stamp(spliced).has_value());
}

TEST_CASE("a datagram of another client is counted as foreign to an address that has an owner") {
    Tally tally;
    Ownership ownership(tally, 10, false);
    ownership.check(stamped(64, {3, 0}), 64, 3, 0);
    CHECK(tally.foreign.get() == 0);
    ownership.check(stamped(64, {4, 0}), 64, 3, 0);
    CHECK(tally.foreign.get() == 1);
    CHECK(tally.checked.get() == 2);
}

TEST_CASE("a port belongs to the client that was seen on it first") {
    Tally tally;
    Ownership ownership(tally, 10, true);
    ownership.check(stamped(64, {1, 0}), 64, Ownership::nobody, 4000);
    ownership.check(stamped(64, {2, 0}), 64, Ownership::nobody, 4001);
    ownership.check(stamped(64, {1, 1}), 64, Ownership::nobody, 4000);
    CHECK(tally.foreign.get() == 0);
    ownership.check(stamped(64, {2, 1}), 64, Ownership::nobody, 4000);
    CHECK(tally.foreign.get() == 1);
}

TEST_CASE("a train is checked segment by segment, its shorter tail included") {
    Tally tally;
    Ownership ownership(tally, 1, false);
    std::vector<std::byte> train;
    for (std::uint32_t i = 0; i < 3; ++i) {
        const auto segment = stamped(i < 2 ? 100 : 40, {0, i});
        train.insert(train.end(), segment.begin(), segment.end());
    }
    ownership.check(train, 100, 0, 0);
    CHECK(tally.received.get() == 3);
    CHECK(tally.damaged.get() == 0);
    CHECK(tally.disordered.get() == 0);
    ownership.check(std::span(train).first(150), 100, 0, 0);
    CHECK(tally.damaged.get() == 1);
}

TEST_CASE("a datagram behind a later one, or twice, is counted as disordered; a gap is not") {
    Tally tally;
    Ownership ownership(tally, 1, false);
    for (const std::uint32_t sequence : {0U, 1U, 5U, 5U, 3U, 6U})
        ownership.check(stamped(64, {0, sequence}), 64, 0, 0);
    CHECK(tally.disordered.get() == 2);
}

TEST_CASE("a mark is read as it was written, and one wrong byte anywhere is noticed") {
    for (const std::size_t bytes : {mark_bytes, mark_bytes + 1, std::size_t{100}}) {
        Mark mark;
        mark.client = 77;
        mark.sequence = 123456;
        std::vector<std::byte> whole(bytes);
        write_mark(whole, mark);
        const auto read = read_mark(whole);
        REQUIRE(read.has_value());
        CHECK(read->client == 77);
        CHECK(read->sequence == 123456);
        for (std::size_t at = 0; at < bytes; ++at) {
            auto wrong = whole;
            wrong[at] ^= std::byte{1};
            CHECK_FALSE(read_mark(wrong).has_value());
            CHECK_FALSE(read_mark(std::span(whole).first(at)).has_value());
        }
    }
}

TEST_CASE("a pace gives what is due, and nothing before it is due") {
    const Instant start{};
    Pace pace(1000, start);
    CHECK(pace.due(start, 64) == 1);
    CHECK(pace.due(start, 64) == 0);
    CHECK(pace.until_next(start) == std::chrono::milliseconds{1});
    CHECK(pace.due(start + std::chrono::microseconds{3500}, 64) == 3);
}

TEST_CASE("a sender that was held up catches up with 20 ms, or with what it was told") {
    const Instant start{};
    const Instant late = start + std::chrono::seconds{1};
    CHECK(Pace(1000, start).due(late, 10000) == 20);
    CHECK(Pace(1000, start, std::chrono::hours{1}).due(late, 10000) == 1001);
    CHECK(Pace(1000, start, std::chrono::hours{1}).due(late, 64) == 64);
}

TEST_CASE("without a rate as many are due as may be, at once") {
    Pace pace(0, Instant{});
    CHECK(pace.due(Instant{}, 64) == 64);
    CHECK(pace.until_next(Instant{}) == Duration::zero());
}

TEST_CASE("the checksums of a packet are right, for both families and odd lengths") {
    for (const auto& [from, to] :
         {std::pair{"10.0.0.1:1000", "10.0.0.2:53"}, std::pair{"[fd00::1]:1000", "[fd00::2]:53"}}) {
        for (const std::size_t payload_bytes : {std::size_t{0}, std::size_t{1}, std::size_t{64}}) {
            const Endpoint source = parse_endpoint(from).value();
            const Endpoint target = parse_endpoint(to).value();
            const std::vector<std::byte> payload(payload_bytes, std::byte{0x5a});
            std::array<std::byte, 256> memory{};
            const auto packet =
                std::span(memory).first(write_udp_packet(memory, source, target, payload));
            const std::size_t udp_bytes = 8 + payload_bytes;
            const std::size_t ip_bytes = packet.size() - udp_bytes;
            CHECK(ip_bytes == (target.address.is_ipv4() ? 20 : 40));
            if (target.address.is_ipv4()) CHECK(sum_of(packet.first(ip_bytes)) == 0xffff);
            // RFC 768 and RFC 8200: both addresses, the length and the protocol come before it,
            // and an odd end is filled up.
            std::vector<std::byte> summed{std::byte{0}, std::byte(udp_bytes), std::byte{0},
                                          std::byte{IPPROTO_UDP}};
            const auto addresses = packet.subspan(target.address.is_ipv4() ? 12 : 8,
                                                  target.address.is_ipv4() ? 8 : 32);
            summed.insert(summed.end(), addresses.begin(), addresses.end());
            summed.insert(summed.end(), packet.begin() + static_cast<std::ptrdiff_t>(ip_bytes),
                          packet.end());
            if (summed.size() % 2 != 0) summed.push_back(std::byte{0});
            CHECK(sum_of(summed) == 0xffff);
        }
    }
}

TEST_CASE("a frame is read as it was built, and its header's checksum is right for every source") {
    FrameEnds ends;
    ends.target = 0x0a000102;
    ends.target_port = 7000;
    Frame frame(ends, 64);
    for (const std::uint32_t source : {0x0a400000U, 0x0a40ffffU, 0xffffffffU, 0U}) {
        frame.set_source(source, 20000);
        write_stamp(frame.payload(), {source, 1});
        const auto wire = std::span<const std::byte>(frame.bytes()).subspan(Frame::virtio_bytes);
        CHECK(sum_of(wire.subspan(14, 20)) == 0xffff);
        const auto parsed = parse_frame(wire);
        REQUIRE(parsed.has_value());
        CHECK(parsed->source == source);
        CHECK(parsed->source_port == 20000);
        CHECK(parsed->target == ends.target);
        CHECK(parsed->target_port == 7000);
        CHECK(read_stamp(parsed->payload).has_value());
    }
}

TEST_CASE("frames that are cut or of another protocol are refused") {
    Frame frame({}, 64);
    const auto wire = std::span<const std::byte>(frame.bytes()).subspan(Frame::virtio_bytes);
    REQUIRE(parse_frame(wire).has_value());
    for (std::size_t bytes = 0; bytes < wire.size(); ++bytes)
        CHECK_FALSE(parse_frame(wire.first(bytes)).has_value());
    std::vector<std::byte> tcp(wire.begin(), wire.end());
    tcp[14 + 9] = std::byte{6};
    CHECK_FALSE(parse_frame(tcp).has_value());
}

}  // namespace
