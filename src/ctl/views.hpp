// Answers for people, in columns and short numbers. Each view takes the JSON of one verb and
// returns whole lines.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "client.hpp"

namespace udpproxy::ctl {

[[nodiscard]] std::string view_status(const Json& status);
[[nodiscard]] std::string view_proxies(const Json& answer);
[[nodiscard]] std::string view_sessions(const Json& answer);
[[nodiscard]] std::string view_unlisted(const Json& answer);
[[nodiscard]] std::string view_drops(const Json& answer);
[[nodiscard]] std::string view_reload(const Json& answer);
[[nodiscard]] std::string view_drain(const Json& answer);
[[nodiscard]] std::string view_resume(const Json& answer);
[[nodiscard]] std::string view_findings(const Json& answer);

/// A member of an answer, 0 if it is missing.
[[nodiscard]] std::uint64_t number(const Json& json, const char* key);
/// A member of an answer as one printable line, empty if it is missing. What the program says comes
/// from outside too: names of other users' processes, of files, of interfaces.
[[nodiscard]] std::string text(const Json& json, const char* key);
/// JSON in ASCII, which no terminal obeys; `indentation` -1: on one line.
[[nodiscard]] std::string as_json(const Json& json, int indentation);

/// `1536` is `1.5 KiB`.
[[nodiscard]] std::string as_bytes(double bytes);
/// `12 345`
[[nodiscard]] std::string as_count(std::uint64_t count);
/// `850 ms`, `12 s`, `3 m 5 s`, `2 h 1 m`, `4 d 2 h`
[[nodiscard]] std::string as_time(double seconds);

/// Rows under a heading, in columns; a column whose heading begins with `>` is flush right.
[[nodiscard]] std::string in_columns(const std::vector<std::string>& headings,
                                     const std::vector<std::vector<std::string>>& rows);

}  // namespace udpproxy::ctl
