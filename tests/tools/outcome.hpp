// What the load tool says at its end: one line of JSON with numbers in it, for the tests to read.
#pragma once

#include <nlohmann/json.hpp>

namespace udpproxy::traffic {

/// Writes the line and flushes it. `ready`, before the load begins, is a line as well.
void say(const nlohmann::ordered_json& line);

}  // namespace udpproxy::traffic
