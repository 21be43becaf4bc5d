// A flood: datagrams that claim to come from anywhere in a prefix, as fast as told. What they carry
// is a mark of nobody, so that a reply to one of them would be seen as foreign wherever it came.
#include <cstring>
#include <random>

#include "commands.hpp"
#include "outcome.hpp"
#include "rows.hpp"
#include "traffic/mark.hpp"
#include "traffic/pace.hpp"
#include "traffic/packet.hpp"
#include "traffic/program.hpp"
#include "traffic/sockets.hpp"

namespace udpproxy::traffic {

namespace {

/// A random address of the prefix.
Address draw(const Prefix& prefix, std::mt19937_64& dice) {
    Address drawn = prefix.address;
    const unsigned first_bit = (prefix.address.is_ipv4() ? 96U : 0U) + prefix.bits;
    const std::uint64_t high = dice();
    const std::uint64_t low = dice();
    for (unsigned byte = first_bit / 8; byte < drawn.bytes.size(); ++byte) {
        const unsigned kept = first_bit > byte * 8 ? first_bit - byte * 8 : 0;
        const auto mask = static_cast<std::uint8_t>(0xffU >> kept);
        const auto random = static_cast<std::uint8_t>((byte < 8 ? high : low) >> (byte % 8 * 8));
        drawn.bytes[byte] =
            static_cast<std::uint8_t>((drawn.bytes[byte] & ~mask) | (random & mask));
    }
    return drawn;
}

}  // namespace

void spoof(const SpoofOptions& options) {
    const Endpoint to = wanted(parse_endpoint(options.to));
    const Prefix prefix = wanted(parse_prefix(options.prefix));
    const Socket raw = open_raw(to.family());
    RawRow row(raw.descriptor(), to.address);
    std::mt19937_64 dice(options.seed);
    std::vector<std::byte> payload(options.bytes);
    if (payload.size() >= mark_bytes)
        write_mark(payload, Mark{dice(), 0, 0, 0, Kind::request, 0, 0});
    say({{"event", "ready"}});

    const Instant start = monotonic_now();
    const Instant end = start + of_seconds(options.seconds);
    Pace pace(options.rate, start);
    std::uint64_t written = 0;
    std::uint64_t sent = 0;
    Instant now = start;
    while (now < end && !stop_wanted() && (options.count == 0 || written < options.count)) {
        std::uint32_t due = pace.due(now, row_max);
        if (options.count != 0)
            due = static_cast<std::uint32_t>(std::min<std::uint64_t>(due, options.count - written));
        for (std::uint32_t i = 0; i < due; ++i) {
            const std::uint64_t drawn = dice();
            const auto port = static_cast<std::uint16_t>(
                options.first_port + drawn % (options.last_port - options.first_port + 1U));
            sent += row.push(
                write_udp_packet(row.next(), Endpoint{draw(prefix, dice), 0, port}, to, payload));
            ++written;
        }
        sent += row.flush();
        now = monotonic_now();
        if (const Duration pause = pace.until_next(now); pause > std::chrono::microseconds{50}) {
            sleep_for(std::min<Duration>(pause, std::chrono::milliseconds{5}));
            now = monotonic_now();
        }
    }
    const double seconds = std::chrono::duration<double>(now - start).count();
    say({{"event", "spoofed"},
         {"sent", sent},
         {"seconds", seconds},
         {"rate", static_cast<double>(sent) / seconds}});
}

}  // namespace udpproxy::traffic
