// Reads what the doctor needs from /proc: numbers, lists of ports, counters, sockets. Parsing is
// separate from reading, so that it can be tested with texts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "udpproxy/host/facts.hpp"

namespace udpproxy {

/// The file as text; nothing, with errno set, when it cannot be read.
[[nodiscard]] std::optional<std::string> read_host_file(const std::string& path);
/// The first number of the file.
[[nodiscard]] std::optional<std::uint64_t> read_host_number(const std::string& path);

/// `8080,9000-9010` as in net.ipv4.ip_local_reserved_ports.
[[nodiscard]] std::vector<PortRange> parse_port_list(std::string_view text);
/// A counter of /proc/net/snmp or /proc/net/netstat: lines of names, each followed by a line of
/// numbers.
[[nodiscard]] std::optional<std::uint64_t> find_counter(std::string_view text,
                                                        std::string_view group,
                                                        std::string_view name);
/// A counter of /proc/net/snmp6: one to a line.
[[nodiscard]] std::optional<std::uint64_t> find_counter6(std::string_view text,
                                                         std::string_view name);
/// A hexadecimal mask of a line of /proc/self/status, as in `CapEff:`.
[[nodiscard]] std::uint64_t find_mask(std::string_view status, std::string_view key);

struct SocketLine {
    Endpoint local;
    std::uint64_t inode = 0;
    std::uint64_t drops = 0;
    std::uint32_t user = 0;  // of the process that made it
    bool listens = false;    // a TCP socket; never true of a UDP socket
};
/// The lines of /proc/net/udp, udp6, tcp or tcp6. `drops` means nothing for TCP.
[[nodiscard]] std::vector<SocketLine> parse_sockets(std::string_view text);

/// No descriptor of this process is as high (FDSize of proc_pid_status(5): the slots of its table).
/// To list /proc/self/fd would take a microsecond for each. 0: /proc cannot be read.
[[nodiscard]] int descriptors_end();

/// A process that holds a socket.
struct SocketHolder {
    int process =
        0;  // 0: not known, for want of permission, or because a ring of io_uring holds it
    std::string name;  // of the program; what does not print is `?`
};
/// The holders of these sockets, in order. Walks /proc once.
[[nodiscard]] std::vector<SocketHolder> holders_of(const std::vector<std::uint64_t>& inodes);

/// `nginx (process 123)`, or `a socket of user 101` when the process is not known.
[[nodiscard]] std::string text_of(const SocketHolder& holder, std::uint32_t user);

/// The inode of the socket that listens on a path, by the text of /proc/net/unix.
[[nodiscard]] std::optional<std::uint64_t> find_unix_listener(std::string_view text,
                                                              std::string_view path);

/// Whether a bound socket may keep another from binding `wanted`. An IPv6 socket on every address
/// holds the port of IPv4 too unless it is for IPv6 alone (IPV6_V6ONLY), which /proc does not tell.
[[nodiscard]] bool may_hold(const Endpoint& held, const Endpoint& wanted) noexcept;

enum class Transport : std::uint8_t { udp, tcp };
/// The first socket that may hold an endpoint, of those of TCP a listening one.
[[nodiscard]] std::optional<BoundSocket> find_holder(const Endpoint& endpoint, Transport transport);

}  // namespace udpproxy
