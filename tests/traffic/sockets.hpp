// Opening sockets. Failures of set-up are exceptions, which run_program() (program.hpp) turns into
// a sentence and exit code 1. The sockets are not those of the proxy (udpproxy/net): the yardstick
// must not move with what it measures. Of the proxy's code they take the handle and the text forms
// of addresses.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "udpproxy/base/time.hpp"
#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy::traffic {

struct UdpOptions {
    int receive_buffer_bytes = 8 << 20;
    int send_buffer_bytes = 4 << 20;
    // Larger than net.core.rmem_max and wmem_max where we may: a test must not lose in its own
    // queues. The benchmark gets what any program gets.
    bool beyond_limits = false;
    bool gro = false;
};

/// A bound UDP socket. Throws std::runtime_error with the address and the cause.
[[nodiscard]] Socket open_udp(const Endpoint& bind_to, const UdpOptions& options);
/// The same; an empty one when another socket has the port.
[[nodiscard]] Socket open_udp_unless_taken(const Endpoint& bind_to, const UdpOptions& options);
/// A UDP socket of any port, connected. Throws as above.
[[nodiscard]] Socket open_connected_udp(const Endpoint& to, const UdpOptions& options);
/// A raw socket that sends packets whose IP header we write. Throws as above.
[[nodiscard]] Socket open_raw(Family family);
/// A packet socket at the interface. It receives frames of `protocol` (ETH_P_…); with 0 it only
/// sends. Throws as above.
[[nodiscard]] Socket open_packet(const std::string& interface, std::uint16_t protocol);

/// Throws as above; `name_text` is for the complaint.
void set_option(const Socket& socket, int level, int name, int value, const char* name_text);
/// A receive that waits ends after so long, so that a signal or the end of the time is seen.
void set_receive_timeout(const Socket& socket, Duration timeout);

/// The segment size that a received message's control data tells (UDP_GRO), or the whole when it
/// tells nothing.
[[nodiscard]] std::size_t segment_bytes_of(const msghdr& message, std::size_t bytes);
/// Writes the control data that sends a message as segments (UDP_SEGMENT); none for a single one.
void set_segment_bytes(msghdr& message, std::byte* control, std::size_t bytes,
                       std::size_t segment_bytes);
inline constexpr std::size_t control_bytes = 64;

/// Throws std::runtime_error `what: cause` with errno's text.
[[noreturn]] void fail(const std::string& what);

/// `parse_endpoint` and its like for command lines: throws the complaint.
template <class T>
[[nodiscard]] T wanted(Result<T> parsed) {
    if (!parsed) throw std::runtime_error(parsed.error().message);
    return std::move(parsed).value();
}

}  // namespace udpproxy::traffic
