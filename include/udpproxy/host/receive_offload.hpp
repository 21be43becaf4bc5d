// Generic receive offload (GRO) of network devices: whether the kernel collects datagrams that
// follow each other before it hands them up.
#pragma once

#include <optional>
#include <string>

namespace udpproxy {

/// Whether GRO is on for an interface that stands for a device of its own, a physical or a
/// paravirtual one. Nothing for other interfaces (bridges, tunnels, veth), whose datagrams have
/// been collected below them or not at all, and where the kernel does not tell. Asks by
/// SIOCETHTOOL, which needs no privilege (linux/ethtool.h: ETHTOOL_GDRVINFO, ETHTOOL_GGRO).
[[nodiscard]] std::optional<bool> read_receive_offload(const std::string& interface);

}  // namespace udpproxy
