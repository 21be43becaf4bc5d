// Prewarming: opens groups that stand ready for new clients ([limits] pool_min) while no new client
// waits, so that a new client costs no system call. Nothing is evicted for these groups: they take
// spare descriptors and ports, and are closed first when either runs short.
#include "admission.hpp"

namespace udpproxy {

namespace {

constexpr std::uint32_t prewarms_per_turn = 2;
constexpr Duration prewarm_pause = std::chrono::milliseconds{1};
constexpr Duration prewarm_again_after = std::chrono::seconds{1};

/// A quarter of the descriptors is left to new clients and reloads.
bool has_spare_descriptors(const Shard& shard) {
    return shard.setup.use->descriptors.read() + group_members_max <=
           shard.setup.descriptors_max / 4 * 3;
}

}  // namespace

void prewarm_groups(Shard& shard, Sockets& sockets, Instant now) {
    // New clients that wait come before those that may come.
    if (!shard.prewarming || now < shard.prewarm_at || shard.stopping || shard.draining ||
        !shard.new_clients.empty())
        return;
    Admission admission(shard, sockets, now);
    std::uint32_t left = prewarms_per_turn;
    bool lacks = false;
    bool failed = false;
    for (const Proxy& proxy : shard.proxies) {
        if (proxy.bindings == 0) continue;
        const bool is_wanted = !proxy.draining && proxy.setup.upstream->is_resolved();
        const std::uint32_t parts = shard.setup.shards * proxy.bindings;
        const std::uint32_t kept = is_wanted ? (shard.setup.pool_min + parts - 1) / parts : 0;
        for (BindingIndex binding = proxy.first_binding;
             binding < proxy.first_binding + proxy.bindings; ++binding) {
            shard.groups.set_kept(binding, kept);
            for (bool opened = true; opened && left > 0 && shard.groups.lacking(binding) > 0;
                 --left) {
                opened = has_spare_descriptors(shard) && admission.prepare_group(binding);
                failed = failed || !opened;
            }
            lacks = lacks || shard.groups.lacking(binding) > 0;
        }
    }
    shard.prewarming = lacks;
    shard.prewarm_at = now + (failed ? prewarm_again_after : prewarm_pause);
}

}  // namespace udpproxy
