// Departures cut into sends: each datagram leaves once, whole, in the order of its slot, to its own
// destination; no send is more than the kernel takes.
#include <vector>

#include "fuzz/input.hpp"
#include "io/departure_chains.hpp"
#include "udpproxy/base/assert.hpp"
#include "udpproxy/net/train.hpp"

namespace udpproxy::fuzz {

namespace {

constexpr std::uint32_t slots = 4;
constexpr std::size_t departures_max = 200;

Departure departure_of(Input& input) {
    Departure departure;
    departure.slot = Slot{input.below(slots)};
    const std::uint32_t pick = input.below(8);
    departure.to = Endpoint{Address::ipv4(pick & 1U), 0, static_cast<std::uint16_t>(pick >> 1U)};
    departure.tos = static_cast<std::uint8_t>(input.below(2));
    // Most lengths are one of a few, so that neighbours coalesce.
    const std::uint32_t length = input.below(5);
    constexpr std::array<std::uint32_t, 4> usual{0, 100, 1200, 1472};
    departure.bytes = length < usual.size() ? usual[length] : input.number<std::uint16_t>();
    if (input.flag() && departure.bytes > 0) {
        departure.segment_bytes = departure.bytes;
        departure.bytes = std::min(
            departure.segment_bytes * (1 + input.below(65)) + input.below(departure.segment_bytes),
            65535U);
    }
    return departure;
}

struct Datagram {
    std::uint32_t departure = 0;
    std::uint32_t offset = 0;
    std::uint32_t bytes = 0;
    friend bool operator==(const Datagram&, const Datagram&) = default;
};

void append(std::vector<Datagram>& to, std::uint32_t departure, std::uint32_t offset,
            std::uint32_t bytes, std::uint32_t segment_bytes) {
    if (segments_of(bytes, segment_bytes) == 1) {
        to.push_back({departure, offset, bytes});
        return;
    }
    for (std::uint32_t at = 0; at < bytes; at += segment_bytes)
        to.push_back({departure, offset + at, std::min(segment_bytes, bytes - at)});
}

}  // namespace

void trains(Bytes bytes) {
    Input input(bytes);
    TrainLimits limits;
    limits.bytes = train_bytes_max(input.flag() ? Family::ipv4 : Family::ipv6);
    constexpr std::array<std::uint32_t, 4> segment_limits{65535, 1472, 1200, 0};
    limits.segment_bytes = segment_limits[input.below(segment_limits.size())];
    std::vector<Departure> departures;
    while (!input.is_over() && departures.size() < departures_max)
        departures.push_back(departure_of(input));

    DepartureChains chains(departures_max, slots);
    chains.chain(departures);
    std::size_t datagrams = 0;
    for (const Slot slot : chains.slots()) {
        std::vector<Datagram> expected;
        for (std::uint32_t i = 0; i < departures.size(); ++i)
            if (departures[i].slot == slot)
                append(expected, i, 0, departures[i].bytes, departures[i].segment_bytes);
        std::vector<Datagram> sent;
        ChainWalk walk = chains.take(slot);
        while (!walk.is_over()) {
            const Sending sending =
                chains.cut(departures, walk, [&](const Departure&) { return limits; });
            const Departure& first = departures[sending.first];
            UDPPROXY_ASSERT(sending.datagrams() <= train_segments_max);
            if (sending.is_train())
                UDPPROXY_ASSERT(sending.bytes <= limits.bytes &&
                                sending.segment_bytes <= limits.segment_bytes);
            std::uint32_t left = sending.bytes;
            std::uint32_t at = sending.first;
            for (std::uint32_t i = 0; i < sending.departures; ++i, at = chains.next(at)) {
                const Departure& each = departures[at];
                UDPPROXY_ASSERT(each.to == first.to && each.tos == first.tos);
                const std::uint32_t part =
                    sending.departures == 1 ? sending.bytes : each.bytes - sending.offset;
                UDPPROXY_ASSERT(part <= left);
                // Whole datagrams of one departure are whole segments of the send; only the last
                // may be shorter.
                if (sending.departures > 1 && i + 1 < sending.departures)
                    UDPPROXY_ASSERT(part % sending.segment_bytes == 0);
                append(sent, at, sending.offset, part, sending.segment_bytes);
                left -= part;
            }
            UDPPROXY_ASSERT(left == 0);
        }
        UDPPROXY_ASSERT(sent == expected);
        datagrams += sent.size();
    }
    std::size_t all = 0;
    for (const Departure& departure : departures) all += departure.datagrams();
    UDPPROXY_ASSERT(datagrams == all);
}

}  // namespace udpproxy::fuzz
