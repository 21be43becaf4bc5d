// Levels and formats of the log, without the log itself, because the configuration has them too.
#pragma once

#include <cstdint>
#include <string_view>

namespace udpproxy {

/// In order: a level is written with all before it.
enum class LogLevel : std::uint8_t { error, warn, info };
enum class LogFormat : std::uint8_t { text, json };

/// `error`, `warn`, `info`
[[nodiscard]] std::string_view name_of(LogLevel level);

}  // namespace udpproxy
