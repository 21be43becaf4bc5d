// Which session a datagram belongs to, and which sessions have expired.
#include "udpproxy/session/table.hpp"

#include <algorithm>
#include <utility>

namespace udpproxy {

namespace {

// Far beyond what a shard gives out, and far from where adding to it would overflow.
constexpr std::uint64_t id_adopted_max = std::uint64_t{1} << 62;

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
    const std::uint32_t index = insert(hash, key, proxy, now, now, false);
    sessions_[index].id = std::exchange(next_id_, next_id_ + id_step_);
    return index;
}

std::uint32_t SessionTable::adopt(std::uint64_t hash, const ClientKey& key, std::uint16_t proxy,
                                  std::uint64_t id, Instant admitted_at, Instant last_active_at,
                                  bool has_successor) {
    const std::uint32_t index =
        insert(hash, key, proxy, admitted_at, last_active_at, has_successor);
    const bool is_of_this_shard = id % id_step_ == next_id_ % id_step_ && id < id_adopted_max;
    sessions_[index].id = is_of_this_shard ? id : next_id_;
    next_id_ = std::max(next_id_, sessions_[index].id + id_step_);
    return index;
}

std::uint32_t SessionTable::insert(std::uint64_t hash, const ClientKey& key, std::uint16_t proxy,
                                   Instant admitted_at, Instant last_active_at,
                                   bool has_successor) {
    const std::optional<std::uint32_t> index = sessions_.acquire();
    UDPPROXY_ASSERT(index.has_value());
    Session& session = sessions_[*index];
    session.key = key;
    session.proxy = proxy;
    session.admitted_at = admitted_at;
    session.last_active_at = session.listed_at = last_active_at;
    session.has_successor = has_successor;
    if (!has_successor) map_.insert(hash, *index);
    session.bucket = wheel_.file(*index, due_at(session), wheel_links());
    unassured_[proxy].push_back(*index, unassured_links());
    return *index;
}

void SessionTable::let_succeed(std::uint32_t index) {
    UDPPROXY_ASSERT(!sessions_[index].has_successor);
    sessions_[index].has_successor = true;
    erase_key(index);
}

void SessionTable::erase_key(std::uint32_t index) {
    map_.erase(hash(sessions_[index].key), index,
               [this](std::uint32_t other) { return hash(sessions_[other].key); });
}

void SessionTable::retire(std::uint32_t index) {
    const Session& session = sessions_[index];
    if (!session.has_successor) erase_key(index);
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

Instant SessionTable::due_at(const Session& session) const noexcept {
    const SessionTimeouts& timeouts = timeouts_[session.proxy];
    return session.last_active_at + (session.assured ? timeouts.idle : timeouts.unassured);
}

}  // namespace udpproxy
