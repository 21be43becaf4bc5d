// The service behind the proxies: takes datagrams, judges whose they are, and sends them back if
// told to (--echo). Started by the runner for each measurement; ends by itself after --seconds.
//
// Without --echo it looks every half millisecond instead of waiting in the receive: otherwise every
// datagram that finds it asleep would make the proxy's CPU wake it, and the proxy would pay for the
// habits of its service.
//
// --sample N: reads one datagram in N, chosen by the kernel at random before it is queued. The
// service then costs the clients' CPU little when it shares it, and all of what was forwarded is
// still counted, by the kernel (bench/README.md).
#include <linux/filter.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

#include "arguments.hpp"
#include "ownership.hpp"
#include "sockets.hpp"

namespace {

using namespace udpproxy::bench;

constexpr std::size_t batch = 64;
constexpr std::size_t buffer_bytes = 65536;

// Keeps one datagram in `every`.
void sample(int socket, std::uint32_t every) {
    const auto random = static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM);
    std::array<sock_filter, 5> program{{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, random),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, every),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
        BPF_STMT(BPF_RET | BPF_K, 0),
    }};
    const sock_fprog filter{program.size(), program.data()};
    demand(::setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) == 0,
           "SO_ATTACH_FILTER");
}

class Service {
public:
    Service(int socket, Tally& tally, Ownership& ownership, bool echo)
        : socket_(socket), tally_(tally), ownership_(ownership), echo_(echo) {
        for (std::size_t i = 0; i < batch; ++i) {
            pieces_[i] = {buffers_.data() + i * buffer_bytes, buffer_bytes};
            messages_[i].msg_hdr.msg_name = &names_[i];
            messages_[i].msg_hdr.msg_iov = &pieces_[i];
            messages_[i].msg_hdr.msg_iovlen = 1;
        }
    }

    // One batch at most; false when there was nothing. With an echo it waits a little for the
    // first.
    bool serve() {
        for (std::size_t i = 0; i < batch; ++i) {
            pieces_[i].iov_len = buffer_bytes;
            messages_[i].msg_hdr.msg_namelen = sizeof names_[i];
            messages_[i].msg_hdr.msg_control = controls_[i].data();
            messages_[i].msg_hdr.msg_controllen = control_bytes;
        }
        const int got = ::recvmmsg(socket_, messages_.data(), batch,
                                   echo_ ? MSG_WAITFORONE : MSG_DONTWAIT, nullptr);
        if (got <= 0) return false;
        const auto count = static_cast<std::size_t>(got);
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t bytes = messages_[i].msg_len;
            const std::size_t segment = segment_bytes_of(messages_[i].msg_hdr, bytes);
            ownership_.judge({buffers_.data() + i * buffer_bytes, bytes}, segment,
                             Ownership::nobody, ntohs(names_[i].sin_port));
            pieces_[i].iov_len = bytes;
            set_segment_bytes(messages_[i].msg_hdr, controls_[i].data(), bytes, segment);
        }
        if (echo_) send_back(count);
        return true;
    }

private:
    void send_back(std::size_t count) {
        std::size_t sent = 0;
        while (sent < count) {
            const int done = ::sendmmsg(socket_, messages_.data() + sent,
                                        static_cast<unsigned>(count - sent), 0);
            // A pending ICMP error takes the place of one send; the datagram is left out and
            // counted.
            if (done <= 0) tally_.unsent.add(1);
            sent += done > 0 ? static_cast<std::size_t>(done) : 1;
            tally_.sent.add(done > 0 ? static_cast<std::uint64_t>(done) : 0);
        }
    }

    int socket_;
    Tally& tally_;
    Ownership& ownership_;
    bool echo_;
    std::vector<std::byte> buffers_ = std::vector<std::byte>(batch * buffer_bytes);
    std::array<mmsghdr, batch> messages_{};
    std::array<iovec, batch> pieces_{};
    std::array<sockaddr_in, batch> names_{};
    std::array<std::array<std::byte, control_bytes>, batch> controls_{};
};

}  // namespace

int main(int count, char** words) {
    const Arguments arguments(count, words,
                              "listen tally clients seconds sample echo! gro! owned-ports!");
    listen_for_stop();
    Tally& tally = mapped_tally(arguments.text("tally", ""));
    const int socket =
        open_udp(parse_address(arguments.text("listen")), {.gro = arguments.flag("gro")});
    // So that a signal or the end of the time is seen by a receive that waits.
    const timeval patience{0, 50000};
    demand(::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0,
           "SO_RCVTIMEO");
    if (const auto every = arguments.number("sample", 1); every > 1)
        sample(socket, static_cast<std::uint32_t>(every));

    Ownership ownership(tally, static_cast<std::uint32_t>(arguments.number("clients", 0)),
                        arguments.flag("owned-ports"));
    Service service(socket, tally, ownership, arguments.flag("echo"));
    std::puts("ready");
    std::fflush(stdout);
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::seconds(arguments.number("seconds", 60));
    while (!told_to_stop() && std::chrono::steady_clock::now() < end) {
        if (!service.serve() && !arguments.flag("echo"))
            std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
    return 0;
}
