// CPU quotas as cgroups of both versions write them, in trees that are made up. Without them a
// container with a quota of two CPUs on a host with 64 had 64 shards.
#include "udpproxy/host/cpu_quota.hpp"

#include <doctest/doctest.h>

#include <map>

namespace udpproxy {
namespace {

using Files = std::map<std::string, std::string>;

/// The text of the quota that is found, empty when none is.
std::string quota_of(const Files& files) {
    const auto quota = find_cpu_quota([&](const std::string& path) -> std::optional<std::string> {
        const auto file = files.find(path);
        return file == files.end() ? std::nullopt : std::optional{file->second};
    });
    return quota ? quota->text() : "";
}

const std::string v2_mount = "30 24 0:26 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 c rw\n";

Files v2(const std::string& path, Files quotas) {
    quotas["/proc/self/cgroup"] = "0::" + path + '\n';
    quotas["/proc/self/mountinfo"] = "24 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + v2_mount;
    return quotas;
}

/// A cgroup of v1 has its quota in two files; the period is 100 ms.
void set_v1(Files& files, const std::string& cgroup, const char* quota_us) {
    files[cgroup + "/cpu.cfs_quota_us"] = quota_us;
    files[cgroup + "/cpu.cfs_period_us"] = "100000\n";
}

TEST_CASE("a quota of cgroups v2 is found in the process' cgroup and in every one above") {
    CHECK(quota_of(v2("/a/b", {{"/sys/fs/cgroup/a/b/cpu.max", "150000 100000\n"}})) == "150 %");
    CHECK(quota_of(v2("/a/b", {{"/sys/fs/cgroup/a/b/cpu.max", "max 100000\n"},
                               {"/sys/fs/cgroup/a/cpu.max", "50000 100000\n"}})) == "50 %");
    CHECK(quota_of(v2("/a/b", {{"/sys/fs/cgroup/a/b/cpu.max", "400000 100000\n"},
                               {"/sys/fs/cgroup/a/cpu.max", "10000 5000\n"}})) == "200 %");
    CHECK(quota_of(v2("/a/b", {{"/sys/fs/cgroup/a/b/cpu.max", "100000 100000\n"},
                               {"/sys/fs/cgroup/a/cpu.max", "max 100000\n"},
                               {"/sys/fs/cgroup/other/cpu.max", "1000 100000\n"}})) == "100 %");
}

TEST_CASE("in a cgroup namespace, as in most containers, the quota is at its root") {
    CHECK(quota_of(v2("/", {{"/sys/fs/cgroup/cpu.max", "33333 100000\n"}})) == "33.333 %");
    CHECK(quota_of(v2("/x", {{"/sys/fs/cgroup/cpu.max", "200000 100000\n"}})) == "200 %");
}

TEST_CASE("a quota of cgroups v1 is found wherever the cpu controller is mounted") {
    Files files{{"/proc/self/cgroup", "5:memory:/m\n4:cpu,cpuacct:/a:b/c\n1:name=systemd:/\n"},
                {"/proc/self/mountinfo",
                 "31 24 0:27 / /cg/mem rw - cgroup cgroup rw,memory\n"
                 "32 24 0:28 / /cg/cpuset rw - cgroup cgroup rw,cpuset\n"
                 "33 24 0:29 / /cg/my\\040cpu rw - cgroup cgroup rw,cpu,cpuacct\n"}};
    set_v1(files, "/cg/my cpu/a:b/c", "250000\n");
    set_v1(files, "/cg/cpuset/a:b/c", "1000\n");
    CHECK(quota_of(files) == "250 %");
    files["/cg/my cpu/a:b/cpu.cfs_quota_us"] = "50000\n";
    files["/cg/my cpu/a:b/cpu.cfs_period_us"] = "50000\n";
    CHECK(quota_of(files) == "100 %");
    files["/cg/my cpu/a:b/cpu.cfs_quota_us"] = "-1\n";
    files["/cg/my cpu/a:b/c/cpu.cfs_quota_us"] = "-1\n";
    CHECK(quota_of(files).empty());
}

TEST_CASE("a container that is shown its own part of the hierarchy finds the quota there") {
    const std::string below = "32 24 0:28 /pods/p1 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n";
    Files files{{"/proc/self/cgroup", "4:cpu:/pods/p1/c1\n"}, {"/proc/self/mountinfo", below}};
    set_v1(files, "/sys/fs/cgroup/cpu/c1", "300000");
    set_v1(files, "/sys/fs/cgroup/cpu", "150000");
    CHECK(quota_of(files) == "150 %");
    files["/proc/self/cgroup"] = "4:cpu:/pods/p1\n";
    CHECK(quota_of(files) == "150 %");
    files["/proc/self/cgroup"] = "4:cpu:/pods/p10\n";
    CHECK(quota_of(files).empty());
}

TEST_CASE("of both versions at once the tighter quota counts") {
    Files files{{"/proc/self/cgroup", "4:cpu:/a\n0::/b\n"},
                {"/proc/self/mountinfo",
                 "32 24 0:28 / /v1 rw - cgroup cgroup rw,cpu\n"
                 "33 24 0:29 / /v2 rw - cgroup2 cgroup2 rw\n"},
                {"/v2/b/cpu.max", "200000 100000"}};
    set_v1(files, "/v1/a", "300000");
    CHECK(quota_of(files) == "200 %");
    files["/v2/b/cpu.max"] = "400000 100000";
    CHECK(quota_of(files) == "300 %");
}

TEST_CASE("what is missing or odd is no quota") {
    CHECK(quota_of({}).empty());
    CHECK(quota_of(v2("/a", {})).empty());
    for (const char* odd : {"", "\n", "max", "100000", "0 100000", "100000 0", "-5 100000",
                            "100000 -5", "100000x 100000", "1e5 100000", "100000 100000 5",
                            "99999999999999999999999 100000", "max 1 1", "\xff\xfe \x01"})
        CHECK_MESSAGE(quota_of(v2("/a", {{"/sys/fs/cgroup/a/cpu.max", odd}})).empty(), odd);
    for (const char* odd : {"", "0", "0:", "0::", "0::a", "::::", "x\n\n", "0:/a"}) {
        Files files = v2("/", {{"/sys/fs/cgroup/cpu.max", "100000 100000"}});
        files["/proc/self/cgroup"] = odd;
        CHECK_MESSAGE(quota_of(files).empty(), odd);
    }
    for (const char* odd : {"", "- cgroup2", "30 24 0:26 / /sys/fs/cgroup rw", "- - - -",
                            "30 24 0:26 / /sys/fs/cgroup rw - tmpfs c rw", "\\ \\0 \\04"}) {
        Files files = v2("/", {{"/sys/fs/cgroup/cpu.max", "100000 100000"}});
        files["/proc/self/mountinfo"] = odd;
        CHECK_MESSAGE(quota_of(files).empty(), odd);
    }
}

TEST_CASE("automatic shards are one per CPU, and no more than the quota rounded up") {
    const AutomaticShards free = choose_shards(4, std::nullopt);
    CHECK(free.shards == 4);
    CHECK(free.reason == "one per CPU that the process may use");
    const AutomaticShards bound = choose_shards(4, CpuQuota{150000, 100000});
    CHECK(bound.shards == 2);
    CHECK(bound.reason == "the cgroup's CPU quota of 150 % (of 4 CPUs)");
    CHECK(choose_shards(4, CpuQuota{1000, 1000000}).shards == 1);
    CHECK(CpuQuota{10000000, 100000}.text() == "10000 %");  // of a large machine; was 1e+04 %
    CHECK(choose_shards(4, CpuQuota{200000, 100000}).shards == 2);
    CHECK(choose_shards(4, CpuQuota{200001, 100000}).shards == 3);
    CHECK(choose_shards(4, CpuQuota{400000, 100000}).reason == free.reason);
    CHECK(choose_shards(1, CpuQuota{800000, 100000}).shards == 1);
    CHECK(choose_shards(1024, CpuQuota{~std::uint64_t{0}, 1}).shards == 1024);
}

}  // namespace
}  // namespace udpproxy
