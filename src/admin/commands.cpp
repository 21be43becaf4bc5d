// Each verb: a piece of work for the control thread, and its outcome as JSON.
#include "commands.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "changes.hpp"
#include "udpproxy/doctor/doctor.hpp"
#include "udpproxy/runtime/control_queue.hpp"
#include "udpproxy/runtime/reconfigurer.hpp"

namespace udpproxy {

namespace {

using Json = nlohmann::ordered_json;

/// The control thread looks ten times a second; a reload before ours may take some seconds.
constexpr Duration patience = std::chrono::seconds{5};

/// What `work` returns; an answer that says so when nobody did it.
template <class Work>
AdminResponse carry_out(const AdminScene& scene, Work&& work) {
    AdminResponse response;
    if (scene.requests.ask([&](Operation& operation) { response = work(operation); }, patience)) return response;
    return refuse_request(503, "the control thread is busy or about to end; nothing was changed");
}

AdminResponse no_such_proxy(const std::string& name) {
    return refuse_request(404, fmt::format("there is no proxy \"{}\", or it is on its way out", name));
}

/// What is in force, names with the addresses that they have now.
Config config_in_force(const Operation& operation) {
    Config config = operation.config();
    for (ProxyConfig& proxy : config.proxies) {
        for (const ProxyPlace& place : operation.proxies()) {
            const bool is_place = place.state == PlaceState::serving && place.config.name == proxy.name;
            if (is_place && place.upstream->is_resolved()) proxy.upstream.endpoint = place.upstream->endpoint();
        }
    }
    return config;
}

}  // namespace

AdminResponse reload_configuration(const AdminScene& scene, const AdminRequest& request) {
    note_change(scene, request, "reload", {});
    return carry_out(scene, [](Operation& operation) {
        const Operation::Reload outcome = operation.reload(monotonic_now());
        if (!outcome.done)
            return refuse_request(409, fmt::format("not reloaded, everything stays as it was:\n{}", fmt::join(outcome.lines, "\n")));
        return as_response({{"reloads", operation.reloads()}, {"changes", outcome.lines}});
    });
}

AdminResponse begin_drain(const AdminScene& scene, const AdminRequest& request) {
    const std::string proxy = request.argument("proxy");
    note_change(scene, request, "drain", {{"proxy", proxy}});
    return carry_out(scene, [&](Operation& operation) {
        const Instant now = monotonic_now();
        if (!operation.drain(proxy.empty() ? std::nullopt : std::optional{proxy}, now)) return no_such_proxy(proxy);
        Json json{{"proxy", proxy}, {"sessions", operation.sessions(proxy)}};
        if (proxy.empty()) json["seconds_at_most"] = std::chrono::duration<double>(*operation.drain_deadline() - now).count();
        return as_response(json);
    });
}

AdminResponse end_drain(const AdminScene& scene, const AdminRequest& request) {
    const std::string proxy = request.argument("proxy");
    note_change(scene, request, "resume", {{"proxy", proxy}});
    return carry_out(scene, [&](Operation& operation) {
        if (!operation.is_ready()) return refuse_request(409, "all proxies drain, and then the program ends; that cannot be taken back");
        if (!operation.resume(proxy)) return no_such_proxy(proxy);
        return as_response({{"proxy", proxy}, {"sessions", operation.sessions(proxy)}});
    });
}

AdminResponse examine_program(const AdminScene& scene, const AdminRequest& request) {
    DoctorRequest wish;
    wish.probe_payload = request.argument("probe");
    wish.with_probe = !wish.probe_payload.empty();
    wish.probe_proxy = request.argument("proxy");
    wish.resolves_names = false;  // a resolver may take longer than who asked waits
    Config config;
    const bool is_known = scene.requests.ask([&](Operation& operation) { config = config_in_force(operation); }, patience);
    if (!is_known) return refuse_request(503, "the control thread is busy or about to end; nothing was looked at");
    if (wish.with_probe)
        note_change(scene, request, "doctor", {{"probe_bytes", wish.probe_payload.size() / 2}, {"proxy", wish.probe_proxy}});
    const Result<std::vector<Finding>> findings = examine(config, wish);
    if (!findings) return refuse_request(400, findings.error().message);
    Json json = Json::parse(findings_json(*findings));
    json["text"] = findings_text(*findings);  // as `udpproxy --doctor` prints it
    return as_response(json);
}

}  // namespace udpproxy
