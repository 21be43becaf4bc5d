// SessionTable: the sessions of one shard, how a datagram finds its session, when sessions expire
// and which is evicted first. No I/O, no clock, no allocation after construction. The shard
// releases what else a session holds (its group, its ports).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "udpproxy/base/flat_map.hpp"
#include "udpproxy/base/index_list.hpp"
#include "udpproxy/base/siphash.hpp"
#include "udpproxy/base/slab.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/session/expiry_wheel.hpp"
#include "udpproxy/session/session.hpp"

namespace udpproxy {

/// After how long without traffic in either direction the sessions of a proxy end. Requires:
/// unassured <= idle (the configuration ensures this).
struct SessionTimeouts {
    Duration idle;       // assured sessions
    Duration unassured;  // all others
};

class SessionTable {
public:
    /// `timeouts` has one entry per proxy. Each of `shards` tables gives out different ids: id %
    /// shards == shard.
    SessionTable(std::uint32_t sessions_max, std::vector<SessionTimeouts> timeouts, SipKey key,
                 std::uint32_t shard = 0, std::uint32_t shards = 1);

    [[nodiscard]] std::uint32_t size() const noexcept { return sessions_.size(); }
    [[nodiscard]] bool full() const noexcept { return sessions_.full(); }
    [[nodiscard]] std::size_t longest_probe() const noexcept { return map_.longest_probe(); }
    Session& operator[](std::uint32_t index) { return sessions_[index]; }
    /// Indices at or above this one were never used.
    [[nodiscard]] std::uint32_t high_water() const noexcept { return sessions_.high_water(); }
    [[nodiscard]] bool is_live(std::uint32_t index) const noexcept {
        return sessions_.is_live(index);
    }

    [[nodiscard]] std::uint64_t hash(const ClientKey& key) const noexcept {
        return siphash13(key_, key.words());
    }
    [[nodiscard]] std::optional<std::uint32_t> find(std::uint64_t hash,
                                                    const ClientKey& key) const {
        return map_.find(hash, [&](std::uint32_t index) { return sessions_[index].key == key; });
    }

    /// Prefetch what find() will touch, in two steps with some time between them: first the map's
    /// cell, then the session that it names.
    void prefetch_cell(std::uint64_t hash) const noexcept { map_.prefetch(hash); }
    void prefetch_session(std::uint64_t hash) const noexcept {
        if (const std::optional<std::uint32_t> index = map_.peek(hash)) sessions_.prefetch(*index);
    }

    // Requires: !full(), and that the key has no session. The caller fills in group, primary and
    // interface.
    std::uint32_t admit(std::uint64_t hash, const ClientKey& key, std::uint16_t proxy, Instant now);
    /// A session that an earlier process has admitted, under the id that it has there if that is
    /// one of this shard's. Ids given out later are higher.
    // Requires: as admit(), but with a successor its key may have a session.
    std::uint32_t adopt(std::uint64_t hash, const ClientKey& key, std::uint16_t proxy,
                        std::uint64_t id, Instant admitted_at, Instant last_active_at,
                        bool has_successor);
    /// From now on the key finds no session, or a new one. What the service answers to this one
    /// still belongs to it.
    // Requires: !has_successor.
    void let_succeed(std::uint32_t index);
    void retire(std::uint32_t index);
    /// The client has written again after a reply: the session can no longer be evicted.
    void assure(std::uint32_t index);

    /// The next session that has expired, still in the table, or nothing. At most `scan_budget`
    /// sessions are checked; the others wait for the next call.
    [[nodiscard]] std::optional<std::uint32_t> next_expired(Instant now,
                                                            std::uint32_t& scan_budget);
    /// Sets the time-outs of the proxy's sessions. For an existing session they hold once refile()
    /// is called for it.
    void set_timeouts(std::uint16_t proxy, const SessionTimeouts& timeouts) {
        timeouts_[proxy] = timeouts;
    }
    /// Files the session anew by the present time-outs.
    void refile(std::uint32_t index);
    /// When to call next_expired() again at the latest.
    [[nodiscard]] std::optional<Instant> next_due() const noexcept { return wheel_.next_due(); }

    /// The least recently active session of `proxy` that is not assured, has been idle for at least
    /// `idle`, and `suits(session)`, among the first 16 in the eviction order; nothing when there
    /// is none. Sessions among these 16 that were active recently move to the back of the order.
    template <class Suits>
    [[nodiscard]] std::optional<std::uint32_t> eviction_candidate(std::uint16_t proxy, Instant now,
                                                                  Duration idle, Suits&& suits) {
        IndexList& order = unassured_[proxy];
        // Not unassured_links(): clang 14 does not know its type yet.
        const auto links = [this](std::uint32_t index) -> ListLinks& {
            return sessions_[index].unassured;
        };
        const std::uint32_t scan_budget = std::min(eviction_scan_max, order.size());
        std::optional<std::uint32_t> chosen;
        std::uint32_t next = order.front();
        for (std::uint32_t look = 0; look < scan_budget; ++look) {
            const std::uint32_t index = next;
            Session& session = sessions_[index];
            next = session.unassured.next;
            const bool is_idle = now - session.last_active_at >= idle;
            if (is_idle && suits(session) &&
                (!chosen || session.last_active_at < sessions_[*chosen].last_active_at))
                chosen = index;
            if (is_idle || session.last_active_at == session.listed_at) continue;
            // A recently active session moves to the back, so that older sessions are scanned
            // first. Sessions idle long enough stay in front, or the scan of 16 entries would miss
            // them.
            session.listed_at = session.last_active_at;
            order.remove(index, links);
            order.push_back(index, links);
        }
        return chosen;
    }
    [[nodiscard]] std::optional<std::uint32_t> eviction_candidate(std::uint16_t proxy, Instant now,
                                                                  Duration idle) {
        return eviction_candidate(proxy, now, idle, [](const Session&) { return true; });
    }

private:
    static constexpr std::uint32_t eviction_scan_max = 16;

    std::uint32_t insert(std::uint64_t hash, const ClientKey& key, std::uint16_t proxy,
                         Instant admitted_at, Instant last_active_at, bool has_successor);
    void erase_key(std::uint32_t index);
    [[nodiscard]] Instant due_at(const Session& session) const noexcept;

    [[nodiscard]] auto wheel_links() {
        return [this](std::uint32_t index) -> ListLinks& { return sessions_[index].wheel; };
    }
    [[nodiscard]] auto unassured_links() {
        return [this](std::uint32_t index) -> ListLinks& { return sessions_[index].unassured; };
    }

    Slab<Session> sessions_;
    FlatMap map_;
    ExpiryWheel wheel_;
    std::vector<SessionTimeouts> timeouts_;
    std::vector<IndexList> unassured_;  // by proxy, roughly in order of activity
    SipKey key_;
    std::uint64_t next_id_;
    std::uint32_t id_step_;
};

}  // namespace udpproxy
