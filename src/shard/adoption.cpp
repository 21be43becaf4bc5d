// In which order a shard adopts: first the numbers that groups refer to, then the groups that cool
// down in the order in which they began to, then those in use. A group that does not fit is closed,
// and its port rests; a session that does not fit leaves its group cooling.
#include "udpproxy/shard/adoption.hpp"

#include <algorithm>
#include <array>

#include "reservation.hpp"
#include "steps.hpp"

namespace udpproxy {

namespace {

class Adopting {
public:
    Adopting(Shard& shard, Sockets& sockets, Adoption& adoption, Instant now)
        : shard_(shard), sockets_(sockets), adoption_(adoption), now_(now) {}

    void take(const GroupRecord& record);

private:
    [[nodiscard]] std::shared_ptr<const Upstream> version_of(const GroupRecord& record) const;
    [[nodiscard]] bool has_port(const GroupRecord& record) const;
    [[nodiscard]] bool is_outdated(const GroupRecord& record, const Upstream& version);
    [[nodiscard]] std::optional<std::uint32_t> admit(const GroupRecord& record);
    void refuse(std::uint32_t session);
    void leave(const GroupRecord& record);

    Shard& shard_;
    Sockets& sockets_;
    Adoption& adoption_;
    Instant now_;
};

/// Null: there is no such version, or the group is none of its groups.
std::shared_ptr<const Upstream> Adopting::version_of(const GroupRecord& record) const {
    for (const UpstreamVersion& each : adoption_.versions) {
        const Upstream& upstream = *each.upstream;
        if (each.proxy != record.proxy || upstream.version() != record.upstream_version) continue;
        const std::size_t members =
            1 + upstream.connected_aliases().size() + (record.has_open_member ? 1 : 0);
        if (record.members == members && (record.has_open_member || !upstream.needs_open_member()))
            return each.upstream;
    }
    return nullptr;
}

bool Adopting::has_port(const GroupRecord& record) const {
    return record.proxy < shard_.proxies.size() && record.binding < shard_.bindings.size() &&
           shard_.bindings[record.binding].proxy == record.proxy &&
           shard_.ports[shard_.bindings[record.binding].port_pool].has(record.local.port);
}

/// Whether new clients must not get the group: its source binding or its version has gone, or the
/// source address is another by now.
bool Adopting::is_outdated(const GroupRecord& record, const Upstream& version) {
    const SourceBinding& binding = shard_.bindings[record.binding];
    if (binding.retired || shard_.proxies[record.proxy].setup.upstream.get() != &version)
        return true;
    (void)look_up_source(shard_, record.binding, now_);
    return binding.error != 0 || binding.source.address != record.local.address;
}

/// The session of the record, counted under every limit, which it may be above: it was there
/// before. Nothing: its client has another one, its listener is gone, or the tables are full.
std::optional<std::uint32_t> Adopting::admit(const GroupRecord& record) {
    if (!record.session) return std::nullopt;
    const SessionRecord& from = *record.session;
    const ClientKey key{from.client.address, from.local, from.client.scope, from.client.port,
                        from.listener};
    const std::uint64_t hash = shard_.table.hash(key);
    SharedUse& use = *shard_.setup.use;
    if (from.listener >= shard_.listeners.size() || !shard_.listeners[from.listener].open ||
        shard_.table.full() || (!from.has_successor && shard_.table.find(hash, key)) ||
        use.client_counts.acquire(record.proxy, key.client, 0) != ClientCounts::Outcome::counted) {
        ++adoption_.sessions_closed;
        return std::nullopt;
    }
    const bool keeps_times = adoption_.keeps_times;
    const std::uint32_t index = shard_.table.adopt(
        hash, key, record.proxy, from.id, std::min(from.admitted_at, now_),
        keeps_times ? std::min(from.last_active_at, now_) : now_, from.has_successor);
    Session& session = shard_.table[index];
    session.interface_index = from.interface_index;
    session.replied = from.replied;
    session.requests = {from.request_datagrams, from.request_bytes};
    session.replies = {from.reply_datagrams, from.reply_bytes};
    use.sessions.add(1);
    use.proxies[record.proxy].sessions.add(1);
    use.unassured.add(1);
    use.proxies[record.proxy].unassured.add(1);
    use.listener_sessions[key.listener].add(1);
    ++shard_.listeners[key.listener].sessions;
    if (from.assured) {
        shard_.table.assure(index);
        release_unassured(shard_, session);
    }
    return index;
}

/// Its group could not be adopted after all.
void Adopting::refuse(std::uint32_t session) {
    release_session(shard_, shard_.table[session]);
    shard_.table.retire(session);
    ++adoption_.sessions_closed;
}

/// The sockets close, and the port rests as after any other group.
void Adopting::leave(const GroupRecord& record) {
    ++adoption_.groups_closed;
    const auto descriptors = record.descriptors.begin();
    adoption_.left.insert(adoption_.left.end(), descriptors, descriptors + record.members);
    if (!has_port(record)) return;
    const std::uint32_t pool = shard_.bindings[record.binding].port_pool;
    const Instant until = now_ + shard_.proxies[record.proxy].setup.port_cooldown;
    note_rest(shard_, pool, record.local.port, until);
    shard_.ports[pool].release(record.local.port, until);
}

void Adopting::take(const GroupRecord& record) {
    const std::shared_ptr<const Upstream> version = version_of(record);
    if (!version || !has_port(record) || shard_.groups.full()) {
        if (record.session) ++adoption_.sessions_closed;
        return leave(record);
    }
    const bool outdated = is_outdated(record, *version);
    const std::optional<std::uint32_t> session = admit(record);
    // Nobody would use it again.
    if (!session && outdated) return leave(record);
    GroupOpening opening;
    opening.local = record.local;
    opening.upstream = version->endpoint();
    opening.aliases = version->connected_aliases();
    opening.with_open_member = record.has_open_member;
    opening.offload = shard_.proxies[record.proxy].setup.offload;
    opening.descriptors = std::span{record.descriptors}.first(record.members);
    std::array<Slot, group_members_max> slots{};
    const std::span<Slot> members = std::span{slots}.first(record.members);
    if (!sockets_.open_group(opening, members).opened()) {
        if (session) refuse(*session);
        return leave(record);
    }
    const Instant cooling_since = record.session ? now_ : std::min(record.cooling_since, now_);
    const std::uint32_t index = shard_.groups.adopt(
        record.binding, version.get(), session.value_or(no_index), cooling_since, outdated);
    ReplyGroup& group = shard_.groups[index];
    group.local = record.local;
    group.proxy = record.proxy;
    group.members = record.members;
    group.has_open_member = record.has_open_member;
    std::copy(members.begin(), members.end(), group.slots.begin());
    for (const Slot slot : members) shard_.group_of_slot.set(slot, index);
    if (session) {
        shard_.table[*session].group = index;
        shard_.table[*session].primary = group.primary();
        ++adoption_.sessions_adopted;
    }
    shard_.setup.use->own_ports[shard_.bindings[group.binding].port_pool].insert(group.local.port);
    shard_.setup.use->descriptors.add(group.members);
    hold_upstream(shard_, version);
    note_change(shard_, index);
}

}  // namespace

void adopt(Shard& shard, Sockets& sockets, Adoption& adoption, Instant now) {
    for (Command& command : adoption.commands) apply_command(shard, sockets, command, now);
    adoption.commands.clear();
    // A session that was in a pass of the last process goes on with it here.
    std::vector<const GroupRecord*> groups;
    for (const GroupRecord& record : adoption.groups) groups.push_back(&record);
    std::stable_sort(groups.begin(), groups.end(),
                     [](const GroupRecord* one, const GroupRecord* other) {
                         return one->cooling_since < other->cooling_since;
                     });
    Adopting adopting(shard, sockets, adoption, now);
    for (const GroupRecord* record : groups) adopting.take(*record);
    write_records(shard, sockets);
}

}  // namespace udpproxy
