// One message is one packet: a byte for its kind, one for its number, and the text.
#include "udpproxy/keeper/channel.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>

#include "udpproxy/base/assert.hpp"

namespace udpproxy {

bool Channel::send(const Message& message) const noexcept {
    UDPPROXY_ASSERT(message.text.size() <= text_bytes_max);
    std::array<std::uint8_t, 2> head{static_cast<std::uint8_t>(message.kind), message.number};
    std::array<iovec, 2> parts{
        {{head.data(), head.size()},
         {const_cast<char*>(message.text.data()), message.text.size()}}};  // sendmsg(2) reads only
    msghdr packet{};
    packet.msg_iov = parts.data();
    packet.msg_iovlen = parts.size();
    return ::sendmsg(descriptor_, &packet, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

std::optional<Message> Channel::receive() noexcept {
    // MSG_TRUNC: the length is that of the packet, whether it fits or not.
    const ssize_t length =
        ::recv(descriptor_, bytes_.data(), bytes_.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (length <= 0) {
        is_broken_ = length == 0 || (errno != EAGAIN && errno != EINTR);
        return std::nullopt;
    }
    const auto bytes = static_cast<std::size_t>(length);
    if (bytes < 2 || bytes > bytes_.size()) return Message{};
    return Message{static_cast<MessageKind>(bytes_[0]),
                   static_cast<std::uint8_t>(bytes_[1]),
                   {bytes_.data() + 2, bytes - 2}};
}

}  // namespace udpproxy
