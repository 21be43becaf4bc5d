// Functions that the stages of a turn call in each other; private to src/shard. The stages
// themselves, which the loop calls, are in shard.hpp.
#pragma once

#include <optional>

#include "udpproxy/shard/shard.hpp"

namespace udpproxy {

/// pending.cpp: drops pending departures from this slot, whose group is about to be released.
void give_up_pending_of(Shard& shard, Slot slot);
/// request_leg.cpp: forwards one arrival whose session is known.
Departure& forward_request(Shard& shard, std::uint32_t session, const Arrival& arrival,
                           Instant now);
/// request_leg.cpp: whether the next request of this session's client is the first of another one.
/// This one then has ended, or waits for its last replies.
[[nodiscard]] bool has_had_its_requests(Shard& shard, Sockets& sockets, std::uint32_t session,
                                        Instant now);
/// admission.cpp: drops the new clients that wait for admission at a listener, or to a proxy, whose
/// slot is about to be released.
void drop_new_clients_at(Shard& shard, std::uint16_t listener);
void drop_new_clients_of(Shard& shard, std::uint16_t proxy);
/// retirement.cpp: ends a session; its group cools down, or closes when `keep_group` is false or it
/// is outdated.
void end_session(Shard& shard, Sockets& sockets, std::uint32_t session, SessionEnd end, Instant now,
                 bool keep_group = true);
/// retirement.cpp: begins to close a group.
void close_group(Shard& shard, Sockets& sockets, std::uint32_t group);
/// records.cpp: the group, or its session, is another than its record in the ledger says.
void note_change(Shard& shard, std::uint32_t group);
/// records.cpp: the port of a closed group may not be bound again before `until`.
void note_rest(Shard& shard, std::uint32_t port_pool, std::uint16_t port, Instant until);
/// upstreams.cpp: counts a group of `proxy` that was opened with its present upstream; the upstream
/// may be released once its last group is closed.
void hold_upstream(Shard& shard, const Proxy& proxy);
void hold_upstream(Shard& shard, const std::shared_ptr<const Upstream>& version);
/// The entry of a version that a group was opened with.
[[nodiscard]] HeldUpstream& held_upstream(Shard& shard, const Upstream* upstream);
void let_go_of_upstream(Shard& shard, const Upstream* upstream);
/// tracing.cpp: these keep a copy for the trace of this client. They require shard.trace.is_on().
void trace_forwarded(Shard& shard, const Session& session, const Arrival& arrival, Leg leg);
/// The first `bytes` were forwarded, the datagrams behind them dropped.
void trace_cut(Shard& shard, const Session& session, const Arrival& arrival, Leg leg,
               std::uint32_t bytes, Drop otherwise);
void trace_dropped(Shard& shard, const Arrival& arrival, std::uint16_t proxy, Drop reason);
/// Of the departure these `bytes`, whole datagrams from `offset` on, were not sent.
void trace_unsent(Shard& shard, const Departure& departure, std::uint32_t offset,
                  std::uint32_t bytes, Drop reason);
/// admission_checks.cpp: why the new client is refused whatever the capacity; nothing when it may
/// be admitted.
[[nodiscard]] std::optional<Drop> failed_admission_check(const Shard& shard,
                                                         const NewClient& new_client);
/// admission_checks.cpp: whether the source has had its share of the remaining capacity; always
/// false while unassured sessions fill less than half.
[[nodiscard]] bool is_above_source_rate(Shard& shard, std::uint16_t proxy, const Address& source,
                                        Instant now);
/// eviction.cpp: how fast sessions of any proxy may be evicted for new clients of this one.
[[nodiscard]] Rate eviction_rate(const Shard& shard, std::uint16_t proxy);
/// sources.cpp: the source binding's source address, looked up at most once a second. When it has
/// changed or gone, groups bound to the old address are not acquired again. Whether it was looked
/// up now, which takes three system calls.
bool look_up_source(Shard& shard, BindingIndex binding, Instant now);
/// sources.cpp: remembers the group of a request whose error may mean that its source address has
/// gone.
void note_lost_source(Shard& shard, const Departure& departure, int error);
/// sources.cpp: begins the pass of leave_replaced_sources(), again if one is under way.
void begin_source_pass(Shard& shard, Instant now);
/// sources.cpp: whether this is a local address and port of a reply group of this process.
[[nodiscard]] bool is_own_port(const Shard& shard, const Endpoint& source);
/// pending.cpp: keeps the `index`th departure of the turn for the next one, or drops it when too
/// many are kept.
void keep_pending(Shard& shard, const Departure& departure, std::uint32_t index, int error,
                  Instant now);

}  // namespace udpproxy
