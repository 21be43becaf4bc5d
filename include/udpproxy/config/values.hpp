// Single values from text: durations, sizes, port ranges, listen addresses, upstreams, aliases.
// Called by proxy.cpp, sections.cpp and the Caddyfile converter. An error says what is wrong with
// the text and what would be right; the caller adds the position in the file. section_reader.cpp
// checks bounds; a number beyond an int64 is returned as the largest one.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "udpproxy/base/result.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/config/config.hpp"

namespace udpproxy {

/// A whole number and `us`, `ms`, `s`, `m`, `h` or `d`.
[[nodiscard]] Result<Duration> parse_duration(std::string_view text);
/// A whole number of bytes, or one with `KiB`, `MiB` or `GiB`.
[[nodiscard]] Result<std::uint64_t> parse_size(std::string_view text);
/// `20000-59999`
[[nodiscard]] Result<PortRange> parse_port_range(std::string_view text);
/// Refuses what URLs and other programs' files add to an address, with the text without it: a
/// scheme (`udp://`), a protocol (`/udp`), spaces around it. The functions below call it.
[[nodiscard]] Result<void> check_plain(std::string_view text);
/// `address:port`, `[IPv6 address]:port`; `:port` gives both families' unspecified address.
[[nodiscard]] Result<std::vector<ListenAddress>> parse_listen(std::string_view text);
/// `address:port`, `[IPv6 address]:port` or `name:port`.
[[nodiscard]] Result<UpstreamAddress> parse_upstream(std::string_view text);
/// An exact address or a prefix with a port or `*`, or an address alone, which takes
/// `upstream_port`.
[[nodiscard]] Result<Alias> parse_alias(std::string_view text, std::uint16_t upstream_port);
/// A local address to send from.
[[nodiscard]] Result<Address> parse_source(std::string_view text);

/// The shortest text that parse_duration or parse_size reads back as the same value.
[[nodiscard]] std::string format_duration(Duration duration);
[[nodiscard]] std::string format_size(std::uint64_t bytes);
[[nodiscard]] std::string_view family_name(Family family);

}  // namespace udpproxy
