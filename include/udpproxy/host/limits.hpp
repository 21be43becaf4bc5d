// The limits of the machine: descriptors, processors, ports, names. The rest of the program is
// given the values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "udpproxy/base/result.hpp"
#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/session/port_pool.hpp"

namespace udpproxy {

/// Raises RLIMIT_NOFILE's soft limit to the hard one and returns the limit in force.
[[nodiscard]] std::uint64_t raise_descriptor_limit();
/// The limit without raising it, for checks that must change nothing: the hard limit, to which a
/// start raises the soft one.
[[nodiscard]] std::uint64_t descriptor_limit();

/// The CPUs this process may use (sched_getaffinity(2)), ascending; never empty.
[[nodiscard]] std::vector<int> usable_cpus();
/// Binds the calling thread to one CPU. Returns 0 or errno.
[[nodiscard]] int pin_to_cpu(int cpu);

/// net.ipv4.ip_local_port_range, which IPv6 uses too; the kernel's default when /proc cannot be
/// read.
[[nodiscard]] PortRange ephemeral_ports();

/// net.ipv4.ip_local_reserved_ports, which IPv6 uses too: ports that the kernel gives to nobody who
/// does not ask for them.
[[nodiscard]] std::vector<PortRange> reserved_ports();

/// How long a thread of this process has been ready to run and waited for a processor. 0 where the
/// kernel does not tell (CONFIG_SCHED_INFO).
[[nodiscard]] std::uint64_t run_queue_delay_ns(int thread_id);

}  // namespace udpproxy
