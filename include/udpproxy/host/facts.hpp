// HostFacts: the facts that the doctor needs, as values: routes, interfaces, filters, limits,
// sockets. collect_host_facts() collects them once, sends nothing and changes nothing. The
// conclusions are drawn in doctor.hpp, so that every finding can be tested without a host.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "udpproxy/host/packet_filter.hpp"
#include "udpproxy/io/probe.hpp"
#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/session/port_pool.hpp"

namespace udpproxy {

struct InterfaceFacts {
    std::uint32_t index = 0;
    std::string name;
    std::uint32_t mtu = 0;
    bool is_up = true;
    bool has_carrier = true;
    bool is_loopback = false;
    int reverse_path = 0;  // rp_filter, the larger of its own and `all`: 0 off, 1 strict, 2 loose
    std::vector<Address> addresses;
    std::optional<bool> has_receive_offload{};  // see read_receive_offload()
};

/// The kernel's route to one destination.
struct RouteFacts {
    int error = 0;  // errno when there is no route: ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL
    bool is_local = false;  // the destination is an address of this host
    std::uint32_t interface_index = 0;
    Address source;         // unspecified: none chosen
    Address next_hop;       // unspecified: on the link
    std::uint32_t mtu = 0;  // of the route, or learnt for the path; 0: the interface's
};

/// Whether the kernel would take a reply that arrives on this interface: 0, EXDEV (rp_filter) or
/// EINVAL (an impossible source).
struct ReplyWay {
    std::uint32_t interface_index = 0;
    int error = 0;
};

enum class NeighbourState : std::uint8_t { unknown, answers, silent };

/// The upstream, or one of its aliases. One address stands for a prefix: the upstream's if it is
/// inside, else the first that is not the host's own.
struct TargetFacts {
    Endpoint endpoint;    // port 0: any
    std::string text;     // as configured
    std::string network;  // for commands: the address, or the prefix
    RouteFacts route;
    std::vector<ReplyWay> ways;
    NeighbourState neighbour = NeighbourState::unknown;  // of the next hop
};

/// A socket of this network namespace that holds a listener's address and port.
struct BoundSocket {
    Endpoint local;
    std::uint64_t drops = 0;  // datagrams lost to a full receive queue
    std::string holder;       // name of the program; empty without permission to read it
    std::string shown{};      // `nginx (process 123)`, `a socket of user 101`
    bool is_own = false;      // this process has it; before a start: it was handed over
};

struct ListenFacts {
    bool is_here = true;                // an address of this host, or unspecified
    std::uint32_t interface_index = 0;  // of the address; 0: unspecified, or none
    std::vector<BoundSocket> sockets;
    std::vector<BoundSocket> of_both_families{};  // for IPv4: IPv6 sockets that may hold it too
};

/// What only a start opens. Errors are errno, 0: nothing stands in the way.
struct StartFacts {
    bool has_admin_group = true;            // or none is configured
    int admin_socket_error = 0;             // of its directory
    bool admin_socket_is_file = false;      // its path is taken by what is no socket
    std::string admin_socket_holder;        // a program that listens on it; empty: none
    bool admin_address_is_here = true;      // that of admin.listen
    std::optional<BoundSocket> admin_port;  // a listening socket that holds admin.listen
    int log_file_error = 0;
};

struct ProxyFacts {
    std::optional<Endpoint> upstream;  // absent: its name was not resolved
    std::string resolve_error;
    std::vector<Address> sources_absent;  // configured, but not on this host
    std::vector<TargetFacts> targets;  // the upstream first; empty when the upstream is not known
    std::vector<ListenFacts> listen;   // one for each of the proxy's listen addresses
};

struct ConntrackFacts {
    bool is_loaded = false;
    std::optional<std::uint64_t> entries;
    std::optional<std::uint64_t> entries_max;
    std::optional<std::uint64_t> udp_stream_timeout_s;  // of a flow that has been answered
};

/// Drops of this network namespace since it was made (/proc/net/snmp, /proc/net/netstat); absent
/// when they cannot be read.
struct DropFacts {
    std::optional<std::uint64_t> reverse_path;    // TcpExt IPReversePathFilter
    std::optional<std::uint64_t> receive_buffer;  // Udp RcvbufErrors, both families
    std::optional<std::uint64_t> send_buffer;     // Udp SndbufErrors
    std::optional<std::uint64_t> checksum;        // Udp InCsumErrors
};

/// A part of the host that could not be examined.
struct Unseen {
    std::string what;
    std::string why;
    std::string fix;
};

struct HostFacts {
    std::string kernel;                   // `6.1.0-13-amd64`
    std::string user;                     // that this process runs as: `root`
    bool may_administer_network = false;  // CAP_NET_ADMIN
    bool may_bind_low_ports = false;      // CAP_NET_BIND_SERVICE
    bool has_seccomp_filter = false;
    bool has_ipv6 = true;  // the kernel makes IPv6 sockets for this process
    std::uint32_t shards = 1;
    std::optional<std::uint64_t> rmem_max;
    std::optional<std::uint64_t> wmem_max;
    std::optional<std::uint64_t> udp_buckets{};  // net.ipv4.udp_hash_entries, since Linux 6.2
    PortRange ephemeral{32768, 60999, true};
    std::vector<PortRange> reserved_ports;
    std::uint32_t unprivileged_port_start = 1024;
    std::uint64_t descriptors_soft = 1024;
    std::uint64_t descriptors_hard = 1024;
    // Those of descriptors_hard whose tables address space has room for; 0: not even the smallest.
    std::uint64_t descriptors_fitting = 1024;
    std::optional<std::uint64_t> nr_open;
    std::optional<std::uint64_t> file_max;
    std::optional<std::uint64_t> files_open;  // in the whole system
    std::optional<int> io_uring_disabled;     // sysctl kernel.io_uring_disabled, since Linux 6.6
    UringProbe io_uring;
    std::vector<InterfaceFacts> interfaces;
    std::vector<ProxyFacts> proxies;  // one for each of the configuration's
    ConntrackFacts conntrack;
    PacketFilter filter;
    std::vector<std::string>
        legacy_tables;  // of iptables-legacy and ip6tables-legacy, whose rules are not read
    DropFacts drops;
    std::optional<StartFacts> start;  // absent: this process has started already
    std::vector<Unseen> unseen;

    [[nodiscard]] const InterfaceFacts* interface_of(std::uint32_t index) const;
    /// The interface's name, or its number when it has no name.
    [[nodiscard]] std::string interface_name(std::uint32_t index) const;
};

}  // namespace udpproxy
