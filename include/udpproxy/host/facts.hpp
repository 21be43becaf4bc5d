// HostFacts: what the doctor looks at, as values: routes, interfaces, filters, limits, sockets.
// Collected once by collect_host_facts(), which sends nothing and changes nothing; what follows
// from them is doctor.hpp's, so that every finding can be tested without a host.
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
    int reverse_path = 0;  // rp_filter as it acts: the larger of `all` and the interface's own; 0
                           // off, 1 strict, 2 loose
    std::vector<Address> addresses;
};

/// What routing says about one destination.
struct RouteFacts {
    int error = 0;          // errno when there is no way: ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL
    bool is_local = false;  // the destination is an address of this host
    std::uint32_t interface_index = 0;
    Address source;         // unspecified: none chosen
    Address next_hop;       // unspecified: on the link
    std::uint32_t mtu = 0;  // of the route, or what was learnt of the path; 0: the interface's
};

/// Whether the kernel would take a reply that comes in on this interface: 0, EXDEV (rp_filter) or
/// EINVAL (an impossible source).
struct ReplyWay {
    std::uint32_t interface_index = 0;
    int error = 0;
};

enum class NeighbourState : std::uint8_t { unknown, answers, silent };

/// The upstream, or one of its aliases. A prefix is looked at by one address: the upstream's where
/// it is inside, else its first that is not our own.
struct TargetFacts {
    Endpoint endpoint;    // port 0: any
    std::string text;     // as configured
    std::string network;  // what commands call it: the address, or the prefix
    RouteFacts route;
    std::vector<ReplyWay> ways;
    NeighbourState neighbour = NeighbourState::unknown;  // of the next hop
};

/// A socket of this network namespace that holds a listener's address and port.
struct BoundSocket {
    Endpoint local;
    std::uint64_t drops = 0;  // datagrams that found its receive queue full
    std::string holder;       // name of the program, empty when it may not be seen
};

struct ListenFacts {
    bool is_here = true;                // an address of this host, or unspecified
    std::uint32_t interface_index = 0;  // that has the address; 0: unspecified, or none
    std::vector<BoundSocket> sockets;
};

struct ProxyFacts {
    std::optional<Endpoint> upstream;  // absent: its name was not resolved
    std::string resolve_error;
    std::vector<Address> sources_absent;  // configured, but not on this host
    std::vector<TargetFacts> targets;     // the upstream first; empty when it is not known
    std::vector<ListenFacts> listen;      // one for each of the proxy's listen addresses
};

struct ConntrackFacts {
    bool is_loaded = false;
    std::optional<std::uint64_t> entries;
    std::optional<std::uint64_t> entries_max;
    std::optional<std::uint64_t> udp_stream_timeout_s;  // of a flow that was answered
};

/// Drops of this network namespace since it was made (/proc/net/snmp, /proc/net/netstat); absent
/// when they cannot be read.
struct DropFacts {
    std::optional<std::uint64_t> reverse_path;    // TcpExt IPReversePathFilter
    std::optional<std::uint64_t> receive_buffer;  // Udp RcvbufErrors, both families
    std::optional<std::uint64_t> send_buffer;     // Udp SndbufErrors
    std::optional<std::uint64_t> checksum;        // Udp InCsumErrors
};

/// Something that could not be looked at.
struct Unseen {
    std::string what;
    std::string why;
    std::string fix;
};

struct HostFacts {
    std::string kernel;                   // `6.1.0-13-amd64`
    bool may_administer_network = false;  // CAP_NET_ADMIN
    bool may_bind_low_ports = false;      // CAP_NET_BIND_SERVICE
    bool has_seccomp_filter = false;
    std::uint32_t shards = 1;
    std::optional<std::uint64_t> rmem_max;
    std::optional<std::uint64_t> wmem_max;
    PortRange ephemeral{32768, 60999};
    std::vector<PortRange> reserved_ports;
    std::uint32_t unprivileged_port_start = 1024;
    std::uint64_t descriptors_soft = 1024;
    std::uint64_t descriptors_hard = 1024;
    std::optional<std::uint64_t> nr_open;
    std::optional<std::uint64_t> file_max;
    std::optional<std::uint64_t> files_open;  // of the whole system
    std::optional<int> io_uring_disabled;     // sysctl kernel.io_uring_disabled, since Linux 6.6
    UringProbe io_uring;
    std::vector<InterfaceFacts> interfaces;
    std::vector<ProxyFacts> proxies;  // one for each of the configuration's
    ConntrackFacts conntrack;
    PacketFilter filter;
    std::vector<std::string>
        legacy_tables;  // of iptables-legacy and ip6tables-legacy, whose rules are not looked at
    DropFacts drops;
    std::vector<Unseen> unseen;

    [[nodiscard]] const InterfaceFacts* interface_of(std::uint32_t index) const;
    /// Its name, or its number when there is none.
    [[nodiscard]] std::string interface_name(std::uint32_t index) const;
};

}  // namespace udpproxy
