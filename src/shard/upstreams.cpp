// The versions of upstreams that this shard's groups were opened with, and how many groups each
// has. Nothing here allocates or frees: the control thread makes the versions and keeps each until
// the last shard has released it.
#include <algorithm>

#include "steps.hpp"

namespace udpproxy {

void hold_upstream(Shard& shard, const Proxy& proxy) { hold_upstream(shard, proxy.setup.upstream); }

void hold_upstream(Shard& shard, const std::shared_ptr<const Upstream>& version) {
    const auto is_it = [&](const HeldUpstream& held) { return held.upstream == version; };
    auto place = std::find_if(shard.upstreams.begin(), shard.upstreams.end(), is_it);
    if (place == shard.upstreams.end()) {
        place = std::find_if(shard.upstreams.begin(), shard.upstreams.end(),
                             [](const HeldUpstream& held) { return !held.upstream; });
        // The control thread makes no more versions than fit.
        UDPPROXY_ASSERT(place != shard.upstreams.end());
        *place = HeldUpstream{version, 0, false, {}};
    }
    ++place->groups;
}

HeldUpstream& held_upstream(Shard& shard, const Upstream* upstream) {
    const auto place =
        std::find_if(shard.upstreams.begin(), shard.upstreams.end(),
                     [&](const HeldUpstream& held) { return held.upstream.get() == upstream; });
    UDPPROXY_ASSERT(place != shard.upstreams.end() && place->groups > 0);
    return *place;
}

void let_go_of_upstream(Shard& shard, const Upstream* upstream) {
    HeldUpstream& held = held_upstream(shard, upstream);
    if (--held.groups == 0) held.upstream.reset();
}

}  // namespace udpproxy
