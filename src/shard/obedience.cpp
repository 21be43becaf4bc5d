// Obedience: what the control thread asks for, done between turns, and the versions of upstreams that groups hold. Nothing here allocates or frees:
// what a command brings was made by the control thread, which also keeps it until the last shard has let go of it.
#include <algorithm>

#include "udpproxy/shard/shard.hpp"

namespace udpproxy {

namespace {

/// Newcomers go there from now on; groups of older versions serve the sessions they are lent to, and are not lent again.
void set_upstream(Shard& shard, std::uint16_t index, std::shared_ptr<const Upstream> upstream) {
    Proxy& proxy = shard.proxies[index];
    for (PoolLane lane = proxy.first_lane; lane < proxy.first_lane + proxy.lanes; ++lane) {
        shard.groups.set_upstream(lane, upstream.get());
        shard.lanes[lane].checked = false;  // another way may lead there
    }
    proxy.setup.upstream = std::move(upstream);
}

}  // namespace

void obey(Shard& shard, Command& command) {
    switch (command.kind) {
        case CommandKind::stop:
            shard.stopping = true;
            break;
        case CommandKind::set_upstream:
            set_upstream(shard, command.proxy, std::move(command.upstream));
            break;
    }
}

void hold_upstream(Shard& shard, const Proxy& proxy) {
    const auto is_it = [&](const HeldUpstream& held) { return held.upstream == proxy.setup.upstream; };
    auto place = std::find_if(shard.upstreams.begin(), shard.upstreams.end(), is_it);
    if (place == shard.upstreams.end()) {
        place = std::find_if(shard.upstreams.begin(), shard.upstreams.end(), [](const HeldUpstream& held) { return !held.upstream; });
        // The control thread makes no more versions than fit.
        UDPPROXY_ASSERT(place != shard.upstreams.end());
        *place = HeldUpstream{proxy.setup.upstream, 0};
    }
    ++place->groups;
}

void let_go_of_upstream(Shard& shard, const Upstream* upstream) {
    const auto place = std::find_if(shard.upstreams.begin(), shard.upstreams.end(),
                                    [&](const HeldUpstream& held) { return held.upstream.get() == upstream; });
    UDPPROXY_ASSERT(place != shard.upstreams.end() && place->groups > 0);
    if (--place->groups == 0) place->upstream.reset();
}

}  // namespace udpproxy
