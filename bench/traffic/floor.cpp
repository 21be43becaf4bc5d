// The floor: the least that a relay with sockets can do. Takes what comes to one socket and sends
// it on by one connected socket, with no session, no look-up and no check. Nothing that forwards
// with recvmmsg and sendmmsg can cost less; what a proxy costs above it is its own.
//
//   --gro       trains in and trains out (UDP_GRO, UDP_SEGMENT)
//   --replies   both ways, with epoll; replies go to whoever wrote last, so there may be one client
//   only
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <vector>

#include "arguments.hpp"
#include "sockets.hpp"

namespace {

using namespace udpproxy::bench;

constexpr std::size_t batch = 64;
constexpr std::size_t buffer_bytes = 65536;

class Relay {
public:
    explicit Relay(bool gro) : gro_(gro) {
        for (std::size_t i = 0; i < batch; ++i) {
            pieces_[i] = {buffers_.data() + i * buffer_bytes, buffer_bytes};
            messages_[i].msg_hdr.msg_iov = &pieces_[i];
            messages_[i].msg_hdr.msg_iovlen = 1;
        }
    }

    // One batch from `from` to `to`. `writer`: where the last sender's address is kept; `reader`:
    // where the batch goes if not connected.
    void pass(int from, int to, int flags, sockaddr_in* writer, sockaddr_in* reader) {
        for (std::size_t i = 0; i < batch; ++i) {
            msghdr& header = messages_[i].msg_hdr;
            pieces_[i].iov_len = buffer_bytes;
            header.msg_name = writer;
            header.msg_namelen = writer != nullptr ? sizeof *writer : 0;
            header.msg_control = gro_ ? controls_[i].data() : nullptr;
            header.msg_controllen = gro_ ? control_bytes : 0;
        }
        const int got = ::recvmmsg(from, messages_.data(), batch, flags, nullptr);
        if (got <= 0) return;
        for (std::size_t i = 0; i < static_cast<std::size_t>(got); ++i) {
            msghdr& header = messages_[i].msg_hdr;
            const std::size_t bytes = messages_[i].msg_len;
            pieces_[i].iov_len = bytes;
            header.msg_name = reader;
            header.msg_namelen = reader != nullptr ? sizeof *reader : 0;
            if (gro_)
                set_segment_bytes(header, controls_[i].data(), bytes,
                                  segment_bytes_of(header, bytes));
        }
        for (int sent = 0; sent < got;) {
            const int done =
                ::sendmmsg(to, messages_.data() + sent, static_cast<unsigned>(got - sent), 0);
            sent += done > 0 ? done : 1;  // what is refused is lost
        }
    }

private:
    bool gro_;
    std::vector<std::byte> buffers_ = std::vector<std::byte>(batch * buffer_bytes);
    std::array<mmsghdr, batch> messages_{};
    std::array<iovec, batch> pieces_{};
    std::array<std::array<std::byte, control_bytes>, batch> controls_{};
};

int watch(int poller, int socket) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = socket;
    return ::epoll_ctl(poller, EPOLL_CTL_ADD, socket, &event);
}

void relay_both_ways(Relay& relay, int listener, int upstream,
                     std::chrono::steady_clock::time_point end) {
    const int poller = ::epoll_create1(EPOLL_CLOEXEC);
    demand(poller >= 0 && watch(poller, listener) == 0 && watch(poller, upstream) == 0, "epoll");
    sockaddr_in client{};
    while (!told_to_stop() && std::chrono::steady_clock::now() < end) {
        std::array<epoll_event, 2> events{};
        const int ready = ::epoll_wait(poller, events.data(), events.size(), 50);
        for (std::size_t i = 0; ready > 0 && i < static_cast<std::size_t>(ready); ++i) {
            if (events[i].data.fd == listener) {
                relay.pass(listener, upstream, MSG_DONTWAIT, &client, nullptr);
            } else {
                relay.pass(upstream, listener, MSG_DONTWAIT, nullptr, &client);
            }
        }
    }
}

}  // namespace

int main(int count, char** words) {
    const Arguments arguments(count, words, "listen upstream seconds gro! replies!");
    listen_for_stop();
    const SocketOptions options{.gro = arguments.flag("gro")};
    const int listener = open_udp(parse_address(arguments.text("listen")), options);
    const int upstream = open_udp(parse_address("0.0.0.0:0"), options);
    connect_udp(upstream, parse_address(arguments.text("upstream")));
    const timeval patience{0, 50000};
    demand(::setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0,
           "SO_RCVTIMEO");
    std::puts("ready");
    std::fflush(stdout);

    Relay relay(options.gro);
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::seconds(arguments.number("seconds", 60));
    if (arguments.flag("replies")) {
        relay_both_ways(relay, listener, upstream, end);
    } else {
        while (!told_to_stop() && std::chrono::steady_clock::now() < end)
            relay.pass(listener, upstream, MSG_WAITFORONE, nullptr, nullptr);
    }
    return 0;
}
