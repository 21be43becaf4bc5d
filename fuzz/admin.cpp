// HTTP requests as the library hands them over, to a program with one simulated shard: every answer
// is one of the statuses that verbs have, and well formed; only POST changes anything, and nothing
// is changed without the access. Lines: bytes that choose the scene, method, path, then arguments
// as `name=value`.
#include <nlohmann/json.hpp>
#include <set>

#include "admin/routes.hpp"
#include "fuzz/input.hpp"
#include "sim/sim_thread.hpp"
#include "udpproxy/base/assert.hpp"

namespace udpproxy::fuzz {

namespace {

using sim::at;

constexpr std::string_view proxy_toml =
    "[[proxy]]\nname = \"dns\"\nlisten = \"10.1.0.1:53\"\nupstream = \"10.0.0.254:53\"\n"
    "reply_aliases = [\"10.0.0.253:53\", \"10.0.0.252:53\"]\n";

std::shared_ptr<const Config> one_proxy() {
    return std::make_shared<const Config>(std::get<Config>(parse_config(proxy_toml, "file")));
}

Log& quiet_log() {
    static Log log = *Log::open({LogLevel::info, LogFormat::text, "/dev/null"});
    return log;
}

Status status_with(const std::shared_ptr<sim::SimThread>& thread) {
    const Shard& shard = thread->shard();
    Status status;
    status.config_file = "udpproxy.toml";
    status.config = one_proxy();
    status.shards = {thread};
    status.use = shard.setup.use;
    ProxyStatus& proxy = status.proxies.emplace_back();
    proxy.name = "dns";
    proxy.listen = {"10.1.0.1:53"};
    proxy.reply_aliases = status.config->proxies[0].reply_aliases;
    proxy.upstream = status_of(*sim::small_upstream(), status.config->proxies[0]);
    status.listeners.push_back({0, 0, at("10.1.0.1:53"), nullptr});
    return status;
}

/// Each line a comment or a sample, and no series twice.
void check_metrics(const std::string& text) {
    std::set<std::string_view> series;
    std::string_view left = text;
    UDPPROXY_ASSERT(left.ends_with('\n'));
    while (!left.empty()) {
        const std::string_view line = left.substr(0, left.find('\n'));
        left.remove_prefix(line.size() + 1);
        if (line.starts_with("# HELP ") || line.starts_with("# TYPE ")) continue;
        const std::size_t blank = line.rfind(' ');
        UDPPROXY_ASSERT(blank != std::string_view::npos && line.starts_with("udpproxy_"));
        UDPPROXY_ASSERT(series.insert(line.substr(0, blank)).second);
    }
}

void check_answer(const AdminRequest& request, const AdminResponse& response) {
    using Json = nlohmann::json;
    const std::set<unsigned> known{200, 400, 403, 404, 405, 409, 503};
    UDPPROXY_ASSERT(known.contains(response.status));
    UDPPROXY_ASSERT(!response.policy.empty());
    if (request.path == "/metrics" && response.status == 200) check_metrics(response.body);
    if (response.type != "application/json") return;
    const Json json = Json::parse(response.body, nullptr, false);
    UDPPROXY_ASSERT(json.is_object() && response.body.ends_with('\n'));
    UDPPROXY_ASSERT(json.contains("error") == (response.status != 200));
    if (response.status != 200) {
        UDPPROXY_ASSERT(json.at("error").is_string() && json.size() == 1);
    } else if (request.path == "/v1/sessions") {
        UDPPROXY_ASSERT(json.at("sessions").size() <= json.at("found").get<std::size_t>());
    }
}

}  // namespace

void admin(Bytes bytes) {
    Input input(bytes);
    const bool may_change = input.flag();
    const bool has_peer = input.flag();
    const auto thread = std::make_shared<sim::SimThread>();
    sim::SimShard& sim = thread->simulated;
    for (std::uint32_t client = input.below(4); client > 0; --client) {
        sim.ask(Endpoint{Address::ipv4(0xc0000201U), 0, static_cast<std::uint16_t>(client)}, "?");
        sim.turns();
        // From the upstream, an alias, or somewhere else.
        constexpr std::array<const char*, 3> sources{"10.0.0.254:53", "10.0.0.253:53",
                                                     "10.0.0.66:53"};
        const char* source = sources[input.below(sources.size())];
        for (const sim::Packet& request : sim.asked())
            (void)sim.world->service_sends(at(source), request.from, "!");
        sim.turns();
    }
    (void)input.line();

    AdminRequest request;
    request.method = input.line();
    request.path = input.line();
    // The doctor looks at the machine, and may send.
    if (request.path == "/v1/doctor") return;
    while (!input.is_over()) {
        const std::string_view line = input.line();
        const std::size_t equals = std::min(line.find('='), line.size());
        request.arguments[std::string{line.substr(0, equals)}] =
            line.substr(std::min(equals + 1, line.size()));
    }
    if (has_peer) request.peer = Peer{};
    request.may_change = may_change;

    const Status status = status_with(thread);
    Log& log = quiet_log();
    log.set_level(LogLevel::warn);
    ControlSlot control;
    // Nobody answers for the control thread; the shard answers when it is woken.
    const std::atomic<bool> stopping{true};
    const std::uint32_t sessions = sim.shard().table.size();
    Problems problems;
    if (sessions > 1) problems.push_back({ProblemKind{}, "dns", "a \"text\"\n"});
    const AdminResponse response =
        answer_request({status, problems, log, control, stopping, 1}, request);
    check_answer(request, response);

    const bool has_ended = request.path == "/v1/sessions/kill" && response.status == 200;
    UDPPROXY_ASSERT(sim.shard().table.size() == sessions - (has_ended ? 1 : 0));
    if (request.method != "POST" || !may_change) {
        UDPPROXY_ASSERT(!has_ended && log.level() == LogLevel::warn);
        UDPPROXY_ASSERT(!sim.shard().trace.is_on());
    }
    if (response.status == 200) UDPPROXY_ASSERT(request.method != "POST" || may_change);
}

}  // namespace udpproxy::fuzz
