// Finds where the cgroup of this process is mounted and reads the quotas from it up to the mount.
// What proc(5) and the kernel write is read strictly: a quota that is not understood is none.
#include "udpproxy/host/cpu_quota.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <sstream>
#include <string_view>
#include <vector>

#include "udpproxy/host/limits.hpp"
#include "udpproxy/host/procfs.hpp"

namespace udpproxy {

namespace {

/// The words up to the first that is not a whole number above 0.
std::vector<std::uint64_t> quota_numbers(const std::optional<std::string>& text) {
    std::vector<std::uint64_t> numbers;
    std::istringstream stream{text.value_or("")};
    for (std::string word; stream >> word;) {
        std::uint64_t number = 0;
        const char* end = word.data() + word.size();
        const auto parsed = std::from_chars(word.data(), end, number);
        if (parsed.ec != std::errc{} || parsed.ptr != end || number == 0) break;
        numbers.push_back(number);
    }
    return numbers;
}

/// `cpu` in `rw,cpu,cpuacct`.
bool has_cpu(std::string_view list) {
    while (!list.empty()) {
        const std::size_t comma = std::min(list.find(','), list.size());
        if (list.substr(0, comma) == "cpu") return true;
        list.remove_prefix(std::min(comma + 1, list.size()));
    }
    return false;
}

struct CgroupPaths {
    std::optional<std::string> v1;  // in the hierarchy with the cpu controller
    std::optional<std::string> v2;
};

/// /proc/self/cgroup: `4:cpu,cpuacct:/path` of v1, `0::/path` of v2. A path may hold colons.
CgroupPaths parse_cgroups(const std::string& text) {
    CgroupPaths paths;
    std::istringstream stream{text};
    for (std::string line; std::getline(stream, line);) {
        const std::size_t first = line.find(':');
        if (first == std::string::npos) continue;
        const std::size_t second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        std::string path = line.substr(second + 1);
        if (path.empty() || path.front() != '/') continue;
        if (controllers.empty())
            paths.v2 = std::move(path);
        else if (has_cpu(controllers))
            paths.v1 = std::move(path);
    }
    return paths;
}

/// mountinfo writes a blank as `\040`.
std::string without_escapes(const std::string& text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        unsigned code = 0;
        const char* digits = text.data() + i + 1;
        if (text[i] == '\\' && i + 3 < text.size() &&
            std::from_chars(digits, digits + 3, code, 8).ptr == digits + 3) {
            plain += static_cast<char>(code);
            i += 3;
        } else {
            plain += text[i];
        }
    }
    return plain;
}

struct CgroupMount {
    std::string root;  // the cgroup that is seen at the mount point
    std::string point;
    bool is_v2 = false;
};

/// /proc/self/mountinfo: id parent device root point options [fields]... - type source options.
std::vector<CgroupMount> parse_cgroup_mounts(const std::string& text) {
    std::vector<CgroupMount> mounts;
    std::istringstream stream{text};
    for (std::string line; std::getline(stream, line);) {
        std::istringstream fields{line};
        std::string skipped;
        std::string root;
        std::string point;
        std::string type;
        std::string options;
        fields >> skipped >> skipped >> skipped >> root >> point;
        while (fields >> skipped && skipped != "-") {
        }
        fields >> type >> skipped >> options;
        if (fields && (type == "cgroup2" || (type == "cgroup" && has_cpu(options))))
            mounts.push_back({without_escapes(root), without_escapes(point), type == "cgroup2"});
    }
    return mounts;
}

/// Where the cgroup is below the mount point: "" or `/a/b`. Nothing: it is not to be seen there.
std::optional<std::string> path_below(const CgroupMount& mount, const std::string& path) {
    const std::string& root = mount.root;
    if (root == "/") return path == "/" ? "" : path;
    if (path == root) return "";
    return path.starts_with(root + '/') ? std::optional{path.substr(root.size())} : std::nullopt;
}

std::optional<CpuQuota> read_quota(const FileReader& read, const std::string& directory,
                                   bool is_v2) {
    // v2: `150000 100000`, or `max 100000` for none. v1: -1 for none.
    std::vector<std::uint64_t> numbers =
        quota_numbers(read(directory + (is_v2 ? "/cpu.max" : "/cpu.cfs_quota_us")));
    if (!is_v2 && numbers.size() == 1) {
        const auto period = quota_numbers(read(directory + "/cpu.cfs_period_us"));
        numbers.insert(numbers.end(), period.begin(), period.end());
    }
    if (numbers.size() != 2) return std::nullopt;
    return CpuQuota{numbers[0], numbers[1]};
}

double share(const CpuQuota& quota) {
    return static_cast<double>(quota.quota_us) / static_cast<double>(quota.period_us);
}

}  // namespace

std::uint64_t CpuQuota::cpus() const noexcept {
    return quota_us / period_us + (quota_us % period_us != 0 ? 1 : 0);
}

std::string CpuQuota::text() const { return fmt::format("{:.6g} %", 100 * share(*this)); }

std::optional<CpuQuota> find_cpu_quota(const FileReader& read) {
    const CgroupPaths paths = parse_cgroups(read("/proc/self/cgroup").value_or(""));
    std::optional<CpuQuota> tightest;
    for (const CgroupMount& mount :
         parse_cgroup_mounts(read("/proc/self/mountinfo").value_or(""))) {
        const std::optional<std::string>& path = mount.is_v2 ? paths.v2 : paths.v1;
        std::optional<std::string> below = path ? path_below(mount, *path) : std::nullopt;
        while (below) {
            const auto found = read_quota(read, mount.point + *below, mount.is_v2);
            if (found && (!tightest || share(*found) < share(*tightest))) tightest = found;
            if (below->empty()) break;
            below->resize(below->rfind('/'));
        }
    }
    return tightest;
}

AutomaticShards choose_shards(std::uint32_t cpus, const std::optional<CpuQuota>& quota) {
    if (quota && quota->cpus() < cpus)
        return {static_cast<std::uint32_t>(quota->cpus()),
                fmt::format("the cgroup's CPU quota of {} (of {} CPUs)", quota->text(), cpus)};
    return {cpus, "one per CPU that the process may use"};
}

AutomaticShards automatic_shards() {
    return choose_shards(static_cast<std::uint32_t>(usable_cpus().size()),
                         find_cpu_quota(read_host_file));
}

}  // namespace udpproxy
