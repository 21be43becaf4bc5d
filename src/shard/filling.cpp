// Filling the pool: groups that stand ready for newcomers ([limits] pool_min), opened when there is nothing better to do, so that a newcomer costs no
// system call. Nobody makes way for them: they take descriptors and ports that are to spare, and are the first to go when those run short.
#include "admission.hpp"

namespace udpproxy {

namespace {

constexpr std::uint32_t fills_per_turn = 2;
constexpr Duration fill_pause = std::chrono::milliseconds{1};
constexpr Duration try_again_after = std::chrono::seconds{1};

/// A quarter of the descriptors is left to newcomers and reloads.
bool has_spare_descriptors(const Shard& shard) {
    return shard.setup.use->descriptors.read() + group_members_max <= shard.setup.descriptors_max / 4 * 3;
}

}  // namespace

void fill_pools(Shard& shard, Sockets& sockets, Instant now) {
    // Those who are here come before those who may come.
    if (!shard.filling || now < shard.fill_at || shard.stopping || shard.draining || !shard.strangers.empty()) return;
    Admission admission(shard, sockets, now);
    std::uint32_t left = fills_per_turn;
    bool lacks = false;
    bool failed = false;
    for (const Proxy& proxy : shard.proxies) {
        if (proxy.lanes == 0) continue;
        const bool is_wanted = !proxy.draining && proxy.setup.upstream->is_resolved();
        const std::uint32_t parts = shard.setup.shards * proxy.lanes;
        const std::uint32_t kept = is_wanted ? (shard.setup.pool_min + parts - 1) / parts : 0;
        for (PoolLane lane = proxy.first_lane; lane < proxy.first_lane + proxy.lanes; ++lane) {
            shard.groups.set_kept(lane, kept);
            for (bool opened = true; opened && left > 0 && shard.groups.lacking(lane) > 0; --left) {
                opened = has_spare_descriptors(shard) && admission.prepare_group(lane);
                failed = failed || !opened;
            }
            lacks = lacks || shard.groups.lacking(lane) > 0;
        }
    }
    shard.filling = lacks;
    shard.fill_at = now + (failed ? try_again_after : fill_pause);
}

}  // namespace udpproxy
