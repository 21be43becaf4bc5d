// Clients without sockets: frames go out by a packet socket past the queueing discipline, replies
// are read from another one. The namespace's own stack drops what comes for addresses that it does
// not have.
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cstdio>
#include <cstring>

#include "crowd.hpp"
#include "traffic/sockets.hpp"
#include "traffic/stamp.hpp"

namespace udpproxy::traffic {
namespace {

constexpr std::size_t batch = 64;
constexpr std::size_t reply_bytes = 2048;
constexpr std::uint16_t client_port = 20000;

Mac parse_mac(const std::string& text) {
    Mac mac{};
    std::array<unsigned, 6> parts{};
    if (std::sscanf(text.c_str(), "%x:%x:%x:%x:%x:%x", &parts[0], &parts[1], &parts[2], &parts[3],
                    &parts[4], &parts[5]) != 6)
        throw std::runtime_error("not a MAC address: " + text);
    for (std::size_t i = 0; i < mac.size(); ++i) mac[i] = static_cast<std::uint8_t>(parts[i]);
    return mac;
}

Mac mac_of(const Socket& socket, const std::string& interface) {
    ifreq request{};
    std::strncpy(request.ifr_name, interface.c_str(), IFNAMSIZ - 1);
    if (::ioctl(socket.descriptor(), SIOCGIFHWADDR, &request) != 0)
        fail("hardware address of " + interface);
    Mac mac{};
    std::memcpy(mac.data(), request.ifr_hwaddr.sa_data, mac.size());
    return mac;
}

class CrowdOfFrames final : public Crowd {
public:
    CrowdOfFrames(const CrowdPlan& plan, Tally& tally)
        : Crowd(plan, tally), sender_(open_packet(plan.interface, 0)) {
        set_option(sender_, SOL_PACKET, PACKET_VNET_HDR, 1, "PACKET_VNET_HDR");
        set_option(sender_, SOL_PACKET, PACKET_QDISC_BYPASS, 1, "PACKET_QDISC_BYPASS");
        if (plan.replies) receiver_ = open_packet(plan.interface, ETH_P_IP);
        target_ = ntohl(plan.target.address.ipv4_network_order());
        target_port_ = plan.target.port;
        const FrameEnds ends{mac_of(sender_, plan.interface), parse_mac(plan.target_mac), target_,
                             target_port_};
        frames_.assign(batch, Frame(ends, plan.payload_bytes));
        for (std::size_t i = 0; i < batch; ++i) {
            out_pieces_[i] = {frames_[i].bytes().data(), frames_[i].bytes().size()};
            out_[i].msg_hdr.msg_iov = &out_pieces_[i];
            out_[i].msg_hdr.msg_iovlen = 1;
            in_pieces_[i] = {replies_.data() + i * reply_bytes, reply_bytes};
            in_[i].msg_hdr.msg_iov = &in_pieces_[i];
            in_[i].msg_hdr.msg_iovlen = 1;
        }
    }

    void send(std::size_t datagrams) override {
        while (datagrams > 0) {
            const std::size_t now = std::min(datagrams, batch);
            for (std::size_t i = 0; i < now; ++i) {
                const Turn turn = next_turn();
                frames_[i].set_source(plan_.first_address + turn.client, client_port);
                write_stamp(frames_[i].payload(), {turn.client, turn.sequence});
            }
            std::size_t sent = 0;
            while (sent < now) {
                const int done = ::sendmmsg(sender_.descriptor(), out_.data() + sent,
                                            static_cast<unsigned>(now - sent), 0);
                if (done <= 0) {
                    tally_.unsent.add(now - sent);
                    break;
                }
                sent += static_cast<std::size_t>(done);
            }
            tally_.sent.add(sent);
            datagrams -= now;
        }
    }

    void take_replies() override {
        if (!receiver_) return;
        for (int round = 0; round < 8; ++round) {
            const int got =
                ::recvmmsg(receiver_.descriptor(), in_.data(), batch, MSG_DONTWAIT, nullptr);
            for (std::size_t i = 0; got > 0 && i < static_cast<std::size_t>(got); ++i) {
                const auto frame = parse_frame({replies_.data() + i * reply_bytes, in_[i].msg_len});
                if (!frame || frame->source != target_ || frame->source_port != target_port_)
                    continue;
                const bool port_fits = frame->target_port == client_port;
                ownership_.check(
                    frame->payload, frame->payload.size(),
                    port_fits ? frame->target - plan_.first_address : Ownership::nobody - 1,
                    target_port_);
            }
            if (got < static_cast<int>(batch)) return;
        }
    }

private:
    Socket sender_;
    Socket receiver_;
    std::uint32_t target_ = 0;
    std::uint16_t target_port_ = 0;
    std::vector<Frame> frames_;
    std::array<mmsghdr, batch> out_{};
    std::array<iovec, batch> out_pieces_{};
    std::vector<std::byte> replies_ = std::vector<std::byte>(batch * reply_bytes);
    std::array<mmsghdr, batch> in_{};
    std::array<iovec, batch> in_pieces_{};
};

}  // namespace

std::unique_ptr<Crowd> crowd_of_frames(const CrowdPlan& plan, Tally& tally) {
    return std::make_unique<CrowdOfFrames>(plan, tally);
}

}  // namespace udpproxy::traffic
