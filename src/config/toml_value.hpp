// Whether a text is one TOML value; in toml_reader.cpp, which alone knows TOML.
#pragma once

#include <string_view>

namespace udpproxy {

/// Whether the text alone is a value, behind `key = `.
[[nodiscard]] bool is_toml_value(std::string_view text);

}  // namespace udpproxy
