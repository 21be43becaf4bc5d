// Fetches the records of a trace ten times a second and writes them as lines or as a capture file.
// The program copies the datagrams and ends the trace by itself when nobody fetches them.
#include "trace.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <optional>
#include <thread>

#include "pcapng.hpp"
#include "udpproxy/base/printable.hpp"
#include "views.hpp"

namespace udpproxy::ctl {

namespace {

constexpr std::chrono::milliseconds fetch_interval{100};

volatile std::sig_atomic_t trace_interrupted = 0;

std::vector<std::uint8_t> from_hex(const std::string& text) {
    const auto value_of = [](char digit) {
        return static_cast<std::uint8_t>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
    };
    std::vector<std::uint8_t> bytes;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2)
        bytes.push_back(static_cast<std::uint8_t>(value_of(text[i]) * 16 + value_of(text[i + 1])));
    return bytes;
}

std::string reason_of(const Json& record) {
    return record["dropped"].is_string() ? text(record, "dropped") : "";
}

/// A forwarded datagram is written on both sides, a dropped one only on the side it came from.
void write_sides(PcapngFile& file, const Json& record) {
    CapturedDatagram datagram;
    datagram.at_ns = record["at_ns"].get<std::uint64_t>();
    datagram.tos = record["tos"].get<std::uint8_t>();
    datagram.bytes = record["bytes"].get<std::uint32_t>();
    datagram.kept = from_hex(text(record, "payload"));
    const bool is_request = text(record, "leg") == "request";
    const std::string reason = reason_of(record);
    if (!reason.empty()) datagram.comment = "dropped: " + reason;
    const auto write = [&](Side side, const char* from, const char* to) {
        const Result<Endpoint> source = parse_endpoint(text(record, from));
        const Result<Endpoint> target = parse_endpoint(text(record, to));
        if (!source || !target) return;  // no session, so no endpoints on this side
        datagram.side = side;
        datagram.from = *source;
        datagram.to = *target;
        file.write(datagram);
    };
    if (is_request) {
        write(Side::client, "client", "local");
        if (reason.empty()) write(Side::upstream, "local_endpoint", "service");
    } else {
        write(Side::upstream, "service", "local_endpoint");
        if (reason.empty()) write(Side::client, "local", "client");
    }
}

}  // namespace

std::string view_record(const Json& record, std::size_t width) {
    constexpr std::size_t indent = 2;
    const auto at = record["at_ns"].get<std::int64_t>();
    const bool is_request = text(record, "leg") == "request";
    const std::string reason = reason_of(record);
    const char* const arrow = is_request ? ">" : "<";
    const std::string near = fmt::format(
        "{:%H:%M:%S}.{:06}  {:<7}  {} {} {}",
        fmt::localtime(static_cast<std::time_t>(at / 1'000'000'000)), at % 1'000'000'000 / 1000,
        text(record, "leg"), text(record, "client"), arrow, text(record, "local"));
    std::string far;
    if (const std::string local = text(record, "local_endpoint"); !local.empty())
        far = fmt::format("  {} {} {}", local, arrow, text(record, "service"));
    far += fmt::format("  {} bytes{}", record["bytes"].get<std::uint32_t>(),
                       reason.empty() ? "" : "  DROPPED: " + reason);
    const char* const between = width_of(near) + width_of(far) > width ? "\n" : "";
    return wrapped(near, indent, width) + between + wrapped(far, indent, width) + '\n';
}

Result<void> run_trace(const Client& client, const TraceOptions& options, const Screen& screen) {
    std::signal(SIGINT, [](int) { trace_interrupted = 1; });
    std::signal(SIGTERM, [](int) { trace_interrupted = 1; });
    const auto begun =
        client.json("POST", "/v1/trace",
                    {{"client", options.client}, {"seconds", std::to_string(options.seconds)}});
    if (!begun) return begun.error();
    std::optional<PcapngFile> file;
    if (!options.file.empty()) {
        // After the trace has begun: a trace that is refused leaves an earlier capture as it is.
        Result<PcapngFile> created = PcapngFile::create(options.file);
        if (!created) {
            (void)client.json("POST", "/v1/trace/end");
            return created.error();
        }
        file = std::move(*created);
    }
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{options.seconds};
    std::uint32_t seen = 0;
    std::uint64_t missed = 0;
    Result<void> outcome;
    for (bool last = false; !last;) {
        std::this_thread::sleep_for(fetch_interval);
        last = trace_interrupted != 0 || std::chrono::steady_clock::now() >= deadline;
        const Result<Json> taken = client.json("POST", "/v1/trace/take");
        if (!taken) return taken.error();
        missed += taken->value("missed", std::uint64_t{0});
        for (const Json& record : (*taken)["records"]) {
            if (seen == options.datagrams) break;
            ++seen;
            if (file)
                write_sides(*file, record);
            else
                print(options.json ? as_json(record, -1) : view_record(record, screen.width));
        }
        std::fflush(stdout);
        if (seen == options.datagrams) last = true;
    }
    if (const auto ended = client.json("POST", "/v1/trace/end"); !ended) outcome = ended.error();
    if (file) {
        if (const Result<void> closed = file->close(); !closed) outcome = closed.error();
    }
    print_error(fmt::format(
        "{}{}{}\n", as_number_of(seen, "datagram"), file ? " in " + options.file : "",
        missed > 0 ? fmt::format("; {} more were missed because they came too fast", missed) : ""));
    return outcome;
}

}  // namespace udpproxy::ctl
