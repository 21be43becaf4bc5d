// The floor: the least that a relay with sockets can do. Takes what comes to one socket and sends
// it on by one connected socket, with no session, no look-up and no check. Nothing that forwards
// with recvmmsg and sendmmsg can cost less; what a proxy costs above it is its own.
//
//   --gro       trains in and trains out (UDP_GRO, UDP_SEGMENT)
//   --replies   both ways, with epoll; replies go to whoever wrote last, so there may be one client
//   only
#include <sys/epoll.h>
#include <sys/socket.h>

#include <CLI/CLI.hpp>
#include <array>
#include <vector>

#include "traffic/program.hpp"
#include "traffic/sockets.hpp"

namespace {

using namespace udpproxy;
using namespace udpproxy::traffic;

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

void relay_both_ways(Relay& relay, int listener, int upstream, Instant end) {
    const Socket epoll(::epoll_create1(EPOLL_CLOEXEC));
    const int poller = epoll.descriptor();
    if (!epoll || watch(poller, listener) != 0 || watch(poller, upstream) != 0) fail("epoll");
    sockaddr_in client{};
    while (!stop_wanted() && monotonic_now() < end) {
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

struct Options {
    std::string listen;
    std::string upstream;
    std::uint32_t seconds = 60;
    bool gro = false;
    bool replies = false;
};

void run(const Options& options) {
    const UdpOptions of_socket{.gro = options.gro};
    const Socket listener = open_udp(wanted(parse_endpoint(options.listen)), of_socket);
    const Socket upstream = open_connected_udp(wanted(parse_endpoint(options.upstream)), of_socket);
    set_receive_timeout(listener, std::chrono::milliseconds{50});
    say_ready();
    Relay relay(options.gro);
    const Instant end = monotonic_now() + std::chrono::seconds{options.seconds};
    if (options.replies) {
        relay_both_ways(relay, listener.descriptor(), upstream.descriptor(), end);
    } else {
        while (!stop_wanted() && monotonic_now() < end)
            relay.pass(listener.descriptor(), upstream.descriptor(), MSG_WAITFORONE, nullptr,
                       nullptr);
    }
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"the least that a relay with sockets can do"};
    Options options;
    app.add_option("--listen", options.listen, "endpoint")->required();
    app.add_option("--upstream", options.upstream, "endpoint")->required();
    app.add_option("--seconds", options.seconds, "at most");
    app.add_flag("--gro", options.gro, "trains in and trains out");
    app.add_flag("--replies", options.replies, "both ways");
    app.callback([&options] { run(options); });
    return run_program(app, argc, argv);
}
