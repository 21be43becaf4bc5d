// Datagrams and packets in rows: recvmmsg in, sendmmsg out, and which of many sockets are ready.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "traffic/packet.hpp"
#include "traffic/sockets.hpp"
#include "udpproxy/base/time.hpp"

namespace udpproxy::traffic {

inline constexpr std::size_t row_max = 64;
inline constexpr std::size_t datagram_bytes_max = 65536;

/// Buffers of that size, so that nothing is lost in them.
[[nodiscard]] inline UdpOptions roomy(int buffer_bytes) {
    return {.receive_buffer_bytes = buffer_bytes,
            .send_buffer_bytes = buffer_bytes,
            .beyond_limits = true};
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

/// Packets in a row on a raw socket, all to the address `to`. Waits where the socket's buffer is
/// full.
class RawRow {
public:
    RawRow(int descriptor, const Address& to);
    RawRow(const RawRow&) = delete;
    RawRow& operator=(const RawRow&) = delete;

    /// Where the next packet is to be written; its length then goes to push().
    [[nodiscard]] std::span<std::byte> next();
    /// Takes the packet, sends the row when it is full. Returns how many packets were sent.
    std::size_t push(std::size_t bytes);
    std::size_t flush();

private:
    int descriptor_;
    std::size_t count_ = 0;
    SocketName name_{};
    std::array<iovec, row_max> pieces_{};
    std::array<mmsghdr, row_max> headers_{};
    std::vector<std::byte> packets_ = std::vector<std::byte>(row_max * packet_bytes_max);
};

}  // namespace udpproxy::traffic
