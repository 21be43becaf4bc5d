// Outgoing: what one departure looks like to sendmsg(2), kept in place until the kernel has read it. Shared by both engines.
#pragma once

#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "udpproxy/base/batch.hpp"
#include "udpproxy/io/traffic.hpp"
#include "udpproxy/net/cmsg.hpp"

namespace udpproxy {

/// A few marked ones of many indices; costs one comparison while none is.
class IndexMarks {
public:
    explicit IndexMarks(std::size_t indices) : marks_(std::make_unique<bool[]>(indices)), marked_(indices) {}

    void insert(std::uint32_t index) {
        if (!std::exchange(marks_[index], true)) marked_.push(index);
    }
    [[nodiscard]] bool contains(std::size_t index) const noexcept { return !marked_.empty() && marks_[index]; }
    void clear() noexcept {
        for (const std::uint32_t index : marked_) marks_[index] = false;
        marked_.clear();
    }

private:
    std::unique_ptr<bool[]> marks_;
    Batch<std::uint32_t> marked_;
};

struct Outgoing {
    msghdr header;
    iovec payload;
    SocketName name;
    alignas(cmsghdr) std::byte control[control_bytes_max];
};

/// A connected socket and no TOS: a plain send will do.
[[nodiscard]] inline bool needs_message(const Departure& departure) noexcept { return departure.to.port != 0 || departure.tos != 0; }

/// Writes `departure` into `outgoing`; `family` is the socket's.
void write_outgoing(const Departure& departure, Family family, Outgoing& outgoing) noexcept;

/// Whether a failed send on a connected socket may have reported an older datagram's ICMP error instead of sending (the kernel's list is
/// icmp_err_convert[] in net/ipv4/icmp.c and its IPv6 twin); then one more attempt is due. Errors that speak of this very send are not on it.
[[nodiscard]] bool may_be_pending_error(int error) noexcept;

/// Whether the kernel had no room for a datagram at this moment: it may be sent again soon, and its buffer stays with the shard.
[[nodiscard]] constexpr bool means_no_room(int error) noexcept { return error == EAGAIN || error == ENOBUFS; }

/// Sends once more, at once. Returns 0 or errno.
[[nodiscard]] int send_again(int descriptor, const Departure& departure, Family family, Outgoing& outgoing) noexcept;

}  // namespace udpproxy
