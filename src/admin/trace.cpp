// One client's datagrams, from the shards' mailboxes to JSON.
#include "trace.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "changes.hpp"
#include "shard_query.hpp"

namespace udpproxy {

namespace {

using Json = nlohmann::ordered_json;

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

Json describe(const Status& status, const TraceRecord& record,
              std::chrono::nanoseconds wall_offset) {
    const Endpoint local = record.local.is_unspecified()
                               ? record.listen
                               : Endpoint{record.local, 0, record.listen.port};
    const ProxyStatus* proxy = status.find_proxy(record.proxy);  // null: it came after the status
    Json json{
        {"at_ns", (record.at.time_since_epoch() + wall_offset).count()},
        {"leg", record.leg == Leg::request ? "request" : "reply"},
        {"proxy", proxy != nullptr ? proxy->name : ""},
        {"client", format(record.client)},
        {"local", format(local)},
        {"local_endpoint", record.local_endpoint.port != 0 ? format(record.local_endpoint) : ""},
        {"service", record.service.port != 0 ? format(record.service) : ""},
        {"tos", record.tos},
        {"bytes", record.bytes},
        {"payload", as_hex(record)}};
    json["dropped"] = record.dropped
                          ? Json(drop_reasons[static_cast<std::size_t>(*record.dropped)].name)
                          : Json(nullptr);
    return json;
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
    question.until = monotonic_now() + std::chrono::seconds{seconds};
    for (const auto& shard : context.status.shards) {
        TraceRecord stale;
        while (shard->shard().trace.take(stale)) {
        }
        (void)shard->shard().trace.take_missed();
    }
    const Result<bool> begun = trace_everywhere(context, question);
    if (!begun) return error_response(503, begun.error().message);
    if (!*begun) return error_response(409, "another trace is on; one at a time");
    note_change(context, request, "trace",
                {{"client", request.argument("client")}, {"seconds", seconds}});
    return {200, "application/json", Json{{"seconds", seconds}}.dump() + '\n'};
}

AdminResponse take_trace(const AdminContext& context, const AdminRequest&) {
    // Between the wall clock now and the monotonic one now; it may step between two calls, as
    // capture files' times do.
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
    Json list = Json::array();
    for (const TraceRecord& each : records)
        list.push_back(describe(context.status, each, wall_offset));
    return {200, "application/json",
            Json{{"missed", missed}, {"records", std::move(list)}}.dump() + '\n'};
}

AdminResponse end_trace(const AdminContext& context, const AdminRequest&) {
    Question question;
    question.kind = QuestionKind::end_trace;
    const Result<bool> ended = trace_everywhere(context, question);
    if (!ended) return error_response(503, ended.error().message);
    return {200, "application/json", "{}\n"};
}

}  // namespace udpproxy
