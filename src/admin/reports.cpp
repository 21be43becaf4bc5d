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

std::optional<std::uint16_t> find_proxy(const Roster& roster, const std::string& name) {
    for (std::size_t i = 0; i < roster.proxies.size(); ++i) {
        if (roster.proxies[i].name == name) return static_cast<std::uint16_t>(i);
    }
    return std::nullopt;
}

/// Empty while the upstream's name has no address.
std::string format_upstream(const Roster& roster, std::size_t proxy) {
    const Upstream& upstream = *roster.proxies[proxy].upstream;
    return upstream.is_resolved() ? format(upstream.endpoint()) : "";
}

Json replies_by_source(const Roster& roster, std::size_t index) {
    Json list = Json::array();
    const auto add = [&](std::string_view kind, const std::string& source,
                         std::uint64_t datagrams) {
        list.push_back({{"kind", kind}, {"source", source}, {"datagrams", datagrams}});
    };
    const ProxyConfig& config = roster.config->proxies[index];
    add("upstream", config.upstream.text, sum_of_replies(roster, index, 0));
    for (std::size_t i = 0; i < config.reply_aliases.size(); ++i)
        add("alias", config.reply_aliases[i].text,
            sum_of_replies(roster, index, roster.proxies[index].upstream->counter_index(i)));
    add("unlisted", "", sum_of_drops(roster, index, Drop::unlisted_source));
    return list;
}

Json describe_proxy(const Roster& roster, std::size_t index) {
    const ProxyConfig& config = roster.config->proxies[index];
    Json json{{"name", config.name},
              {"listen", Json::array()},
              {"upstream", config.upstream.text},
              {"upstream_endpoint", format_upstream(roster, index)}};
    for (const ListenAddress& listen : config.listen)
        json["listen"].push_back(format(listen.endpoint));
    json["draining"] = static_cast<bool>(roster.draining[index]);
    json["sessions"] = roster.use->proxies[index].sessions.read();
    json["sessions_max"] = roster.proxies[index].sessions_max;
    json["replies"] = replies_by_source(roster, index);
    Json& counters = json["counters"] = Json::object();
    for (const CounterSum& sum : sums_of_proxy(roster, index))
        counters[std::string{sum.text.name}] = sum.value;
    Json& drops = json["drops"] = Json::object();
    for (std::size_t reason = 0; reason < drop_reasons.size(); ++reason) {
        if (const std::uint64_t count = sum_of_drops(roster, index, static_cast<Drop>(reason)))
            drops[std::string{drop_reasons[reason].name}] = count;
    }
    QueueState queues;
    for (const ListenerWatch& listener : roster.listeners) {
        if (listener.proxy != index) continue;
        const QueueState state = queue_state(listener);
        queues.drops += state.drops;
        queues.bytes += state.bytes;
    }
    json["queue_drops"] = queues.drops;
    json["queue_bytes"] = queues.bytes;
    return json;
}

Json describe_session(const Roster& roster, const SessionView& view) {
    const Endpoint& listener = roster.listener_endpoints[view.listener];
    const Endpoint local =
        view.local.is_unspecified() ? listener : Endpoint{view.local, 0, listener.port};
    return {{"id", view.id},
            {"proxy", roster.proxies[view.proxy].name},
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
std::optional<AdminResponse> read_query(const Roster& roster, const AdminRequest& request,
                                        SessionQuery& query) {
    if (const std::string client = request.argument("client");
        !client.empty() && !read_client(client, query))
        return error_response(
            400, fmt::format("client: \"{}\" is no address, address:port or prefix", client));
    if (const std::string proxy = request.argument("proxy"); !proxy.empty()) {
        query.proxy = find_proxy(roster, proxy);
        if (!query.proxy)
            return error_response(404, fmt::format("there is no proxy \"{}\"", proxy));
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
    Roster& roster = context.roster;
    const std::lock_guard lock(roster.mutex);
    Json json{{"version", UDPPROXY_VERSION},
              {"pid", ::getpid()},
              {"engine", name_of(roster.engine)},
              {"shards", roster.shards->size()},
              {"config", roster.config_file},
              {"uptime_seconds",
               std::chrono::duration<double>(std::chrono::system_clock::now() - roster.started_at)
                   .count()},
              {"ready", roster.ready.load(std::memory_order_relaxed)},
              {"log_level", name_of(context.log.level())},
              {"proxies", roster.proxies.size()},
              {"sessions", roster.use->sessions.read()},
              {"sessions_max", roster.sessions_max},
              {"descriptors", roster.use->descriptors.read()},
              {"descriptors_max", roster.descriptors_max}};
    std::uint64_t drops = 0;
    Json totals = Json::object();
    for (std::size_t index = 0; index < roster.proxies.size(); ++index) {
        for (const CounterSum& sum : sums_of_proxy(roster, index)) {
            Json& total = totals[std::string{sum.text.name}];
            total = (total.is_null() ? 0 : total.get<std::uint64_t>()) + sum.value;
        }
        for (std::size_t reason = 0; reason < drop_reasons.size(); ++reason)
            drops += sum_of_drops(roster, index, static_cast<Drop>(reason));
    }
    std::uint64_t queue_drops = 0;
    for (const ListenerWatch& listener : roster.listeners)
        queue_drops += queue_state(listener).drops;
    json["drops"] = drops;
    json["queue_drops"] = queue_drops;
    json["counters"] = totals;
    return as_response(json);
}

AdminResponse report_proxies(const AdminContext& context, const AdminRequest&) {
    const std::lock_guard lock(context.roster.mutex);
    Json list = Json::array();
    for (std::size_t index = 0; index < context.roster.proxies.size(); ++index)
        list.push_back(describe_proxy(context.roster, index));
    return as_response({{"proxies", list}});
}

AdminResponse report_sessions(const AdminContext& context, const AdminRequest& request) {
    const std::lock_guard lock(context.roster.mutex);
    SessionQuery query;
    if (std::optional<AdminResponse> refusal = read_query(context.roster, request, query))
        return *refusal;
    const Result<SessionList> found = list_sessions(context.roster, query);
    if (!found) return error_response(503, found.error().message);
    Json list = Json::array();
    for (const SessionView& view : found->sessions)
        list.push_back(describe_session(context.roster, view));
    return as_response({{"found", found->found}, {"sessions", std::move(list)}});
}

AdminResponse report_unlisted(const AdminContext& context, const AdminRequest&) {
    const std::lock_guard lock(context.roster.mutex);
    const Result<std::vector<UnlistedView>> found = list_unlisted(context.roster);
    if (!found) return error_response(503, found.error().message);
    Json list = Json::array();
    for (const UnlistedView& view : *found) {
        const ProxyConfig& proxy = context.roster.config->proxies[view.proxy];
        list.push_back({{"proxy", proxy.name},
                        {"source", format(view.source)},
                        {"datagrams", view.datagrams},
                        {"seen_seconds_ago", seconds(view.seen_ago)},
                        {"add", aliases_with(proxy, view.source)}});
    }
    return as_response({{"unlisted", list}});
}

AdminResponse report_drops(const AdminContext& context, const AdminRequest&) {
    const std::lock_guard lock(context.roster.mutex);
    Json list = Json::array();
    for (std::size_t index = 0; index < context.roster.proxies.size(); ++index) {
        for (std::size_t reason = 0; reason < drop_reasons.size(); ++reason) {
            const std::uint64_t count =
                sum_of_drops(context.roster, index, static_cast<Drop>(reason));
            if (count == 0) continue;
            list.push_back({{"proxy", context.roster.proxies[index].name},
                            {"reason", drop_reasons[reason].name},
                            {"datagrams", count},
                            {"meaning", drop_reasons[reason].help}});
        }
    }
    Json queues = Json::array();
    for (const ListenerWatch& listener : context.roster.listeners) {
        const QueueState state = queue_state(listener);
        if (state.drops > 0)
            queues.push_back({{"proxy", context.roster.proxies[listener.proxy].name},
                              {"listen", listener.listen},
                              {"datagrams", state.drops}});
    }
    return as_response({{"drops", list}, {"queue_drops", queues}});
}

AdminResponse report_log(const AdminContext& context, const AdminRequest&) {
    return as_response({{"level", name_of(context.log.level())}});
}

AdminResponse report_metrics(const AdminContext& context, const AdminRequest&) {
    const std::lock_guard lock(context.roster.mutex);
    return {200, "text/plain; version=0.0.4; charset=utf-8", metrics_text(context.roster)};
}

AdminResponse report_live(const AdminContext& context, const AdminRequest&) {
    const std::lock_guard lock(context.roster.mutex);
    const Result<void> present = check_liveness(context.roster);
    if (!present) return error_response(503, present.error().message);
    return {200, "text/plain; charset=utf-8", "live\n"};
}

AdminResponse report_ready(const AdminContext& context, const AdminRequest&) {
    if (!context.roster.ready.load(std::memory_order_relaxed))
        return error_response(503, "no new clients are taken");
    return {200, "text/plain; charset=utf-8", "ready\n"};
}

}  // namespace udpproxy
