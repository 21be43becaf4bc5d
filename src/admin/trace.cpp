// Traces one client's datagrams, from the shards' mailboxes to JSON.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "shard_query.hpp"
#include "verbs.hpp"

namespace udpproxy {

namespace {

constexpr std::uint32_t seconds_max = 600;

bool read_client(const std::string& text, Endpoint& client) {
    if (const Result<Address> address = parse_address(text)) {
        client = Endpoint{*address, 0, 0};
        return true;
    }
    const Result<Endpoint> endpoint = parse_endpoint(text);
    if (endpoint) client = *endpoint;
    return endpoint.has_value();
}

std::string as_hex(const TraceRecord& record) {
    static constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (std::uint32_t i = 0; i < record.kept; ++i) {
        const auto value = static_cast<unsigned>(record.payload[i]);
        text += digits[value >> 4U];
        text += digits[value & 15U];
    }
    return text;
}

void write_record(JsonText& json, const Status& status, const TraceRecord& record,
                  std::chrono::nanoseconds wall_offset) {
    const Endpoint local = record.local.is_unspecified()
                               ? record.listen
                               : Endpoint{record.local, 0, record.listen.port};
    const ProxyStatus* proxy = status.find_proxy(record.proxy);  // null: newer than the status
    json.begin_object();
    json.member("at_ns", (record.at.time_since_epoch() + wall_offset).count());
    json.member("leg", record.leg == Leg::request ? "request" : "reply");
    json.member("proxy", proxy != nullptr ? proxy->name : "");
    json.member("client", format(record.client));
    json.member("local", format(local));
    json.member("local_endpoint",
                record.local_endpoint.port != 0 ? format(record.local_endpoint) : "");
    json.member("service", record.service.port != 0 ? format(record.service) : "");
    json.member("tos", record.tos);
    json.member("bytes", record.bytes);
    json.member("payload", as_hex(record));
    json.key("dropped");
    if (record.dropped)
        json.value(drop_reasons[static_cast<std::size_t>(*record.dropped)].name);
    else
        json.null();
    json.end_object();
}

/// Discards the records of a trace that has ended without being read to its end.
void discard_records(const Status& status) {
    for (const auto& shard : status.shards) {
        TraceRecord stale;
        while (shard->shard().trace.take(stale)) {
        }
        (void)shard->shard().trace.take_missed();
    }
}

}  // namespace

AdminResponse begin_trace(const AdminContext& context, const AdminRequest& request) {
    Question question;
    question.kind = QuestionKind::begin_trace;
    Endpoint client;
    if (const std::string text = request.argument("client"); !read_client(text, client))
        return error_response(
            400, fmt::format("client: \"{}\" is no address and no address:port", text));
    std::uint32_t seconds = 60;
    if (const std::string text = request.argument("seconds"); !text.empty()) {
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
        if (error != std::errc{} || end != text.data() + text.size() || seconds < 1 ||
            seconds > seconds_max)
            return error_response(
                400, fmt::format("seconds: \"{}\" is no number from 1 to {}", text, seconds_max));
    }
    question.client =
        Prefix{client.address, static_cast<std::uint8_t>(client.address.is_ipv4() ? 32 : 128)};
    question.client_port = client.port;
    // First begin a trace that ends at once. It shows whether another trace is running before the
    // records of an earlier one are discarded.
    for (const Instant until : {Instant{}, monotonic_now() + std::chrono::seconds{seconds}}) {
        question.until = until;
        const Result<bool> begun = trace_everywhere(context, question);
        if (!begun) return error_response(503, begun.error().message);
        if (!*begun) return error_response(409, "another trace is on; one at a time");
        if (until == Instant{}) discard_records(context.status);
    }
    note_change(context, request, "trace",
                {{"client", request.argument("client")}, {"seconds", seconds}});
    JsonText json;
    return as_response(json.begin_object().member("seconds", seconds).end_object());
}

AdminResponse take_trace(const AdminContext& context, const AdminRequest&) {
    // The offset of the wall clock from the monotonic clock now. It may step between two calls, as
    // the times in capture files do.
    const auto wall_offset = std::chrono::duration_cast<std::chrono::nanoseconds>(
                                 std::chrono::system_clock::now().time_since_epoch()) -
                             monotonic_now().time_since_epoch();
    std::vector<TraceRecord> records;
    std::uint64_t missed = 0;
    TraceRecord record;
    for (const auto& shard : context.status.shards) {
        while (shard->shard().trace.take(record)) records.push_back(record);
        missed += shard->shard().trace.take_missed();
    }
    std::stable_sort(
        records.begin(), records.end(),
        [](const TraceRecord& left, const TraceRecord& right) { return left.at < right.at; });
    JsonText json;
    json.begin_object().member("missed", missed).key("records").begin_array();
    for (const TraceRecord& each : records) write_record(json, context.status, each, wall_offset);
    return as_response(json.end_array().end_object());
}

AdminResponse end_trace(const AdminContext& context, const AdminRequest&) {
    Question question;
    question.kind = QuestionKind::end_trace;
    const Result<bool> ended = trace_everywhere(context, question);
    if (!ended) return error_response(503, ended.error().message);
    JsonText json;
    return as_response(json.begin_object().end_object());
}

}  // namespace udpproxy
