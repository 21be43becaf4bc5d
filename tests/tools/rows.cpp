// What the kernel refuses is passed over, here and there after a second try.
#include "rows.hpp"

#include <sys/epoll.h>

#include <cerrno>

namespace udpproxy::traffic {

Inbox::Inbox() : memory_(row_max * datagram_bytes_max) {
    for (std::size_t i = 0; i < row_max; ++i) {
        pieces_[i] = {memory_.data() + i * datagram_bytes_max, datagram_bytes_max};
        headers_[i].msg_hdr.msg_name = &names_[i];
        headers_[i].msg_hdr.msg_iov = &pieces_[i];
        headers_[i].msg_hdr.msg_iovlen = 1;
    }
}

std::size_t Inbox::receive(int descriptor) {
    for (int attempt = 0; attempt < 8; ++attempt) {
        for (mmsghdr& header : headers_) header.msg_hdr.msg_namelen = sizeof(SocketName);
        const int count = recvmmsg(descriptor, headers_.data(), row_max, MSG_DONTWAIT, nullptr);
        if (count >= 0) return static_cast<std::size_t>(count);
        if (errno == EAGAIN) return 0;
    }
    return 0;
}

std::span<const std::byte> Inbox::payload(std::size_t index) const {
    return {memory_.data() + index * datagram_bytes_max, headers_[index].msg_len};
}

void Outbox::add(std::span<const std::byte> payload, const Endpoint& to) {
    msghdr& header = headers_[count_].msg_hdr;
    header = {};
    pieces_[count_] = {const_cast<std::byte*>(payload.data()), payload.size()};
    header.msg_name = &names_[count_];
    header.msg_namelen = write_socket_name(to, names_[count_]);
    header.msg_iov = &pieces_[count_];
    header.msg_iovlen = 1;
    ++count_;
}

std::size_t Outbox::flush(int descriptor) {
    std::size_t sent = 0;
    bool tried_again = false;
    for (std::size_t next = 0; next < count_;) {
        const int done = sendmmsg(descriptor, headers_.data() + next,
                                  static_cast<unsigned>(count_ - next), MSG_DONTWAIT);
        if (done > 0) {
            next += static_cast<std::size_t>(done);
            sent += static_cast<std::size_t>(done);
            tried_again = false;
        } else if (tried_again) {
            ++next;
            tried_again = false;
        } else {
            tried_again = true;  // the error may have been an older datagram's
        }
    }
    count_ = 0;
    return sent;
}

Readiness::Readiness() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    if (!epoll_) fail("epoll_create1");
}

void Readiness::add(int descriptor, std::uint32_t number) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u32 = number;
    if (epoll_ctl(epoll_.descriptor(), EPOLL_CTL_ADD, descriptor, &event) != 0) fail("epoll_ctl");
}

std::span<const std::uint32_t> Readiness::wait(Duration wait) {
    std::array<epoll_event, 256> events;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(wait);
    const timespec limit{seconds.count(), (wait - seconds).count()};
    const int count = epoll_pwait2(epoll_.descriptor(), events.data(),
                                   static_cast<int>(events.size()), &limit, nullptr);
    ready_.clear();
    for (int i = 0; i < count; ++i) ready_.push_back(events[static_cast<std::size_t>(i)].data.u32);
    return ready_;
}

RawRow::RawRow(int descriptor, const Address& to) : descriptor_(descriptor) {
    const socklen_t length = write_socket_name(Endpoint{to}, name_);
    for (std::size_t i = 0; i < row_max; ++i) {
        pieces_[i].iov_base = packets_.data() + i * packet_bytes_max;
        headers_[i].msg_hdr.msg_name = &name_;
        headers_[i].msg_hdr.msg_namelen = length;
        headers_[i].msg_hdr.msg_iov = &pieces_[i];
        headers_[i].msg_hdr.msg_iovlen = 1;
    }
}

std::span<std::byte> RawRow::next() {
    return {static_cast<std::byte*>(pieces_[count_].iov_base), packet_bytes_max};
}

std::size_t RawRow::push(std::size_t bytes) {
    pieces_[count_++].iov_len = bytes;
    return count_ == row_max ? flush() : 0;
}

std::size_t RawRow::flush() {
    std::size_t sent = 0;
    for (std::size_t at = 0; at < count_;) {
        const int done =
            sendmmsg(descriptor_, headers_.data() + at, static_cast<unsigned>(count_ - at), 0);
        if (done > 0)
            sent += static_cast<std::size_t>(done);
        else if (errno == EINTR)
            continue;
        at += done > 0 ? static_cast<std::size_t>(done) : 1;
    }
    count_ = 0;
    return sent;
}

}  // namespace udpproxy::traffic
