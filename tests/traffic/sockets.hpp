// The sockets of the load tool, and datagrams in rows: recvmmsg in, sendmmsg out. Failures of
// set-up are exceptions, which main() turns into a sentence and exit code 1.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "udpproxy/base/time.hpp"
#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy::traffic {

inline constexpr std::size_t row_max = 64;
inline constexpr std::size_t datagram_bytes_max = 65536;

/// A bound, non-blocking UDP socket with room for bursts. Throws std::runtime_error with the
/// address and the cause.
[[nodiscard]] Socket open_udp(const Endpoint& bind_to, int buffer_bytes);
/// The same; an empty one when somebody has the port.
[[nodiscard]] Socket open_udp_unless_taken(const Endpoint& bind_to, int buffer_bytes);
/// A raw socket that sends packets whose IP header we write. Throws as above.
[[nodiscard]] Socket open_raw(Family family);

/// Throws std::runtime_error `what: cause` with errno's text.
[[noreturn]] void fail(const std::string& what);

/// `parse_endpoint` and its like for command lines: throws the complaint.
template <class T>
[[nodiscard]] T wanted(Result<T> parsed) {
    if (!parsed) throw std::runtime_error(parsed.error().message);
    return std::move(parsed).value();
}

/// What one recvmmsg brought.
class Inbox {
public:
    Inbox();
    /// Reads up to row_max datagrams that are there; 0 when none is. ICMP errors about earlier
    /// datagrams are passed over.
    std::size_t receive(int descriptor);
    [[nodiscard]] std::span<const std::byte> payload(std::size_t index) const;
    [[nodiscard]] Endpoint from(std::size_t index) const { return read_socket_name(names_[index]); }

private:
    std::vector<std::byte> memory_;
    std::array<SocketName, row_max> names_{};
    std::array<iovec, row_max> pieces_{};
    std::array<mmsghdr, row_max> headers_{};
};

/// Datagrams to be sent by one sendmmsg. The payloads must live until flush().
class Outbox {
public:
    [[nodiscard]] bool full() const { return count_ == row_max; }
    [[nodiscard]] bool empty() const { return count_ == 0; }
    void add(std::span<const std::byte> payload, const Endpoint& to);
    /// Sends everything; returns how many the kernel took. One that is refused is passed over, once
    /// tried again.
    std::size_t flush(int descriptor);

private:
    std::size_t count_ = 0;
    std::array<SocketName, row_max> names_{};
    std::array<iovec, row_max> pieces_{};
    std::array<mmsghdr, row_max> headers_{};
};

/// Level-triggered readiness, with a number for each socket.
class Readiness {
public:
    Readiness();
    void add(int descriptor, std::uint32_t number);
    /// The numbers of the sockets that are ready, after at most `wait`.
    [[nodiscard]] std::span<const std::uint32_t> wait(Duration wait);

private:
    Socket epoll_;
    std::vector<std::uint32_t> ready_;
};

}  // namespace udpproxy::traffic
