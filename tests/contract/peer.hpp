// Peer: a client, an upstream or an outsider, as a plain UDP socket that knows nothing of the
// engines. Also the addresses and ports the tests use.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "udpproxy/base/time.hpp"
#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy::contract {

/// How long a test waits for what must come, at most; a passing test never uses it up, however
/// loaded the machine is.
inline constexpr Duration patience = std::chrono::seconds{30};
/// How long a test waits for what must not come.
inline constexpr Duration moment = std::chrono::milliseconds{20};

[[nodiscard]] Address address(std::string_view text);
/// 127.0.0.1 or ::1
[[nodiscard]] Address loopback(Family family);
/// The families that have their loopback address on this host; a missing one is said by skip().
[[nodiscard]] std::vector<Family> families();
/// An address for reply groups: for IPv4 one of 127.0.0.0/8 that no other process running these
/// tests uses at the same time.
[[nodiscard]] Address group_address(Family family);
/// A port below the ephemeral ones that this process has not tried for long.
[[nodiscard]] std::uint16_t next_port();

struct Letter {
    std::string payload;
    Endpoint from;
    std::uint8_t tos = 0;
};

enum class Reuse : unsigned char { none, address, port };

class Peer {
public:
    /// Bound to `at`; port 0: one the kernel chooses. Fails the test when it cannot.
    explicit Peer(const Endpoint& at);
    explicit Peer(const Address& at) : Peer(Endpoint{at, 0, 0}) {}

    [[nodiscard]] const Endpoint& endpoint() const noexcept { return endpoint_; }
    [[nodiscard]] int descriptor() const noexcept { return socket_.descriptor(); }
    /// `tos` goes for this datagram and all later ones.
    void send(const Endpoint& to, std::string_view payload, int tos = -1) const;
    /// `payload` in datagrams of `segment_bytes`, in one call (UDP_SEGMENT).
    void send_train(const Endpoint& to, std::string_view payload, std::size_t segment_bytes,
                    int tos = -1) const;
    [[nodiscard]] std::optional<Letter> receive(Duration limit = patience) const;
    /// `count` letters, or fewer when the time is over.
    [[nodiscard]] std::vector<Letter> receive_all(std::size_t count,
                                                  Duration limit = patience) const;
    /// As receive_all(), and what else comes within a moment.
    [[nodiscard]] std::vector<Letter> receive_all_there_are(std::size_t count) const;

private:
    Endpoint endpoint_;
    Socket socket_;
};

/// Binds a socket to `at` with the flags an outsider might try; 0 or errno. With success the socket
/// is left in `holder`.
[[nodiscard]] int try_bind(const Endpoint& at, Reuse reuse, Socket& holder);
[[nodiscard]] int try_bind(const Endpoint& at, Reuse reuse = Reuse::none);

/// An endpoint at `at` whose port was free a moment ago.
[[nodiscard]] Endpoint unused_endpoint(const Address& at);

/// Open descriptors of this process.
[[nodiscard]] std::size_t descriptor_count();

}  // namespace udpproxy::contract
