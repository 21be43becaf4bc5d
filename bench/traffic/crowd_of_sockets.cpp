// Clients with a connected socket each, as ordinary programs are: datagrams, or trains that leave
// in one call (UDP_SEGMENT).
#include <netinet/in.h>
#include <sys/socket.h>

#include "crowd.hpp"
#include "traffic/sockets.hpp"
#include "traffic/stamp.hpp"

namespace udpproxy::traffic {
namespace {

constexpr std::size_t train_bytes_max = 65507;

class CrowdOfSockets final : public Crowd {
public:
    CrowdOfSockets(const CrowdPlan& plan, Tally& tally)
        : Crowd(plan, tally), train_(plan.payload_bytes * plan.train_segments) {
        if (train_.size() > train_bytes_max)
            throw std::runtime_error("a train is larger than a datagram: fewer segments or bytes");
        for (std::uint32_t i = 0; i < plan.clients; ++i) {
            sockets_.push_back(
                open_connected_udp(plan.target, {.receive_buffer_bytes = 4 << 20, .gro = true}));
        }
    }

    void send(std::size_t datagrams) override {
        for (std::size_t sent = 0; sent < datagrams; sent += plan_.train_segments) send_train();
    }

    void take_replies() override {
        if (!plan_.replies) return;
        for (std::uint32_t client = 0; client < sockets_.size(); ++client) {
            for (int round = 0; round < 64 && take_train(client); ++round) {
            }
        }
    }

private:
    void send_train() {
        const Turn first = next_turn();
        for (std::uint32_t i = 0; i < plan_.train_segments; ++i) {
            // A train is of one client: its sequence numbers are blocks of as many as it has
            // segments.
            const std::uint32_t sequence = first.sequence * plan_.train_segments + i;
            write_stamp(std::span(train_).subspan(i * plan_.payload_bytes, plan_.payload_bytes),
                        {first.client, sequence});
        }
        iovec piece{train_.data(), train_.size()};
        msghdr message{};
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        std::array<std::byte, control_bytes> control{};
        set_segment_bytes(message, control.data(), train_.size(), plan_.payload_bytes);
        const int socket = sockets_[first.client].descriptor();
        // An older datagram's ICMP error takes the place of a send: once more.
        const bool sent =
            // NOLINTNEXTLINE(misc-redundant-expression): see above
            ::sendmsg(socket, &message, 0) >= 0 || ::sendmsg(socket, &message, 0) >= 0;
        (sent ? tally_.sent : tally_.unsent).add(plan_.train_segments);
    }

    bool take_train(std::uint32_t client) {
        iovec piece{reply_.data(), reply_.size()};
        std::array<std::byte, control_bytes> control{};
        msghdr message{};
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        const auto got = ::recvmsg(sockets_[client].descriptor(), &message, MSG_DONTWAIT);
        if (got < 0) return false;
        const auto bytes = static_cast<std::size_t>(got);
        ownership_.check(std::span<const std::byte>(reply_).first(bytes),
                         segment_bytes_of(message, bytes), client, 0);
        return true;
    }

    std::vector<Socket> sockets_;
    std::vector<std::byte> train_;
    std::vector<std::byte> reply_ = std::vector<std::byte>(65536);
};

}  // namespace

std::unique_ptr<Crowd> crowd_of_sockets(const CrowdPlan& plan, Tally& tally) {
    return std::make_unique<CrowdOfSockets>(plan, tally);
}

}  // namespace udpproxy::traffic
