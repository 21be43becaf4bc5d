// What operators change while the program runs.
#include "changes.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>

#include "shard_query.hpp"

namespace udpproxy {

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
    for (const LogLevel candidate :
         {LogLevel::error, LogLevel::warn, LogLevel::info, LogLevel::debug}) {
        if (name_of(candidate) != level) continue;
        // The line about it is written under whichever level shows more.
        if (candidate > context.log.level()) context.log.set_level(candidate);
        note_change(context, request, "log level", {{"level", level}});
        context.log.set_level(candidate);
        JsonText json;
        return as_response(json.begin_object().member("level", level).end_object());
    }
    return error_response(
        400, fmt::format("level: \"{}\" is none; write error, warn, info or debug", level));
}

}  // namespace udpproxy
