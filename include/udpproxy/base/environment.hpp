// What a parent process leaves in the environment for this process alone.
#pragma once

#include <string>

namespace udpproxy {

/// The variable's value, empty without one; it is gone afterwards, so that no child gets it.
// Requires: no other thread of this process runs.
[[nodiscard]] std::string take_variable(const char* name);

}  // namespace udpproxy
