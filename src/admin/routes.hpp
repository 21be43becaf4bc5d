// What can be asked of a running program, and by whom: the table of verbs, over HTTP on the Unix
// socket and on the admin address alike. Called by the admin thread (server.cpp); what each verb
// answers is made in reports.cpp, changes.cpp, trace.cpp and metrics.cpp.
#pragma once

#include <atomic>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "sockets.hpp"
#include "udpproxy/admin/server.hpp"
#include "udpproxy/base/json_text.hpp"

namespace udpproxy {

/// What a request works on.
struct AdminContext {
    const Status& status;  // the newest when it came
    Log& log;
    ControlSlot& control;               // to the control thread
    const std::atomic<bool>& stopping;  // the program ends: nobody is waited for any more
};

struct AdminRequest {
    std::string method;
    std::string path;
    std::map<std::string, std::string, std::less<>> arguments;  // of the query; decoded
    std::optional<Peer> peer;  // absent: over TCP, where nobody has a name
    bool may_change = false;

    /// Empty when it is not given.
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

/// The answer of a verb, which is complete.
[[nodiscard]] AdminResponse as_response(JsonText& json);

/// A response that says what is wrong: {"error": "…"}.
[[nodiscard]] AdminResponse error_response(unsigned status, const std::string& why);

}  // namespace udpproxy
