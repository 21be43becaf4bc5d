// The table of verbs: what can be asked of a running program, and with which access. The verbs are
// served over HTTP, on the Unix socket and on the admin address alike. Called by the admin thread
// (server.cpp). The answers are made in reports.cpp, changes.cpp, trace.cpp and metrics.cpp.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "sockets.hpp"
#include "udpproxy/admin/server.hpp"
#include "udpproxy/base/json_text.hpp"

namespace udpproxy {

/// The objects that a request works on.
struct AdminContext {
    const Status& status;      // the newest when the request came
    const Problems& problems;  // the newest, likewise
    Log& log;
    ControlSlot& control;               // queries to the control thread
    const std::atomic<bool>& stopping;  // the program ends: no answer is waited for any more
    pid_t process;                      // that obeys signals
};

struct AdminRequest {
    std::string method;
    std::string path;
    std::map<std::string, std::string, std::less<>> arguments;  // of the URL's query; decoded
    std::optional<Peer> peer;  // absent: over TCP, which has no credentials
    bool may_change = false;

    /// Empty when the argument is absent.
    [[nodiscard]] std::string argument(std::string_view name) const;
};

struct AdminResponse {
    unsigned status = 200;
    std::string type = "application/json";
    std::string body;
    std::string policy = "default-src 'none'";  // Content-Security-Policy
};

[[nodiscard]] AdminResponse answer_request(const AdminContext& context,
                                           const AdminRequest& request);

/// The complete answer of a verb.
[[nodiscard]] AdminResponse as_response(JsonText& json);

/// A response with a message: {"error": "…"}.
[[nodiscard]] AdminResponse error_response(unsigned status, const std::string& why);
/// 404: `there is no proxy "dsn"; did you mean dns?`, or that it is being removed.
[[nodiscard]] AdminResponse no_such_proxy(const Status& status, const std::string& name);

}  // namespace udpproxy
