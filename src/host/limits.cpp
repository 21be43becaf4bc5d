// Reads limits from the kernel, with defaults where it does not tell them.
#include "udpproxy/host/limits.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "udpproxy/host/procfs.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy {

std::uint64_t raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
    if (limit.rlim_cur < limit.rlim_max) {
        const rlimit raised{limit.rlim_max, limit.rlim_max};
        if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
    }
    return limit.rlim_cur;
}

std::uint64_t descriptor_limit() {
    rlimit limit{};
    return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max : 1024;
}

std::vector<int> usable_cpus() {
    cpu_set_t set;
    CPU_ZERO(&set);
    std::vector<int> cpus;
    if (::sched_getaffinity(0, sizeof set, &set) == 0) {
        for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
            if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
        }
    }
    if (cpus.empty()) cpus.push_back(0);
    return cpus;
}

int pin_to_cpu(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set);
}

PortRange ephemeral_ports() {
    unsigned first = 0;
    unsigned last = 0;
    std::ifstream file("/proc/sys/net/ipv4/ip_local_port_range");
    if (file >> first >> last && first >= 1 && first <= last && last <= 65535)
        return {static_cast<std::uint16_t>(first), static_cast<std::uint16_t>(last), true};
    return {32768, 60999, true};
}

std::vector<PortRange> reserved_ports() {
    return parse_port_list(
        read_host_file("/proc/sys/net/ipv4/ip_local_reserved_ports").value_or(""));
}

std::uint64_t run_queue_delay_ns(int thread_id) {
    // A shard's thread calls this too, and must not allocate at run time.
    std::array<char, 64> path{};
    std::array<char, 96> text{};
    std::snprintf(path.data(), path.size(), "/proc/self/task/%d/schedstat", thread_id);
    const Socket file{::open(path.data(), O_RDONLY | O_CLOEXEC)};
    if (!file || ::read(file.descriptor(), text.data(), text.size() - 1) <= 0) return 0;
    char* delay = nullptr;
    (void)std::strtoull(text.data(), &delay, 10);  // the time spent running comes first
    return std::strtoull(delay, nullptr, 10);
}

}  // namespace udpproxy
