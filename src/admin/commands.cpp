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
AdminResponse carry_out(const AdminContext& context, Work&& work) {
    AdminResponse response;
    if (context.requests.ask([&](Reconfigurer& reconfigurer) { response = work(reconfigurer); },
                             patience))
        return response;
    return error_response(503, "the control thread is busy or about to end; nothing was changed");
}

AdminResponse no_such_proxy(const std::string& name) {
    return error_response(404,
                          fmt::format("there is no proxy \"{}\", or it is on its way out", name));
}

}  // namespace

AdminResponse reload_configuration(const AdminContext& context, const AdminRequest& request) {
    note_change(context, request, "reload", {});
    return carry_out(context, [](Reconfigurer& reconfigurer) {
        const Reconfigurer::Reload outcome = reconfigurer.reload(monotonic_now());
        if (!outcome.done)
            return error_response(409, fmt::format("not reloaded, everything stays as it was:\n{}",
                                                   fmt::join(outcome.lines, "\n")));
        return as_response({{"reloads", reconfigurer.reloads()}, {"changes", outcome.lines}});
    });
}

AdminResponse begin_drain(const AdminContext& context, const AdminRequest& request) {
    const std::string proxy = request.argument("proxy");
    note_change(context, request, "drain", {{"proxy", proxy}});
    return carry_out(context, [&](Reconfigurer& reconfigurer) {
        const Instant now = monotonic_now();
        if (!reconfigurer.drain(proxy.empty() ? std::nullopt : std::optional{proxy}, now))
            return no_such_proxy(proxy);
        Json json{{"proxy", proxy}, {"sessions", reconfigurer.sessions(proxy)}};
        if (proxy.empty())
            json["seconds_at_most"] =
                std::chrono::duration<double>(*reconfigurer.drain_deadline() - now).count();
        return as_response(json);
    });
}

AdminResponse end_drain(const AdminContext& context, const AdminRequest& request) {
    const std::string proxy = request.argument("proxy");
    note_change(context, request, "resume", {{"proxy", proxy}});
    return carry_out(context, [&](Reconfigurer& reconfigurer) {
        if (!reconfigurer.is_ready())
            return error_response(
                409, "all proxies drain, and then the program ends; that cannot be taken back");
        if (!reconfigurer.resume(proxy)) return no_such_proxy(proxy);
        return as_response({{"proxy", proxy}, {"sessions", reconfigurer.sessions(proxy)}});
    });
}

AdminResponse examine_program(const AdminContext& context, const AdminRequest& request) {
    DoctorRequest query;
    query.probe_payload = request.argument("probe");
    query.with_probe = !query.probe_payload.empty();
    query.probe_proxy = request.argument("proxy");
    query.resolves_names = false;  // a resolver may take longer than who asked waits
    if (query.with_probe)
        note_change(
            context, request, "doctor",
            {{"probe_bytes", query.probe_payload.size() / 2}, {"proxy", query.probe_proxy}});
    const Result<std::vector<Finding>> findings = examine(*context.status.config, query);
    if (!findings) return error_response(400, findings.error().message);
    Json json = Json::parse(findings_json(*findings));
    json["text"] = findings_text(*findings);  // as `udpproxy --doctor` prints it
    return as_response(json);
}

}  // namespace udpproxy
