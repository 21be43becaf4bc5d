// `udpproxyctl upgrade`: asks for an upgrade and waits for what comes of it.
#pragma once

#include <optional>
#include <string>

#include "client.hpp"

namespace udpproxy::ctl {

/// Asks the program behind `socket`, and follows its status until the outcome is known. Tells on
/// standard error how it stands, if that takes more than a second. Errors: the program cannot be
/// reached, it refused the request, or there was no outcome within 20 s.
[[nodiscard]] Result<Json> ask_for_upgrade(const std::string& socket);

/// The outcome that the status tells of the upgrade whose request got the answer `asked`: an object
/// with `outcome` (upgraded, refused, undone, crashed, restarted), the versions, what was adopted,
/// the pause, and the reason of a failure. Nothing: it is not known yet.
[[nodiscard]] std::optional<Json> outcome_of_upgrade(const Json& asked, const Json& status);
[[nodiscard]] bool is_upgraded(const Json& outcome);

/// One line about an outcome; more where `width` is too small for it.
[[nodiscard]] std::string view_upgrade(const Json& outcome, std::size_t width);

}  // namespace udpproxy::ctl
