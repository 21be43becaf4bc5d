// Netlink: one question to the kernel and its answers, and the attributes inside. Called by the
// doctor's collectors; knows no message by name.
#pragma once

#include <linux/netlink.h>

#include <array>

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "udpproxy/base/result.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy {

using NetlinkBytes = std::span<const std::uint8_t>;

struct NetlinkAttribute {
    std::uint16_t type = 0;  // without the flags
    NetlinkBytes value;

    [[nodiscard]] std::string text() const;  // up to its first zero
    [[nodiscard]] std::vector<std::uint8_t> bytes() const { return {value.begin(), value.end()}; }
    /// In the byte order of the machine (rtnetlink), absent when the length is another.
    template <class T>
    [[nodiscard]] std::optional<T> number() const {
        T result{};
        if (value.size() != sizeof result) return std::nullopt;
        std::memcpy(&result, value.data(), sizeof result);
        return result;
    }
    /// 4 or 8 bytes in network byte order (nfnetlink); 0 when the length is another.
    [[nodiscard]] std::uint64_t network_number() const;
};

/// The attributes of a message or of a nested attribute, up to the first that is malformed.
[[nodiscard]] std::vector<NetlinkAttribute> read_attributes(NetlinkBytes bytes);
[[nodiscard]] std::optional<NetlinkAttribute> find_attribute(NetlinkBytes bytes,
                                                             std::uint16_t type);

class NetlinkRequest {
public:
    template <class Header>
    NetlinkRequest(std::uint16_t type, std::uint16_t flags, const Header& header) {
        nlmsghdr envelope{};
        envelope.nlmsg_type = type;
        envelope.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
        append(&envelope, sizeof envelope);
        append(&header, sizeof header);
    }
    void add(std::uint16_t type, NetlinkBytes value);
    void add(std::uint16_t type, std::uint32_t number);
    void add(std::uint16_t type, std::string_view text);  // with its closing zero

    /// The whole message, its length filled in.
    [[nodiscard]] NetlinkBytes message();
    [[nodiscard]] bool is_dump() const;

private:
    void append(const void* data, std::size_t bytes);
    std::vector<std::uint8_t> bytes_;
};

/// A message without its envelope.
struct NetlinkAnswer {
    std::uint16_t type = 0;
    std::vector<std::uint8_t> body;

    template <class Header>
    [[nodiscard]] std::optional<Header> header() const {
        Header result{};
        if (body.size() < sizeof result) return std::nullopt;
        std::memcpy(&result, body.data(), sizeof result);
        return result;
    }
    /// What follows a header of this size.
    [[nodiscard]] NetlinkBytes attributes(std::size_t header_bytes) const;
};

class Netlink {
public:
    [[nodiscard]] static Result<Netlink> open(int protocol);
    /// All answers to a dump, or the one answer to a question. Waits a second at most. Error codes
    /// are the kernel's.
    [[nodiscard]] Result<std::vector<NetlinkAnswer>> ask(NetlinkRequest request);

private:
    explicit Netlink(Socket socket) : socket_(std::move(socket)) {}
    Socket socket_;
};

}  // namespace udpproxy
