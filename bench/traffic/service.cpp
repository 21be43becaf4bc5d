// The service behind the proxies: takes datagrams, checks whose they are, and sends them back if
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

#include <CLI/CLI.hpp>
#include <array>
#include <vector>

#include "traffic/ownership.hpp"
#include "traffic/program.hpp"
#include "traffic/sockets.hpp"

namespace {

using namespace udpproxy;
using namespace udpproxy::traffic;

constexpr std::size_t batch = 64;
constexpr std::size_t buffer_bytes = 65536;

// Keeps one datagram in `every`.
void sample(const Socket& socket, std::uint32_t every) {
    const auto random = static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM);
    std::array<sock_filter, 5> program{{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, random),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, every),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
        BPF_STMT(BPF_RET | BPF_K, 0),
    }};
    const sock_fprog filter{program.size(), program.data()};
    if (::setsockopt(socket.descriptor(), SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) !=
        0)
        fail("setsockopt SO_ATTACH_FILTER");
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
            ownership_.check({buffers_.data() + i * buffer_bytes, bytes}, segment,
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

struct Options {
    std::string listen;
    std::string tally;
    std::uint32_t clients = 0;
    std::uint32_t seconds = 60;
    std::uint32_t sample = 1;
    bool echo = false;
    bool gro = false;
    bool owned_ports = false;
};

void run(const Options& options) {
    Tally& tally = mapped_tally(options.tally);
    const Socket socket = open_udp(wanted(parse_endpoint(options.listen)), {.gro = options.gro});
    set_receive_timeout(socket, std::chrono::milliseconds{50});
    if (options.sample > 1) sample(socket, options.sample);
    Ownership ownership(tally, options.clients, options.owned_ports);
    Service service(socket.descriptor(), tally, ownership, options.echo);
    say_ready();
    const Instant end = monotonic_now() + std::chrono::seconds{options.seconds};
    while (!stop_wanted() && monotonic_now() < end) {
        if (!service.serve() && !options.echo) sleep_for(std::chrono::microseconds{500});
    }
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"service of udpproxy's benchmark"};
    Options options;
    app.add_option("--listen", options.listen, "endpoint")->required();
    app.add_option("--tally", options.tally, "file of the counts");
    app.add_option("--clients", options.clients, "so many, whose order is watched");
    app.add_option("--seconds", options.seconds, "at most");
    app.add_option("--sample", options.sample, "read one datagram in so many");
    app.add_flag("--echo", options.echo, "send everything back");
    app.add_flag("--gro", options.gro, "receive trains");
    app.add_flag("--owned-ports", options.owned_ports, "each source port belongs to one client");
    app.callback([&options] { run(options); });
    return run_program(app, argc, argv);
}
