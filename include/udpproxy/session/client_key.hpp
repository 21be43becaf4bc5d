// ClientKey: what makes two datagrams belong to one session: the listener, the client's endpoint
// and the local address it wrote to.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "udpproxy/net/endpoint.hpp"

namespace udpproxy {

struct ClientKey {
    Address client;
    Address local;            // unspecified when the listener is bound to one address
    std::uint32_t scope = 0;  // interface of a link-local client, else 0
    std::uint16_t port = 0;   // of the client
    std::uint16_t listener = 0;

    friend bool operator==(const ClientKey&, const ClientKey&) = default;

    /// The key as whole words for the hash. There is no padding, so equal keys are equal words.
    [[nodiscard]] std::array<std::uint64_t, 5> words() const noexcept {
        return std::bit_cast<std::array<std::uint64_t, 5>>(*this);
    }
    [[nodiscard]] Endpoint client_endpoint() const noexcept {
        return Endpoint{client, scope, port};
    }
};

static_assert(sizeof(ClientKey) == 40);

}  // namespace udpproxy
