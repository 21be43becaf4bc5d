// How each limit is taken and given back, side by side. Limits that shards share are taken one
// after the other, and no count is above its limit even for a moment.
#include "reservation.hpp"

#include "steps.hpp"

#include <utility>

namespace udpproxy {

Reservation::~Reservation() {
    SharedUse& use = *shard_.setup.use;
    if (group_ != no_index) {
        shard_.groups.add_ready(group_, now_);
        note_change(shard_, group_);
    }
    release_port();
    if (descriptors_ > 0) use.descriptors.release(descriptors_);
    if (client_) use.client_counts.release(proxy_, *client_);
    if (has_session_) {
        use.proxies[proxy_].sessions.release(1);
        use.sessions.release(1);
    }
    if (has_tokens_) {
        use.proxies[proxy_].new_sessions.give_back(shard_.proxies[proxy_].setup.new_sessions);
        use.new_sessions.give_back(shard_.setup.new_sessions);
    }
}

bool Reservation::take_tokens() {
    UDPPROXY_ASSERT(!has_tokens_);
    SharedUse& use = *shard_.setup.use;
    if (!use.new_sessions.take(now_, shard_.setup.new_sessions)) return false;
    has_tokens_ =
        use.proxies[proxy_].new_sessions.take(now_, shard_.proxies[proxy_].setup.new_sessions);
    if (!has_tokens_) use.new_sessions.give_back(shard_.setup.new_sessions);
    return has_tokens_;
}

bool Reservation::take_session() {
    UDPPROXY_ASSERT(!has_session_);
    SharedUse& use = *shard_.setup.use;
    if (shard_.table.full() || !use.sessions.acquire(1, shard_.setup.sessions_max)) return false;
    has_session_ =
        use.proxies[proxy_].sessions.acquire(1, shard_.proxies[proxy_].setup.sessions_max);
    if (!has_session_) use.sessions.release(1);
    return has_session_;
}

std::optional<Drop> Reservation::take_client(const Address& client) {
    UDPPROXY_ASSERT(has_session_ && !client_);
    const std::uint32_t limit = shard_.proxies[proxy_].setup.sessions_per_client_max;
    switch (shard_.setup.use->client_counts.acquire(proxy_, client, limit)) {
        case ClientCounts::Outcome::counted:
            client_ = client;
            return std::nullopt;
        case ClientCounts::Outcome::limit_met:
            return Drop::client_limit;
        case ClientCounts::Outcome::full:
            break;
    }
    return Drop::session_limit;
}

bool Reservation::take_descriptors(std::uint32_t members) {
    if (descriptors_ > 0) shard_.setup.use->descriptors.release(std::exchange(descriptors_, 0));
    if (!shard_.setup.use->descriptors.acquire(members, shard_.setup.descriptors_max)) return false;
    descriptors_ = members;
    return true;
}

std::optional<std::uint16_t> Reservation::take_port(const SourceBinding& binding) {
    release_port();
    port_pool_ = binding.port_pool;
    port_ = shard_.ports[port_pool_].lease(binding.port_range, now_);
    return port_;
}

void Reservation::release_port() {
    if (port_) shard_.ports[port_pool_].release(*port_, now_);
    port_.reset();
}

void Reservation::hold_opened(std::uint32_t group) {
    UDPPROXY_ASSERT(port_ && descriptors_ == shard_.groups[group].members);
    port_.reset();
    descriptors_ = 0;
    hold(group);
}

void Reservation::commit(const ClientKey& key, std::uint32_t session) {
    UDPPROXY_ASSERT(has_tokens_ && has_session_ && client_ && holds_group());
    shard_.groups[group_].session = session;
    note_change(shard_, group_);
    SharedUse& use = *shard_.setup.use;
    use.unassured.add(1);
    use.proxies[proxy_].unassured.add(1);
    ++shard_.listeners[key.listener].sessions;
    use.listener_sessions[key.listener].add(1);
    has_tokens_ = has_session_ = false;
    client_.reset();
    group_ = no_index;
}

void release_unassured(Shard& shard, const Session& session) {
    shard.setup.use->unassured.release(1);
    shard.setup.use->proxies[session.proxy].unassured.release(1);
}

void release_session(Shard& shard, const Session& session) {
    SharedUse& use = *shard.setup.use;
    if (!session.assured) release_unassured(shard, session);
    use.listener_sessions[session.key.listener].release(1);
    --shard.listeners[session.key.listener].sessions;
    // Released before the session, so that there are never more clients counted than sessions.
    use.client_counts.release(session.proxy, session.key.client);
    use.proxies[session.proxy].sessions.release(1);
    use.sessions.release(1);
}

}  // namespace udpproxy
