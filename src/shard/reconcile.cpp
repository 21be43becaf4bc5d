// Reconciles existing groups and sessions with the latest commands, a bounded number in each turn.
// Members for new aliases join, members of removed aliases close, and sessions whose version,
// listener or proxy is retired end. All others are filed anew by the present time-outs. The end of
// a pass releases the slots that have become empty. A pass visits each group once; there is one per
// reload.
#include <algorithm>
#include <array>

#include "steps.hpp"

namespace udpproxy {

namespace {

constexpr Duration reconcile_again_after = std::chrono::seconds{1};

class Reconciliation {
public:
    Reconciliation(Shard& shard, Sockets& sockets, Instant now)
        : shard_(shard), sockets_(sockets), now_(now) {}

    /// Visits as many groups as one turn may; true when the last group was among them.
    [[nodiscard]] bool pass();

private:
    void look_at(std::uint32_t index);
    [[nodiscard]] bool ends(const Session& session, const ReplyGroup& group) const;
    void bring_to_version(std::uint32_t index, const Proxy& proxy);
    [[nodiscard]] bool join(std::uint32_t index, std::span<const Slot> members,
                            const std::optional<Endpoint>& peer, Slot& joined);
    void leave(ReplyGroup& group, Slot slot);

    Shard& shard_;
    Sockets& sockets_;
    Instant now_;
    std::uint32_t joins_ = 0;
};

bool Reconciliation::pass() {
    for (std::uint32_t scan_budget = 0;
         scan_budget < reconciled_per_turn && joins_ < joins_per_turn; ++scan_budget) {
        if (shard_.reconcile_next >= shard_.groups.high_water()) return true;
        look_at(shard_.reconcile_next++);
    }
    return false;
}

void Reconciliation::look_at(std::uint32_t index) {
    if (!shard_.groups.is_live(index)) return;
    const ReplyGroup& group = shard_.groups[index];
    if (group.state != GroupState::in_use) return;
    const std::uint32_t session = group.session;
    if (ends(shard_.table[session], group)) {
        end_session(shard_, sockets_, session, SessionEnd::closed, now_);
        return;
    }
    shard_.table.refile(session);
    const Proxy& proxy = shard_.proxies[group.proxy];
    const Upstream& present = *proxy.setup.upstream;
    if (group.upstream != &present && group.upstream->endpoint() == present.endpoint())
        bring_to_version(index, proxy);
}

bool Reconciliation::ends(const Session& session, const ReplyGroup& group) const {
    const Proxy& proxy = shard_.proxies[group.proxy];
    return proxy.closing || shard_.listeners[session.key.listener].closing ||
           group.upstream->version() < proxy.closes_below;
}

/// The same upstream with other aliases. New members join first. When one cannot, the group stays
/// as it was until the next pass.
void Reconciliation::bring_to_version(std::uint32_t index, const Proxy& proxy) {
    ReplyGroup& group = shard_.groups[index];
    const Upstream& to = *proxy.setup.upstream;
    const std::vector<Endpoint>& before = group.upstream->connected_aliases();
    const std::size_t had = group.members;
    std::array<Slot, 2 * group_members_max> open{};  // all members that the group has so far
    std::copy_n(group.slots.begin(), had, open.begin());
    std::size_t open_count = had;
    std::array<Slot, group_members_max> next{};
    std::array<bool, group_members_max> stays{};
    std::size_t count = 0;
    const auto keep = [&](std::size_t place) {
        stays[place] = true;
        next[count++] = group.slots[place];
    };
    const auto add = [&](const std::optional<Endpoint>& peer) {
        if (!join(index, std::span{open}.first(open_count), peer, next[count])) return false;
        open[open_count++] = next[count++];
        return true;
    };

    keep(0);
    bool complete = true;
    for (const Endpoint& peer : to.connected_aliases()) {
        const auto old = std::find(before.begin(), before.end(), peer);
        if (old != before.end())
            keep(1 + static_cast<std::size_t>(old - before.begin()));
        else
            complete = complete && add(peer);
    }
    const bool wants_open =
        to.needs_open_member() || (group.has_open_member && proxy.setup.watch != Watch::none);
    if (wants_open && group.has_open_member)
        keep(had - 1);
    else if (wants_open)
        complete = complete && add(std::nullopt);

    if (!complete) {
        shard_.reconcile_failed = true;
        for (std::size_t i = had; i < open_count; ++i) leave(group, open[i]);
        return;
    }
    for (std::size_t i = 0; i < had; ++i) {
        if (!stays[i]) leave(group, group.slots[i]);
    }
    std::copy_n(next.begin(), count, group.slots.begin());
    group.members = static_cast<std::uint8_t>(count);
    group.has_open_member = wants_open;
    note_change(shard_, index);
    hold_upstream(shard_, proxy);
    let_go_of_upstream(shard_, group.upstream);
    group.upstream = &to;
}

bool Reconciliation::join(std::uint32_t index, std::span<const Slot> members,
                          const std::optional<Endpoint>& peer, Slot& joined) {
    ProxyCounters& counters = shard_.counters_of(shard_.groups[index].proxy);
    SharedUse::Line& descriptors = shard_.setup.use->descriptors;
    ++joins_;
    if (!descriptors.acquire(1, shard_.setup.descriptors_max)) {
        // An existing session comes before a new client.
        if (const auto cooling = shard_.groups.oldest_cooling())
            close_group(shard_, sockets_, *cooling);
        counters.joins_failed.add(1);
        return false;
    }
    const ReplyGroup& group = shard_.groups[index];
    const ProxySettings& settings = shard_.proxies[group.proxy].setup;
    const MemberJoining joining{group.local, peer, settings.path_mtu,
                                settings.member_receive_buffer_bytes, settings.offload};
    if (!sockets_.join_group(members, joining, joined).opened()) {
        descriptors.release(1);
        counters.joins_failed.add(1);
        return false;
    }
    shard_.group_of_slot.set(joined, index);
    counters.members_joined.add(1);
    return true;
}

/// Replies received there belong to the group until the socket is closed, but their source is no
/// longer listed.
void Reconciliation::leave(ReplyGroup& group, Slot slot) {
    sockets_.close(slot);
    ++group.members_leaving;
    ++shard_.descriptors_closing;
}

[[nodiscard]] bool has_listeners(const Shard& shard, std::uint16_t proxy) {
    for (std::size_t i = 0; i < shard.listeners.size(); ++i) {
        if (shard.listeners[i].open && shard.setup.listeners[i].proxy == proxy) return true;
    }
    return false;
}

[[nodiscard]] bool has_bindings(const Shard& shard, std::uint16_t proxy) {
    return std::any_of(
        shard.bindings.begin(), shard.bindings.end(),
        [&](const SourceBinding& binding) { return binding.proxy == proxy && binding.retired; });
}

void release_proxy(Shard& shard, std::uint16_t index) {
    Proxy& proxy = shard.proxies[index];
    drop_new_clients_of(shard, index);  // of listeners that have since moved to another proxy
    proxy.setup.upstream = shard.no_upstream;
    proxy.closing = proxy.draining = false;
    --shard.leaving;
    shard.setup.use->proxies_held[index].fetch_sub(1, std::memory_order_release);
}

/// Closes listeners that have no session left, and gives back source bindings without groups and
/// proxies without either.
void release_slots(Shard& shard, Sockets& sockets) {
    for (std::uint32_t index = 0; index < shard.listeners.size(); ++index) {
        Listener& listener = shard.listeners[index];
        if (listener.closing && listener.sessions == 0 && !std::exchange(listener.closed, true))
            sockets.close(Slot{index});
    }
    for (BindingIndex index = 0; index < shard.bindings.size(); ++index) {
        SourceBinding& binding = shard.bindings[index];
        if (!binding.retired || shard.groups.size(index) > 0) continue;
        binding.retired = false;
        binding.proxy = all_proxies;
        --shard.leaving;
        shard.setup.use->bindings_held[index].fetch_sub(1, std::memory_order_release);
    }
    for (std::uint16_t index = 0; index < shard.proxies.size(); ++index) {
        if (shard.proxies[index].closing && !has_listeners(shard, index) &&
            !has_bindings(shard, index))
            release_proxy(shard, index);
    }
}

}  // namespace

void reconcile_groups(Shard& shard, Sockets& sockets, Instant now) {
    if (shard.reconcile_at && *shard.reconcile_at <= now &&
        Reconciliation(shard, sockets, now).pass()) {
        shard.reconcile_next = 0;
        shard.reconcile_at = std::exchange(shard.reconcile_failed, false)
                                 ? std::optional<Instant>{now + reconcile_again_after}
                                 : std::nullopt;
    }
    if (shard.leaving > 0) release_slots(shard, sockets);
}

}  // namespace udpproxy
