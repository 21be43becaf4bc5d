// Lists every verb with its method, path and access, and checks a request against the list.
#include "routes.hpp"

#include <fmt/format.h>

#include <array>

#include "udpproxy/base/nearest.hpp"
#include "verbs.hpp"

namespace udpproxy {

namespace {

enum class Access : unsigned char { look, change };

struct Route {
    std::string_view method;
    std::string_view path;
    Access access;
    AdminResponse (*answer)(const AdminContext&, const AdminRequest&);
};

constexpr auto routes = std::to_array<Route>({
    {"GET", "/", Access::look, show_page},
    {"GET", "/live", Access::look, report_live},
    {"GET", "/ready", Access::look, report_ready},
    {"GET", "/metrics", Access::look, report_metrics},
    {"GET", "/v1/status", Access::look, report_status},
    {"GET", "/v1/proxies", Access::look, report_proxies},
    {"GET", "/v1/sessions", Access::look, report_sessions},
    {"GET", "/v1/unlisted", Access::look, report_unlisted},
    {"GET", "/v1/drops", Access::look, report_drops},
    {"GET", "/v1/log", Access::look, report_log},
    {"POST", "/v1/log", Access::change, set_log_level},
    {"POST", "/v1/sessions/kill", Access::change, kill_session},
    {"POST", "/v1/reload", Access::change, reload_configuration},
    {"POST", "/v1/drain", Access::change, begin_drain},
    {"POST", "/v1/resume", Access::change, end_drain},
    {"POST", "/v1/upgrade", Access::change, begin_upgrade},
    {"POST", "/v1/doctor", Access::change, examine_program},  // may send, and takes time
    {"POST", "/v1/trace", Access::change, begin_trace},
    {"POST", "/v1/trace/take", Access::change, take_trace},
    {"POST", "/v1/trace/end", Access::change, end_trace},
});

}  // namespace

std::string AdminRequest::argument(std::string_view name) const {
    const auto found = arguments.find(name);
    return found == arguments.end() ? std::string{} : found->second;
}

AdminResponse as_response(JsonText& json) {
    AdminResponse response;
    response.body = json.take();
    return response;
}

AdminResponse no_such_proxy(const Status& status, const std::string& name) {
    if (status.find_proxy(std::string_view{name}) != nullptr)
        return error_response(404, fmt::format("proxy \"{}\" is being removed", name));
    std::vector<std::string_view> names;
    for (const ProxyStatus& proxy : status.proxies)
        if (!proxy.name.empty()) names.push_back(proxy.name);
    return error_response(404, unknown_word("proxy", name, names));
}

AdminResponse error_response(unsigned status, const std::string& why) {
    JsonText json;
    AdminResponse response = as_response(json.begin_object().member("error", why).end_object());
    response.status = status;
    return response;
}

AdminResponse answer_request(const AdminContext& context, const AdminRequest& request) {
    bool path_exists = false;
    for (const Route& route : routes) {
        if (route.path != request.path) continue;
        path_exists = true;
        if (route.method != request.method) continue;
        if (route.access == Access::change && !request.may_change)
            return error_response(
                403, request.peer
                         ? "only root, the user that the program runs as, and members of "
                           "admin.group may change things"
                         : "nothing is changed over TCP; use the Unix socket (udpproxyctl)");
        return route.answer(context, request);
    }
    if (path_exists) return error_response(405, request.path + " does not take " + request.method);
    return error_response(404, "there is no " + request.path);
}

}  // namespace udpproxy
