// Reads the rules from nft, run as a child process. libnftables, which nft is made of, is not
// linked: it ends its process when it finds no memory or no socket, it knows no time limit, and its
// licence (GPL-2) asks for the same licence of programs linked with it. A running proxy that is
// asked for a diagnosis survives whatever nft does.
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <array>
#include <cerrno>
#include <chrono>

#include "child_output.hpp"
#include "udpproxy/host/netlink.hpp"
#include "udpproxy/host/packet_filter.hpp"

namespace udpproxy {

namespace {

constexpr ChildLimits limits{std::chrono::seconds{3}, std::size_t{8} << 20};

/// Whether nftables answers, and the kernel's errno where it does not: nft prints a text only.
Result<void> ask_nftables() {
    alignas(nlmsghdr) std::array<char, 64> buffer{};
    nlmsghdr& request = *mnl_nlmsg_put_header(buffer.data());
    request.nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN;
    request.nlmsg_flags = NLM_F_REQUEST;
    mnl_nlmsg_put_extra_header(&request, sizeof(nfgenmsg));
    return ask_netlink(NETLINK_NETFILTER, request, [](const nlmsghdr&) {});
}

/// Asks for protocols as numbers: /etc/protocols, which has their names, may be absent.
Result<std::string> list_of(const std::string& nft) {
    return child_output({nft, "--json", "--numeric-protocol", "list", "ruleset"}, limits);
}

}  // namespace

Result<PacketFilter> read_packet_filter() {
    if (const auto answer = ask_nftables(); !answer) {
        const int code = answer.error().code;
        // A kernel without nf_tables, or with its module not loaded, does not know the question.
        if (code == EPROTONOSUPPORT || code == EINVAL || code == EOPNOTSUPP || code == ENOENT)
            return PacketFilter{};
        return Error{"nftables: " + answer.error().message, code};
    }
    auto list = list_of("nft");
    // The PATH of a program that no administrator started has no sbin.
    if (!list && list.error().code == ENOENT) list = list_of("/usr/sbin/nft");
    if (!list) return Error{"nftables: " + list.error().message, list.error().code};
    return PacketFilter::parse(*list);
}

}  // namespace udpproxy
