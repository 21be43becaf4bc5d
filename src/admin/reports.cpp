// What is reported as JSON. Names are those of the lists in shard/counters.hpp, of the
// configuration, and of docs/architecture.md.
#include "reports.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "metrics.hpp"
#include "page.hpp"
#include "shard_query.hpp"

namespace udpproxy {

namespace {

using Json = nlohmann::ordered_json;

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

Json replies_by_source(const Status& status, const ProxyStatus& proxy) {
    Json list = Json::array();
    const auto add = [&](std::string_view kind, const std::string& source,
                         std::uint64_t datagrams) {
        list.push_back({{"kind", kind}, {"source", source}, {"datagrams", datagrams}});
    };
    add("upstream", proxy.upstream.text, sum_of_replies(status, proxy.number, 0));
    for (const UpstreamStatus::AliasStatus& alias : proxy.upstream.aliases)
        add("alias", alias.text, sum_of_replies(status, proxy.number, alias.counter_index));
    add("unlisted", "", sum_of_drops(status, proxy.number, Drop::unlisted_source));
    return list;
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

Json describe_proxy(const Status& status, const ProxyStatus& proxy) {
    const Endpoint& upstream = proxy.upstream.endpoint;
    Json json{{"name", proxy.name},
              {"listen", Json::array()},
              {"upstream", proxy.upstream.text},
              {"upstream_endpoint", upstream.port != 0 ? format(upstream) : ""}};
    for (const Endpoint& listen : proxy.listen) json["listen"].push_back(format(listen));
    json["draining"] = proxy.draining;
    json["sessions"] = status.use->proxies[proxy.number].sessions.read();
    json["sessions_max"] = proxy.sessions_max;
    json["replies"] = replies_by_source(status, proxy);
    Json& counters = json["counters"] = Json::object();
    for (const CounterSum& sum : sums_of_proxy(status, proxy.number))
        counters[std::string{sum.text.name}] = sum.value;
    Json& drops = json["drops"] = Json::object();
    for (std::size_t reason = 0; reason < drop_reasons.size(); ++reason) {
        if (const std::uint64_t count =
                sum_of_drops(status, proxy.number, static_cast<Drop>(reason)))
            drops[std::string{drop_reasons[reason].name}] = count;
    }
    const QueueState queues = queues_of(status, proxy);
    json["queue_drops"] = queues.drops;
    json["queue_bytes"] = queues.bytes;
    return json;
}

// Requires: the status knows the session's proxy and listener.
Json describe_session(const Status& status, const SessionView& view) {
    const Endpoint& listener = status.find_listener(view.listener)->endpoint;
    const Endpoint local =
        view.local.is_unspecified() ? listener : Endpoint{view.local, 0, listener.port};
    return {{"id", view.id},
            {"proxy", status.find_proxy(view.proxy)->name},
            {"client", format(view.client)},
            {"local", format(local)},
            {"local_endpoint", format(view.local_endpoint)},
            {"requests", view.requests.datagrams},
            {"request_bytes", view.requests.bytes},
            {"replies", view.replies.datagrams},
            {"reply_bytes", view.replies.bytes},
            {"age_seconds", seconds(view.age)},
            {"idle_seconds", seconds(view.idle)},
            {"replied", view.replied},
            {"assured", view.assured}};
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

/// Why the request cannot be met, or nothing.
std::optional<AdminResponse> read_query(const Status& status, const AdminRequest& request,
                                        SessionQuery& query) {
    if (const std::string client = request.argument("client");
        !client.empty() && !read_client(client, query))
        return error_response(
            400, fmt::format("client: \"{}\" is no address, address:port or prefix", client));
    if (const std::string proxy = request.argument("proxy"); !proxy.empty()) {
        const ProxyStatus* found = status.find_proxy(proxy);
        if (found == nullptr)
            return error_response(404, fmt::format("there is no proxy \"{}\"", proxy));
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

AdminResponse show_page(const AdminContext&, const AdminRequest&) {
    return {200, "text/html; charset=utf-8", std::string{admin_page_text},
            std::string{admin_page_policy}};
}

AdminResponse report_status(const AdminContext& context, const AdminRequest&) {
    const Status& status = context.status;
    Json json{{"version", UDPPROXY_VERSION},
              {"pid", ::getpid()},
              {"engine", name_of(status.engine)},
              {"shards", status.shards.size()},
              {"config", status.config_file},
              {"uptime_seconds",
               std::chrono::duration<double>(std::chrono::system_clock::now() - status.started_at)
                   .count()},
              {"ready", status.ready},
              {"reloads", status.reloads},
              {"reload_failures", status.reload_failures},
              {"log_level", name_of(context.log.level())},
              {"proxies", status.proxies.size()},
              {"sessions", status.use->sessions.read()},
              {"sessions_max", status.sessions_max},
              {"descriptors", status.use->descriptors.read()},
              {"descriptors_max", status.descriptors_max}};
    std::uint64_t drops = 0;
    Json totals = Json::object();
    for (const ProxyStatus& proxy : status.proxies) {
        for (const CounterSum& sum : sums_of_proxy(status, proxy.number)) {
            Json& total = totals[std::string{sum.text.name}];
            total = (total.is_null() ? 0 : total.get<std::uint64_t>()) + sum.value;
        }
        for (std::size_t reason = 0; reason < drop_reasons.size(); ++reason)
            drops += sum_of_drops(status, proxy.number, static_cast<Drop>(reason));
    }
    std::uint64_t queue_drops = 0;
    for (const ListenerStatus& listener : status.listeners)
        if (listener.queues) queue_drops += listener.queues->read().drops;
    json["drops"] = drops;
    json["queue_drops"] = queue_drops;
    json["counters"] = totals;
    return as_response(json);
}

AdminResponse report_proxies(const AdminContext& context, const AdminRequest&) {
    Json list = Json::array();
    for (const ProxyStatus& proxy : context.status.proxies)
        list.push_back(describe_proxy(context.status, proxy));
    return as_response({{"proxies", list}});
}

AdminResponse report_sessions(const AdminContext& context, const AdminRequest& request) {
    SessionQuery query;
    if (std::optional<AdminResponse> refusal = read_query(context.status, request, query))
        return *refusal;
    const Result<SessionList> found = list_sessions(context, query);
    if (!found) return error_response(503, found.error().message);
    Json list = Json::array();
    for (const SessionView& view : found->sessions)
        list.push_back(describe_session(context.status, view));
    return as_response({{"found", found->found}, {"sessions", std::move(list)}});
}

AdminResponse report_unlisted(const AdminContext& context, const AdminRequest&) {
    const Result<std::vector<UnlistedView>> found = list_unlisted(context);
    if (!found) return error_response(503, found.error().message);
    Json list = Json::array();
    for (const UnlistedView& view : *found) {
        const ProxyStatus& proxy = *context.status.find_proxy(view.proxy);
        list.push_back({{"proxy", proxy.name},
                        {"source", format(view.source)},
                        {"datagrams", view.datagrams},
                        {"seen_seconds_ago", seconds(view.seen_ago)},
                        {"add", aliases_with(proxy.reply_aliases, view.source)}});
    }
    return as_response({{"unlisted", list}});
}

AdminResponse report_drops(const AdminContext& context, const AdminRequest&) {
    Json list = Json::array();
    for (const ProxyStatus& proxy : context.status.proxies) {
        for (std::size_t reason = 0; reason < drop_reasons.size(); ++reason) {
            const std::uint64_t count =
                sum_of_drops(context.status, proxy.number, static_cast<Drop>(reason));
            if (count == 0) continue;
            list.push_back({{"proxy", proxy.name},
                            {"reason", drop_reasons[reason].name},
                            {"datagrams", count},
                            {"meaning", drop_reasons[reason].help}});
        }
    }
    Json queues = Json::array();
    for (const ListenerStatus& listener : context.status.listeners) {
        const ProxyStatus* proxy = context.status.find_proxy(listener.proxy);
        const QueueState state = listener.queues ? listener.queues->read() : QueueState{};
        if (proxy != nullptr && state.drops > 0)
            queues.push_back({{"proxy", proxy->name},
                              {"listen", format(listener.endpoint)},
                              {"datagrams", state.drops}});
    }
    return as_response({{"drops", list}, {"queue_drops", queues}});
}

AdminResponse report_log(const AdminContext& context, const AdminRequest&) {
    return as_response({{"level", name_of(context.log.level())}});
}

AdminResponse report_metrics(const AdminContext& context, const AdminRequest&) {
    return {200, "text/plain; version=0.0.4; charset=utf-8", metrics_text(context.status)};
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
