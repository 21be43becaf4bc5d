// The few socket operations that the benchmark's programs share. They are not those of the proxy
// (udpproxy/net): the yardstick must not move with what it measures. A failure ends the program
// with a message, since a measurement that cannot start has no other way out.
#pragma once

#include <netinet/in.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace udpproxy::bench {

// Ends the program with `what: strerror(errno)` unless the condition holds.
void demand(bool condition, std::string_view what);

// "10.0.0.1:53".
sockaddr_in parse_address(const std::string& text);

struct SocketOptions {
    bool gro = false;
    int receive_buffer_bytes = 8 << 20;  // what net.core.rmem_max allows of it
};

// Bound; port 0 is any.
int open_udp(const sockaddr_in& local, SocketOptions options);
void connect_udp(int socket, const sockaddr_in& remote);
void set_option(int socket, int level, int name, int value, std::string_view what);

// The segment size that a received message's control data tells (UDP_GRO), or the whole when it
// tells nothing.
std::size_t segment_bytes_of(const msghdr& message, std::size_t bytes);
// Writes the control data that sends a message as segments (UDP_SEGMENT); none for a single one.
void set_segment_bytes(msghdr& message, std::byte* control, std::size_t bytes,
                       std::size_t segment_bytes);
inline constexpr std::size_t control_bytes = 64;

// True once SIGTERM or SIGINT has come.
bool told_to_stop();
void listen_for_stop();

}  // namespace udpproxy::bench
