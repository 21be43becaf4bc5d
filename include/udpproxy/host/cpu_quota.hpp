// The CPU time that a cgroup grants, and how many shards shards = "auto" makes of it. A container
// with a quota sees every CPU of its host: a shard for each of them would use the quota up in a
// part of each period, and all of them would stand still for the rest of it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace udpproxy {

/// So much CPU time in each period, over all CPUs. Both are more than 0.
struct CpuQuota {
    std::uint64_t quota_us = 1;
    std::uint64_t period_us = 1;

    /// Rounded up: 150 % are two CPUs.
    [[nodiscard]] std::uint64_t cpus() const noexcept;
    /// `150 %`, of one CPU.
    [[nodiscard]] std::string text() const;
};

/// The text of a file; nothing when it cannot be read.
using FileReader = std::function<std::optional<std::string>(const std::string& path)>;

/// The tightest quota of this process' cgroup and of those above it, as far as they are mounted:
/// cpu.max of cgroups v2, cpu.cfs_quota_us and cpu.cfs_period_us of v1 (cgroups(7); the kernel's
/// Documentation/admin-guide/cgroup-v2.rst and Documentation/scheduler/sched-bwc.rst). In a cgroup
/// namespace those above its root are out of sight. What is missing or odd is no quota.
[[nodiscard]] std::optional<CpuQuota> find_cpu_quota(const FileReader& read);

struct AutomaticShards {
    std::uint32_t shards = 1;
    std::string reason;
};
/// For so many CPUs that the process may use, at least 1: one per CPU, but no more than the quota
/// is worth.
[[nodiscard]] AutomaticShards choose_shards(std::uint32_t cpus,
                                            const std::optional<CpuQuota>& quota);
/// On this machine.
[[nodiscard]] AutomaticShards automatic_shards();

}  // namespace udpproxy
