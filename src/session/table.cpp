// Which session a datagram belongs to, which sessions have expired, and the order of eviction.
#include "udpproxy/session/table.hpp"

#include <algorithm>
#include <utility>

namespace udpproxy {

namespace {

constexpr std::uint32_t eviction_scan_max = 16;

}  // namespace

SessionTable::SessionTable(std::uint32_t sessions_max, std::vector<SessionTimeouts> timeouts,
                           SipKey key, std::uint32_t shard, std::uint32_t shards)
    : sessions_(sessions_max),
      map_(sessions_max),
      timeouts_(std::move(timeouts)),
      unassured_(timeouts_.size()),
      key_(key),
      next_id_(std::uint64_t{shards} + shard),
      id_step_(shards) {}

std::uint32_t SessionTable::admit(std::uint64_t hash, const ClientKey& key, std::uint16_t proxy,
                                  Instant now) {
    const std::optional<std::uint32_t> index = sessions_.acquire();
    UDPPROXY_ASSERT(index.has_value());
    Session& session = sessions_[*index];
    session.key = key;
    session.proxy = proxy;
    session.id = std::exchange(next_id_, next_id_ + id_step_);
    session.last_active_at = session.admitted_at = session.listed_at = now;
    map_.insert(hash, *index);
    session.bucket = wheel_.file(*index, due_at(session), wheel_links());
    unassured_[proxy].push_back(*index, unassured_links());
    return *index;
}

void SessionTable::retire(std::uint32_t index) {
    const Session& session = sessions_[index];
    map_.erase(hash(session.key), index,
               [this](std::uint32_t other) { return hash(sessions_[other].key); });
    if (session.bucket != no_index) wheel_.remove(index, session.bucket, wheel_links());
    if (!session.assured) unassured_[session.proxy].remove(index, unassured_links());
    sessions_.release(index);
}

void SessionTable::assure(std::uint32_t index) {
    Session& session = sessions_[index];
    UDPPROXY_ASSERT(!session.assured);
    session.assured = true;
    unassured_[session.proxy].remove(index, unassured_links());
}

std::optional<std::uint32_t> SessionTable::next_expired(Instant now, std::uint32_t& scan_budget) {
    while (scan_budget > 0) {
        const std::optional<std::uint32_t> index = wheel_.take_due(now, wheel_links());
        if (!index) return std::nullopt;
        --scan_budget;
        Session& session = sessions_[*index];
        if (due_at(session) <= now) {
            session.bucket = no_index;
            return index;
        }
        session.bucket = wheel_.file(*index, due_at(session), wheel_links());
    }
    return std::nullopt;
}

void SessionTable::refile(std::uint32_t index) {
    Session& session = sessions_[index];
    wheel_.remove(index, session.bucket, wheel_links());
    session.bucket = wheel_.file(index, due_at(session), wheel_links());
}

std::optional<std::uint32_t> SessionTable::eviction_candidate(std::uint16_t proxy, Instant now,
                                                              Duration idle) {
    IndexList& order = unassured_[proxy];
    const std::uint32_t scan_budget = std::min(eviction_scan_max, order.size());
    std::optional<std::uint32_t> chosen;
    std::uint32_t next = order.front();
    for (std::uint32_t look = 0; look < scan_budget; ++look) {
        const std::uint32_t index = next;
        Session& session = sessions_[index];
        next = session.unassured.next;
        if (now - session.last_active_at >= idle &&
            (!chosen || session.last_active_at < sessions_[*chosen].last_active_at))
            chosen = index;
        if (now - session.last_active_at >= idle || session.last_active_at == session.listed_at)
            continue;
        // A recently active session moves to the back, so that older sessions are scanned first.
        // Sessions idle long enough stay in front, or the scan of 16 entries would miss them.
        session.listed_at = session.last_active_at;
        order.remove(index, unassured_links());
        order.push_back(index, unassured_links());
    }
    return chosen;
}

Instant SessionTable::due_at(const Session& session) const noexcept {
    const SessionTimeouts& timeouts = timeouts_[session.proxy];
    return session.last_active_at + (session.assured ? timeouts.idle : timeouts.unassured);
}

}  // namespace udpproxy
