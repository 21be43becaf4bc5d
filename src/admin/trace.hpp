// Verbs of the trace: begin, take, end. One trace at a time; it ends by itself when its time is
// over, whatever becomes of who began it. They are among those that change things: what they show
// are clients' payloads.
#pragma once

#include "routes.hpp"

namespace udpproxy {

/// Arguments: client (address or address:port), seconds (1 to 600, default 60).
[[nodiscard]] AdminResponse begin_trace(const AdminContext& context, const AdminRequest& request);
/// What was kept since the last call.
[[nodiscard]] AdminResponse take_trace(const AdminContext& context, const AdminRequest& request);
[[nodiscard]] AdminResponse end_trace(const AdminContext& context, const AdminRequest& request);

}  // namespace udpproxy
