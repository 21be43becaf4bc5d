// Carries out what operators change while the program runs. Reload, drain, resume and upgrade are
// control queries, since only the control thread changes the running program. Sessions and the log
// level are changed from here.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>

#include "shard_query.hpp"
#include "udpproxy/doctor/doctor.hpp"
#include "verbs.hpp"

namespace udpproxy {

namespace {

/// The control thread looks ten times a second; an earlier reload may take some seconds.
constexpr Duration change_answer_limit = std::chrono::seconds{5};

/// Returns what `describe` makes of an answer `done`, else the response with the reason.
template <class Describe>
AdminResponse ask(const AdminContext& context, const ControlQuestion& question,
                  Describe&& describe) {
    const QueryOutcome outcome = context.control.query(
        question, change_answer_limit, [] {}, [&] { return context.stopping.load(); });
    if (outcome == QueryOutcome::withdrawn)
        return error_response(503,
                              "the control thread is busy or about to end; nothing was changed");
    if (outcome == QueryOutcome::abandoned)
        return error_response(503,
                              "the control thread is still at it; the log will say the outcome");
    const ControlAnswer& answer = *context.control.answer();
    switch (answer.outcome) {
        case ControlOutcome::done:
            return describe(answer);
        case ControlOutcome::reload_refused:
            return error_response(409, fmt::format("not reloaded, everything stays as it was:\n{}",
                                                   fmt::join(answer.lines, "\n")));
        case ControlOutcome::no_such_proxy:
            return no_such_proxy(context.status, question.proxy);
        case ControlOutcome::all_drain:
            return error_response(
                409, "all proxies drain, and then the program ends; that cannot be taken back");
        case ControlOutcome::no_keeper:
            return error_response(409,
                                  "there is no keeper (--single-process): no other program can "
                                  "take this one's place; restart instead");
        case ControlOutcome::keeper_busy:
            return error_response(503, "the keeper takes no message now; nothing was changed");
        case ControlOutcome::short_of_memory:
            break;
    }
    return error_response(503, "out of memory; nothing was changed");
}

}  // namespace

void note_change(const AdminContext& context, const AdminRequest& request, std::string_view verb,
                 std::vector<LogField> fields) {
    fields.insert(fields.begin(), LogField{"verb", verb});
    if (request.peer) {
        fields.emplace_back("uid", request.peer->user);
        fields.emplace_back("pid", request.peer->process);
    }
    context.log.info("admin", fields);
}

AdminResponse kill_session(const AdminContext& context, const AdminRequest& request) {
    const std::string text = request.argument("id");
    std::uint64_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size())
        return error_response(400, fmt::format("id: \"{}\" is no session's number", text));
    const Result<std::optional<SessionView>> ended = end_session(context, id);
    if (!ended) return error_response(503, ended.error().message);
    if (!*ended) return error_response(404, fmt::format("there is no session {}", id));
    const std::string client = format((*ended)->client);
    const std::string& proxy = context.status.find_proxy((*ended)->proxy)->name;
    note_change(context, request, "session kill",
                {{"id", id}, {"proxy", proxy}, {"client", client}});
    JsonText json;
    json.begin_object().member("killed", id).member("proxy", proxy).member("client", client);
    return as_response(json.end_object());
}

AdminResponse set_log_level(const AdminContext& context, const AdminRequest& request) {
    const std::string level = request.argument("level");
    for (const LogLevel candidate : {LogLevel::error, LogLevel::warn, LogLevel::info}) {
        if (name_of(candidate) != level) continue;
        // The line about the change is written under whichever of both levels shows more.
        if (candidate > context.log.level()) context.log.set_level(candidate);
        note_change(context, request, "log level", {{"level", level}});
        context.log.set_level(candidate);
        JsonText json;
        return as_response(json.begin_object().member("level", level).end_object());
    }
    return error_response(400,
                          fmt::format("level: \"{}\" is none; write error, warn or info", level));
}

AdminResponse reload_configuration(const AdminContext& context, const AdminRequest& request) {
    note_change(context, request, "reload", {});
    return ask(context, {ControlKind::reload, {}}, [](const ControlAnswer& answer) {
        JsonText json;
        json.begin_object().member("reloads", answer.reloads).key("changes").begin_array();
        for (const std::string& line : answer.lines) json.value(line);
        json.end_array().key("keys").begin_array();
        for (const KeyChange& change : answer.keys) {
            json.begin_object().member("proxy", change.proxy).member("key", change.key);
            json.member("old", change.present).member("new", change.wanted);
            json.member("needs_restart", change.takes_effect != TakesEffect::at_reload);
            json.end_object();
        }
        return as_response(json.end_array().end_object());
    });
}

AdminResponse begin_drain(const AdminContext& context, const AdminRequest& request) {
    const std::string proxy = request.argument("proxy");
    note_change(context, request, "drain", {{"proxy", proxy}});
    return ask(context, {ControlKind::drain, proxy}, [&](const ControlAnswer& answer) {
        JsonText json;
        json.begin_object().member("proxy", proxy).member("sessions", answer.sessions);
        if (proxy.empty())
            json.member("seconds_at_most",
                        std::chrono::duration<double>(answer.ends_within).count());
        return as_response(json.end_object());
    });
}

AdminResponse end_drain(const AdminContext& context, const AdminRequest& request) {
    const std::string proxy = request.argument("proxy");
    note_change(context, request, "resume", {{"proxy", proxy}});
    return ask(context, {ControlKind::resume, proxy}, [&](const ControlAnswer& answer) {
        JsonText json;
        json.begin_object().member("proxy", proxy).member("sessions", answer.sessions);
        return as_response(json.end_object());
    });
}

AdminResponse begin_upgrade(const AdminContext& context, const AdminRequest& request) {
    note_change(context, request, "upgrade", {});
    return ask(context, {ControlKind::upgrade, {}}, [&](const ControlAnswer&) {
        JsonText json;
        json.begin_object().member("version", UDPPROXY_VERSION).member("pid", context.process);
        write_worker_starts(json, context.status.succession);
        json.member("upgrades_refused", context.status.succession.upgrades_refused);
        return as_response(json.end_object());
    });
}

AdminResponse examine_program(const AdminContext& context, const AdminRequest& request) {
    DoctorRequest query;
    query.probe_payload = request.argument("probe");
    query.with_probe = !query.probe_payload.empty();
    query.probe_proxy = request.argument("proxy");
    query.descriptors_fitting = context.status.descriptors_fitting;
    query.resolves_names = false;  // a resolver may take longer than the client waits
    if (query.with_probe)
        note_change(
            context, request, "doctor",
            {{"probe_bytes", query.probe_payload.size() / 2}, {"proxy", query.probe_proxy}});
    const Result<std::vector<Finding>> findings = examine(*context.status.config, query);
    if (!findings) return error_response(400, findings.error().message);
    std::vector<Finding> all;
    for (const Problem& problem : context.problems)
        all.push_back({FindingKind::traffic,
                       Severity::problem,
                       "proxy \"" + problem.proxy + '"',
                       problem.text,
                       {},
                       {}});
    all.insert(all.end(), findings->begin(), findings->end());
    JsonText json;
    json.begin_object();
    write_findings(json, all);
    json.member("text", findings_text(all));  // as `udpproxy --doctor` prints it
    return as_response(json.end_object());
}

}  // namespace udpproxy
