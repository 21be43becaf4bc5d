// Forged ICMP: every type and code, the errors as often as all other types together, about flows
// that exist and (by their ports) that do not.
#include <array>
#include <random>

#include "commands.hpp"
#include "outcome.hpp"
#include "rows.hpp"
#include "traffic/pace.hpp"
#include "traffic/packet.hpp"
#include "traffic/program.hpp"
#include "traffic/sockets.hpp"

namespace udpproxy::traffic {

namespace {

// Destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792); and
// their like of RFC 4443.
constexpr std::array<std::uint8_t, 5> errors_ipv4{3, 4, 5, 11, 12};
constexpr std::array<std::uint8_t, 4> errors_ipv6{1, 2, 3, 4};
constexpr unsigned codes = 16;
// Path MTUs that make no sense, the smallest that do, and usual ones.
constexpr std::array<std::uint32_t, 9> words{0, 1, 68, 552, 576, 1280, 1400, 65535, 0xffffffffU};

/// The n-th message: odd ones are errors, so that each of their type and code comes again soon;
/// even ones walk through all types.
IcmpError nth(std::uint64_t number, bool ipv4, std::uint32_t word) {
    const std::uint64_t half = number / 2;
    const auto code = static_cast<std::uint8_t>(half % codes);
    const std::uint64_t row = half / codes;
    if (number % 2 == 0) return {static_cast<std::uint8_t>(row % 256), code, word};
    return {ipv4 ? errors_ipv4[row % errors_ipv4.size()] : errors_ipv6[row % errors_ipv6.size()],
            code, word};
}

}  // namespace

void icmp(const IcmpOptions& options) {
    const Endpoint from = wanted(parse_endpoint(options.about_from));
    const Endpoint to = wanted(parse_endpoint(options.about_to));
    const Address teller =
        options.teller.empty() ? to.address : wanted(parse_address(options.teller));
    const Socket raw = open_raw(from.family());
    RawRow row(raw.descriptor(), from.address);
    std::mt19937_64 dice(options.seed);
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
            Endpoint about_from = from;
            Endpoint about_to = to;
            about_from.port =
                static_cast<std::uint16_t>(from.port + (drawn & 0xffffU) % options.from_ports);
            about_to.port =
                static_cast<std::uint16_t>(to.port + (drawn >> 16U & 0xffffU) % options.to_ports);
            const IcmpError error =
                nth(written, from.address.is_ipv4(), words[(drawn >> 32U) % words.size()]);
            sent += row.push(write_icmp_packet(row.next(), teller, error, about_from, about_to));
            ++written;
        }
        sent += row.flush();
        sleep_for(
            std::min<Duration>(pace.until_next(monotonic_now()), std::chrono::milliseconds{5}));
        now = monotonic_now();
    }
    say({{"event", "told"},
         {"sent", sent},
         {"seconds", std::chrono::duration<double>(now - start).count()}});
}

}  // namespace udpproxy::traffic
