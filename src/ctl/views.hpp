// Answers for people, in columns and short numbers. Each view takes the JSON of one verb and
// returns whole lines, none wider than `width` (at least width_min of table.hpp). Only what is to
// be copied is never broken: a command, a line for the configuration.
#pragma once

#include <cstdint>
#include <string>

#include "client.hpp"

namespace udpproxy::ctl {

[[nodiscard]] std::string view_status(const Json& status, std::size_t width);
[[nodiscard]] std::string view_proxies(const Json& answer, std::size_t width);
/// `sorted_by` is the value of --sort, whose column stays; empty: none was asked for.
[[nodiscard]] std::string view_sessions(const Json& answer, const std::string& sorted_by,
                                        std::size_t width);
[[nodiscard]] std::string view_unlisted(const Json& answer, std::size_t width);
[[nodiscard]] std::string view_drops(const Json& answer, std::size_t width);
[[nodiscard]] std::string view_killed(const Json& answer, std::size_t width);
[[nodiscard]] std::string view_log_level(const Json& answer, std::size_t width);
[[nodiscard]] std::string view_reload(const Json& answer, std::size_t width);
[[nodiscard]] std::string view_drain(const Json& answer, std::size_t width);
[[nodiscard]] std::string view_resume(const Json& answer, std::size_t width);
[[nodiscard]] std::string view_findings(const Json& answer, std::size_t width);

/// The lines about what is wrong now, or one line that nothing is.
[[nodiscard]] std::string view_problems(const Json& status, std::size_t width);

/// `ready`, or that new clients are refused.
[[nodiscard]] std::string state_of(const Json& status);
/// A member of an answer, 0 if it is missing.
[[nodiscard]] std::uint64_t number(const Json& json, const char* key);
/// A member of an answer as one printable line, empty if it is missing or null. What the program
/// says comes from outside too: names of other users' processes, of files, of interfaces.
[[nodiscard]] std::string text(const Json& json, const char* key);
/// JSON in ASCII, which no terminal obeys; `indentation` -1: on one line.
[[nodiscard]] std::string as_json(const Json& json, int indentation);

/// `1536` is `1.5 KiB`.
[[nodiscard]] std::string as_bytes(double bytes);
/// `12 345`
[[nodiscard]] std::string as_count(std::uint64_t count);
/// `850 ms`, `12 s`, `3 m 5 s`, `2 h 1 m`, `4 d 2 h`
[[nodiscard]] std::string as_time(double seconds);

/// `1 shard`, `12 345 shards`
[[nodiscard]] std::string as_number_of(std::uint64_t count, const std::string& thing);

}  // namespace udpproxy::ctl
