// Verbs that change something. Each is logged with who asked for it.
#pragma once

#include "routes.hpp"

namespace udpproxy {

/// Writes the line about a change: what, and who asked for it.
void note_change(const AdminContext& context, const AdminRequest& request, std::string_view verb,
                 std::vector<LogField> fields);

/// Argument: id.
[[nodiscard]] AdminResponse kill_session(const AdminContext& context, const AdminRequest& request);
/// Argument: level.
[[nodiscard]] AdminResponse set_log_level(const AdminContext& context, const AdminRequest& request);

}  // namespace udpproxy
