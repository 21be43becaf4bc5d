// Writes the reports as JSON. Names are those of the lists in shard/counters.hpp, of the
// configuration, and of docs/architecture.md.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "metrics.hpp"
#include "page.hpp"
#include "shard_query.hpp"
#include "verbs.hpp"

namespace udpproxy {

namespace {

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

void write_replies(JsonText& json, const Status& status, const ProxyStatus& proxy) {
    const auto add = [&](std::string_view kind, std::string_view source, std::uint64_t datagrams) {
        json.begin_object().member("kind", kind).member("source", source);
        json.member("datagrams", datagrams).end_object();
    };
    json.key("replies").begin_array();
    add("upstream", proxy.upstream.text, sum_of_replies(status, proxy.number, 0));
    for (const UpstreamStatus::AliasStatus& alias : proxy.upstream.aliases)
        add("alias", alias.text, sum_of_replies(status, proxy.number, alias.counter_index));
    add("unlisted", "", sum_of_drops(status, proxy.number, Drop::unlisted_source));
    json.end_array();
}

QueueState queues_of(const Status& status, const ProxyStatus& proxy) {
    QueueState queues;
    for (const ListenerStatus& listener : status.listeners) {
        if (listener.proxy != proxy.number || !listener.queues) continue;
        const QueueState state = listener.queues->read();
        queues.drops += state.drops;
        queues.bytes += state.bytes;
    }
    return queues;
}

void write_proxy(JsonText& json, const Status& status, const ProxyStatus& proxy) {
    const Endpoint& upstream = proxy.upstream.endpoint;
    json.begin_object().member("name", proxy.name).key("listen").begin_array();
    for (const std::string& listen : proxy.listen) json.value(listen);
    json.end_array();
    json.member("upstream", proxy.upstream.text);
    const bool is_usable = upstream.port != 0 && !is_absent_interface(upstream.scope);
    json.member("upstream_endpoint", is_usable ? format(upstream) : "");
    json.member("draining", proxy.draining);
    json.member("sessions", status.use->proxies[proxy.number].sessions.read());
    json.member("sessions_max", proxy.sessions_max).member("capacity", proxy.capacity);
    write_replies(json, status, proxy);
    json.key("counters").begin_object();
    for (const CounterSum& sum : sums_of_proxy(status, proxy.number))
        json.member(sum.text.name, sum.value);
    json.end_object().key("drops").begin_object();
    for (std::size_t reason = 0; reason < drop_reasons.size(); ++reason) {
        if (const std::uint64_t count =
                sum_of_drops(status, proxy.number, static_cast<Drop>(reason)))
            json.member(drop_reasons[reason].name, count);
    }
    json.end_object();
    const QueueState queues = queues_of(status, proxy);
    json.member("queue_drops", queues.drops).member("queue_bytes", queues.bytes).end_object();
}

void write_worker(JsonText& json, const Succession& succession) {
    const auto text = [&](std::string_view name, const std::string& value) {
        json.key(name);
        if (value.empty())
            json.null();
        else
            json.value(value);
    };
    json.key("worker").begin_object();
    text("text", text_of(succession));
    json.member("reason", name_of(succession.reason));
    write_worker_starts(json, succession);
    text("from_version", succession.from_version);
    text("last_end", succession.last_end);
    json.member("sessions_adopted", succession.sessions_adopted);
    json.member("sessions_closed", succession.sessions_closed);
    json.member("records_not_believed", succession.records_not_believed);
    json.key("pause_ms");
    if (succession.pause)
        json.value(1000 * seconds(*succession.pause));
    else
        json.null();
    json.member("upgrades_refused", succession.upgrades_refused);
    text("last_refusal", succession.last_refusal);
    json.end_object();
}

/// Size of one session from write_session(), with addresses of either family and a usual name.
constexpr std::size_t session_text_bytes = 400;

// Requires: the status knows the session's proxy and listener.
void write_session(JsonText& json, const Status& status, const SessionView& view) {
    const Endpoint& listener = status.find_listener(view.listener)->endpoint;
    const Endpoint local =
        view.local.is_unspecified() ? listener : Endpoint{view.local, 0, listener.port};
    json.begin_object();
    json.member("id", view.id);
    json.member("proxy", status.find_proxy(view.proxy)->name);
    json.member("client", format(view.client));
    json.member("local", format(local));
    json.member("local_endpoint", format(view.local_endpoint));
    json.member("requests", view.requests.datagrams);
    json.member("request_bytes", view.requests.bytes);
    json.member("replies", view.replies.datagrams);
    json.member("reply_bytes", view.replies.bytes);
    json.member("age_seconds", seconds(view.age));
    json.member("idle_seconds", seconds(view.idle));
    json.member("replied", view.replied);
    json.member("assured", view.assured);
    json.end_object();
}

/// `10.1.0.2`, `10.1.0.2:5000`, `[fd00::1]:5000`, `10.1.0.0/24`
bool read_client(const std::string& text, SessionQuery& query) {
    if (const Result<Address> address = parse_address(text)) {
        query.client = Prefix{*address, static_cast<std::uint8_t>(address->is_ipv4() ? 32 : 128)};
    } else if (const Result<Endpoint> endpoint = parse_endpoint(text)) {
        query.client = Prefix{endpoint->address,
                              static_cast<std::uint8_t>(endpoint->address.is_ipv4() ? 32 : 128)};
        query.client_port = endpoint->port;
    } else if (const Result<Prefix> prefix = parse_prefix(text)) {
        query.client = *prefix;
    } else {
        return false;
    }
    return true;
}

/// Why the request is invalid, or nothing.
std::optional<AdminResponse> read_query(const Status& status, const AdminRequest& request,
                                        SessionQuery& query) {
    if (const std::string client = request.argument("client");
        !client.empty() && !read_client(client, query))
        return error_response(
            400, fmt::format("client: \"{}\" is no address, address:port or prefix", client));
    if (const std::string proxy = request.argument("proxy"); !proxy.empty()) {
        const ProxyStatus* found = status.find_proxy(proxy);
        if (found == nullptr) return no_such_proxy(status, proxy);
        query.proxy = found->number;
    }
    const std::string order = request.argument("sort");
    if (order == "bytes")
        query.order = SessionQuery::Order::bytes;
    else if (order == "age")
        query.order = SessionQuery::Order::age;
    else if (order == "idle")
        query.order = SessionQuery::Order::idle;
    else if (!order.empty())
        return error_response(
            400, fmt::format("sort: \"{}\" is no order; write bytes, age or idle", order));
    if (const std::string limit = request.argument("limit"); !limit.empty()) {
        const auto [end, error] =
            std::from_chars(limit.data(), limit.data() + limit.size(), query.limit);
        if (error != std::errc{} || end != limit.data() + limit.size() || query.limit < 1 ||
            query.limit > 100000)
            return error_response(
                400, fmt::format("limit: \"{}\" is no number from 1 to 100000", limit));
    }
    return std::nullopt;
}

}  // namespace

void write_worker_starts(JsonText& json, const Succession& succession) {
    json.key("starts").begin_object();
    for (std::size_t reason = 0; reason < start_reasons; ++reason)
        json.member(name_of(static_cast<StartReason>(reason)), succession.starts[reason]);
    json.end_object();
}

AdminResponse show_page(const AdminContext&, const AdminRequest&) {
    return {200, "text/html; charset=utf-8", std::string{admin_page_text},
            std::string{admin_page_policy}};
}

AdminResponse report_status(const AdminContext& context, const AdminRequest&) {
    const Status& status = context.status;
    const auto uptime = std::chrono::system_clock::now() - status.started_at;
    JsonText json;
    json.begin_object();
    json.key("problems").begin_array();
    for (const Problem& problem : context.problems) {
        json.begin_object();
        json.member("proxy", problem.proxy);
        json.member("kind", name_of(problem.kind));
        json.member("text", problem.text);
        json.end_object();
    }
    json.end_array();
    json.member("version", UDPPROXY_VERSION);
    json.member("pid", context.process);
    json.member("engine", name_of(status.engine));
    json.member("shards", status.shards.size());
    json.member("config", status.config_file);
    json.member("uptime_seconds", std::chrono::duration<double>(uptime).count());
    json.member("ready", status.ready);
    json.member("reloads", status.reloads);
    json.member("reload_failures", status.reload_failures);
    write_worker(json, status.succession);
    json.member("log_level", name_of(context.log.level()));
    json.member("proxies", status.proxies.size());
    json.member("sessions", status.use->sessions.read());
    json.member("sessions_max", status.sessions_max);
    json.member("descriptors", status.use->descriptors.read());
    json.member("descriptors_max", status.descriptors_max);
    std::uint64_t drops = 0;
    std::uint64_t queue_drops = 0;
    std::array<std::uint64_t, proxy_counter_texts.size()> totals{};
    for (const ProxyStatus& proxy : status.proxies) {
        const std::vector<CounterSum> sums = sums_of_proxy(status, proxy.number);
        for (std::size_t i = 0; i < sums.size(); ++i) totals[i] += sums[i].value;
        for (std::size_t reason = 0; reason < drop_reasons.size(); ++reason)
            drops += sum_of_drops(status, proxy.number, static_cast<Drop>(reason));
    }
    for (const ListenerStatus& listener : status.listeners)
        if (listener.queues) queue_drops += listener.queues->read().drops;
    json.member("drops", drops).member("queue_drops", queue_drops).key("counters").begin_object();
    for (std::size_t i = 0; i < totals.size(); ++i)
        json.member(proxy_counter_texts[i].name, totals[i]);
    return as_response(json.end_object().end_object());
}

AdminResponse report_proxies(const AdminContext& context, const AdminRequest&) {
    JsonText json;
    json.begin_object().key("proxies").begin_array();
    for (const ProxyStatus& proxy : context.status.proxies)
        write_proxy(json, context.status, proxy);
    return as_response(json.end_array().end_object());
}

AdminResponse report_sessions(const AdminContext& context, const AdminRequest& request) {
    SessionQuery query;
    if (std::optional<AdminResponse> refusal = read_query(context.status, request, query))
        return *refusal;
    const Result<SessionList> found = list_sessions(context, query);
    if (!found) return error_response(503, found.error().message);
    JsonText json;
    json.reserve(session_text_bytes * (1 + found->sessions.size()));  // else it grows by doubling
    json.begin_object().member("found", found->found).key("sessions").begin_array();
    for (const SessionView& view : found->sessions) write_session(json, context.status, view);
    return as_response(json.end_array().end_object());
}

AdminResponse report_unlisted(const AdminContext& context, const AdminRequest&) {
    const Result<std::vector<UnlistedView>> found = list_unlisted(context);
    if (!found) return error_response(503, found.error().message);
    JsonText json;
    json.begin_object().key("unlisted").begin_array();
    for (const UnlistedView& view : *found) {
        const ProxyStatus& proxy = *context.status.find_proxy(view.proxy);
        json.begin_object();
        json.member("proxy", proxy.name);
        json.member("source", format(view.source));
        json.member("datagrams", view.datagrams);
        json.member("seen_seconds_ago", seconds(view.seen_ago));
        const bool any_port =
            std::any_of(found->begin(), found->end(), [&](const UnlistedView& other) {
                return other.proxy == view.proxy && differ_in_port(other.source, view.source);
            });
        json.member("add", aliases_with(proxy.reply_aliases, view.source, any_port));
        json.end_object();
    }
    return as_response(json.end_array().end_object());
}

AdminResponse report_drops(const AdminContext& context, const AdminRequest&) {
    JsonText json;
    json.begin_object().key("drops").begin_array();
    for (const ProxyStatus& proxy : context.status.proxies) {
        for (std::size_t reason = 0; reason < drop_reasons.size(); ++reason) {
            const std::uint64_t count =
                sum_of_drops(context.status, proxy.number, static_cast<Drop>(reason));
            if (count == 0) continue;
            json.begin_object();
            json.member("proxy", proxy.name);
            json.member("reason", drop_reasons[reason].name);
            json.member("datagrams", count);
            json.member("meaning", drop_reasons[reason].help);
            json.end_object();
        }
    }
    json.end_array().key("queue_drops").begin_array();
    for (const ListenerStatus& listener : context.status.listeners) {
        const ProxyStatus* proxy = context.status.find_proxy(listener.proxy);
        const QueueState state = listener.queues ? listener.queues->read() : QueueState{};
        if (proxy == nullptr || state.drops == 0) continue;
        json.begin_object().member("proxy", proxy->name);
        json.member("listen", format(listener.endpoint));
        json.member("datagrams", state.drops).end_object();
    }
    return as_response(json.end_array().end_object());
}

AdminResponse report_log(const AdminContext& context, const AdminRequest&) {
    JsonText json;
    return as_response(
        json.begin_object().member("level", name_of(context.log.level())).end_object());
}

AdminResponse report_metrics(const AdminContext& context, const AdminRequest&) {
    return {200, "text/plain; version=0.0.4; charset=utf-8",
            metrics_text(context.status, context.problems, context.log)};
}

AdminResponse report_live(const AdminContext& context, const AdminRequest&) {
    const Result<void> present = check_liveness(context);
    if (!present) return error_response(503, present.error().message);
    return {200, "text/plain; charset=utf-8", "live\n"};
}

AdminResponse report_ready(const AdminContext& context, const AdminRequest&) {
    if (!context.status.ready) return error_response(503, "no new clients are taken");
    return {200, "text/plain; charset=utf-8", "ready\n"};
}

}  // namespace udpproxy
