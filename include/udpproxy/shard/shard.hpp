// Shard: everything one loop owns: sessions, groups, ports, counters, and the batches of the
// present turn. The legs, admission and retirement are functions over it, in files of their own;
// functions that these files share are in src/shard/steps.hpp. All I/O goes through Sockets and
// source_towards().
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "udpproxy/base/batch.hpp"
#include "udpproxy/base/mailbox.hpp"
#include "udpproxy/base/reserved.hpp"
#include "udpproxy/io/sockets.hpp"
#include "udpproxy/io/traffic.hpp"
#include "udpproxy/net/socket.hpp"
#include "udpproxy/session/group_pool.hpp"
#include "udpproxy/session/known_endpoints.hpp"
#include "udpproxy/session/pool_sources.hpp"
#include "udpproxy/session/port_pool.hpp"
#include "udpproxy/session/table.hpp"
#include "udpproxy/session/upstream.hpp"
#include "udpproxy/shard/commands.hpp"
#include "udpproxy/shard/counters.hpp"
#include "udpproxy/shard/inspection.hpp"
#include "udpproxy/shard/setup.hpp"
#include "udpproxy/shard/trace.hpp"
#include "udpproxy/shard/unlisted.hpp"

namespace udpproxy {

// Bounds of one turn: remaining work waits for the next.
inline constexpr std::uint32_t admissions_per_turn = 64;
/// Groups opened per turn. Each takes some thirty system calls and 25 to 100 us for which known
/// clients wait, so there are few. (A burst of new clients alone takes a tenth longer than with
/// eight.)
inline constexpr std::uint32_t openings_per_turn = 2;
inline constexpr std::uint32_t retirements_per_turn = 256;
inline constexpr std::uint32_t surplus_closes_per_turn = 16;
inline constexpr std::uint32_t commands_per_turn = 16;
inline constexpr std::uint32_t reconciled_per_turn = 256;
inline constexpr std::uint32_t joins_per_turn = 4;  // of new members to existing groups
/// Look-ups of a source per turn when routing has changed; each takes three system calls.
inline constexpr std::uint32_t source_lookups_per_turn = 8;
/// Those for new clients, each of which may try many sources. The last one may go beyond it.
inline constexpr std::uint32_t admission_lookups_per_turn = 64;
/// How many turns a new client may wait for descriptors to be closed or for a port that no other
/// process holds.
inline constexpr std::uint32_t waits_max = 256;

/// How long a new client waits for another shard to evict, how often it asks, and how many new
/// datagrams of one shard wait for that at a time (their buffers are known clients' as well).
inline constexpr Duration other_shards_wait_max = std::chrono::milliseconds{100};
inline constexpr Duration other_shards_asked_every = std::chrono::milliseconds{20};
inline constexpr std::uint32_t other_shards_waiting_max = 16;

/// Groups checked in one turn because the error of a send may mean that the source address has
/// gone.
inline constexpr std::uint32_t suspect_groups_max = 64;

/// A wait that ends this much late was a stall, and so was a turn longer than turn_held_up (the
/// stages' bounds keep turns to some 10 ms). After a stall expiry waits for at most
/// catch_up_turns_max turns.
inline constexpr Duration stall_noticed = std::chrono::milliseconds{20};
inline constexpr Duration turn_held_up = std::chrono::milliseconds{200};
inline constexpr std::uint32_t catch_up_turns_max = 64;

/// A cooling group that stays unused for this long after its cooldown is closed.
inline constexpr Duration surplus_after = std::chrono::seconds{60};
/// How long a session must have been idle before it may be evicted.
inline constexpr Duration eviction_idle = std::chrono::seconds{1};
/// How long no other search follows one for a cooled down group of a port pool that found none.
inline constexpr Duration port_pool_searched_every = std::chrono::milliseconds{10};
/// How long a datagram that the kernel could not queue is tried again, and how many of them a shard
/// keeps.
inline constexpr Duration pending_time_max = std::chrono::milliseconds{100};
inline constexpr std::uint32_t pending_max = 256;
/// How long a shard that hands over tries to send what waits.
inline constexpr Duration handing_over_max = std::chrono::milliseconds{10};
/// How often a source address is looked up again while groups are wanted from it.
inline constexpr Duration source_check_every = std::chrono::seconds{1};

/// An arrival whose client has no session yet.
struct NewClient {
    Arrival arrival;
    ClientKey key;
    std::uint64_t hash = 0;
    std::uint16_t proxy = 0;  // the listener's proxy at arrival; the listener may have moved since
    std::uint32_t waits = 0;  // turns in which the decision was to wait
    // For another shard to evict: since when it waits, for want of what, and when it asked last.
    std::optional<Instant> waits_for_shards_since{};
    Drop lacks = Drop::session_limit;
    Instant asked_at{};
};

/// A departure that the kernel could not queue; the shard still owns its buffer.
struct PendingDeparture {
    Departure departure;
    int error = 0;  // errno of the last attempt
    Instant since{};
};

/// One source address of one proxy: where its groups are bound, and whether that address is usable
/// now.
struct SourceBinding {
    std::uint16_t proxy = 0;
    Address wanted;   // unspecified: what routing says
    Endpoint source;  // port 0
    int error = 0;    // errno of the last look-up; 0: usable
    Instant checked_at{};
    bool checked = false;
    bool looked_up = false;  // `source` and `error` are an answer
    std::uint32_t port_pool = 0;
    std::uint32_t port_range = 0;  // in that pool
    /// The proxy has other source bindings now, or is closing. Groups in use may still be bound
    /// here.
    bool retired = false;
};

/// A listener's state in the shard; its configuration is in the setup.
struct Listener {
    std::uint32_t sessions = 0;
    bool open = false;
    bool retired = false;  // admits no new client
    bool closing = false;  // its sessions end
    bool closed = false;   // its socket is being closed
};

/// A proxy's state in the shard.
struct Proxy {
    explicit Proxy(const ProxySetup& from) : setup(from) {}

    ProxySetup setup;
    BindingIndex first_binding = 0;  // its sources are first_binding, first_binding + 1, …
    BindingIndex bindings = 0;
    BindingIndex next_binding = 0;   // the next one to try for a group
    std::uint32_t opened = 0;        // groups, to sample those that get an open member
    std::uint32_t closes_below = 0;  // sessions of older versions end
    bool draining = false;           // admits no new client
    bool closing = false;            // its sessions end
};

/// A version of an upstream that groups were opened with. The control thread holds it too, so that
/// releasing it here frees no memory.
struct HeldUpstream {
    std::shared_ptr<const Upstream> upstream;  // null: a free entry
    std::uint32_t groups = 0;
    // During a pass over the sources: what routing says, once it was asked.
    bool looked_up = false;
    SourceAnswer routed;
};

/// The group of each slot; no_index for a listener's slot and for an unused one. Stored as
/// complements, so that memory of slots never used stays zero and untouched.
class SlotGroups {
public:
    explicit SlotGroups(std::size_t slots_max) : complements_(slots_max) {}

    [[nodiscard]] std::uint32_t operator[](Slot slot) const {
        UDPPROXY_ASSERT(index_of(slot) < complements_.size());
        return ~complements_[index_of(slot)];
    }
    void set(Slot slot, std::uint32_t group) {
        UDPPROXY_ASSERT(index_of(slot) < complements_.size());
        complements_[index_of(slot)] = ~group;
    }

private:
    Reserved<std::uint32_t> complements_;
};

struct Shard {
    explicit Shard(ShardSetup from);

    /// A departure for `arrival`'s buffer and payload; the caller fills in the destination.
    Departure& depart(const Arrival& arrival, Leg leg, std::uint16_t proxy);
    /// Counts the datagrams of one arrival as dropped and hands the buffer back.
    void drop(const Arrival& arrival, std::uint16_t proxy, Drop reason);
    /// Whether the arrival has datagrams longer than datagram_max.
    [[nodiscard]] bool is_long(const Arrival& arrival, std::uint16_t proxy) const {
        const std::uint32_t limit = proxies[proxy].setup.datagram_max;
        return limit != 0 &&
               (arrival.segment_bytes != 0 ? arrival.segment_bytes : arrival.bytes) > limit;
    }
    /// Drops them. What is left is the last one of a train, which may be shorter than the others.
    [[nodiscard]] std::optional<Arrival> drop_long(const Arrival& arrival, std::uint16_t proxy);
    /// Keeps the first `datagrams` of a GSO batch and counts the others as dropped.
    void cut(Departure& departure, std::uint32_t datagrams, Drop reason);
    void report(const Event& event);
    /// Updates the gauges.
    void note_gauges();
    [[nodiscard]] ProxyCounters& counters_of(std::uint16_t proxy) {
        return counters.proxies[proxy];
    }

    /// The upstream of an empty proxy slot: no client can be admitted to it.
    std::shared_ptr<const Upstream> no_upstream = std::make_shared<const Upstream>(Endpoint{});
    ShardSetup setup;
    /// Looks up a source address; net's function, except in a simulation.
    std::function<SourceAnswer(const Endpoint& upstream, const Address& wanted)> source_towards =
        udpproxy::source_towards;
    /// Wakes every other shard.
    std::function<void()> wake_others = [] {};
    std::vector<Proxy> proxies;
    std::vector<Listener> listeners;
    std::shared_ptr<const KnownEndpoints> known_endpoints;  // of all proxies; never null
    std::uint32_t listeners_open = 0;
    SessionTable table;
    std::vector<SourceBinding> bindings;  // of all proxies; BindingIndex is the index
    GroupPool groups;
    std::vector<PortPool> ports;
    PoolSources pool_sources;
    std::vector<Instant> pools_searched_at;  // by port pool: when no cooled down group was found
    std::vector<HeldUpstream> upstreams;
    SlotGroups group_of_slot;
    ShardCounters counters;
    ShardGauges gauges;
    UnlistedSources unlisted;
    bool stopping = false;
    bool handing_over = false;  // another process goes on with the sockets
    bool draining = false;

    // Progress of applying commands to existing groups; see reconcile.cpp.
    std::optional<Instant> reconcile_at;
    std::uint32_t reconcile_next = 0;  // next group of the pass
    bool reconcile_failed = false;     // a member could not join: another pass is needed
    /// Listeners, source bindings and proxies whose slots are to be released.
    std::uint32_t leaving = 0;

    // A pass over the sources of all sessions; see sources.cpp.
    std::optional<Instant> sources_at;
    std::uint32_t sources_next = 0;  // next group to visit
    std::uint32_t sources_left = 0;  // groups of the pass that are not visited yet
    bool source_unknown = false;     // a look-up gave no answer: another pass is needed

    // Groups that stand ready; see prewarm.cpp.
    bool prewarming = true;  // some may be missing
    Instant prewarm_at{};    // not before

    // The present turn.
    Instant turn_at{};
    Batch<Departure> departures;
    Batch<Buffer> dropped;  // buffers to return to the engine
    Batch<NewClient> new_clients;
    std::uint64_t datagrams_waiting = 0;  // of the new clients that admission has kept
    Batch<PendingDeparture> pending;      // to be sent again in the next turn
    Batch<PendingDeparture> resumed;      // the first departures of this turn
    Batch<std::uint32_t> suspect_groups;  // groups whose source address may have gone
    Batch<std::uint32_t> changed_groups;  // whose records are to be written anew; see records.cpp
    bool admission_bound_met = false;
    /// Descriptors of groups being closed; freed with the group's last socket.
    std::uint32_t descriptors_closing = 0;

    // Laws: datagrams (not GSO batches) since start; arrivals == departures + drops + new clients
    // kept + pending, after every turn.
    std::uint64_t arrivals_total = 0;
    std::uint64_t departures_total = 0;
    std::uint64_t drops_total = 0;

    Mailbox<Command> commands{64};
    Mailbox<Event> events{4096};
    InspectionSlot inspections;
    Trace trace;
};

// The stages of a turn, as the loop calls them, each with its file. Functions that they call in
// each other are private (src/shard/steps.hpp).

/// pending.cpp: sends pending departures again, ahead of new ones.
void resume_pending(Shard& shard, Instant now);
/// pending.cpp: drops the pending departures; called when the shard stops.
void give_up_pending(Shard& shard);
/// admission.cpp: drops the new clients that wait; called when the shard hands over.
void give_up_new_clients(Shard& shard);
/// reply_leg.cpp: arrivals on members become departures to clients.
void forward_replies(Shard& shard, Sockets& sockets, std::span<const Arrival> arrivals,
                     Instant now);
/// request_leg.cpp: arrivals on listeners become departures to upstreams; an arrival without a
/// session becomes a new client.
void forward_requests(Shard& shard, Sockets& sockets, std::span<const Arrival> arrivals,
                      Instant now);
/// admission.cpp: new clients get a session, are dropped, or wait for the next turn; order within
/// each client is kept.
void admit_new_clients(Shard& shard, Sockets& sockets, Instant now);
/// eviction.cpp: evicts what new clients of other shards wait for, if this one has it.
void evict_for_other_shards(Shard& shard, Sockets& sockets, Instant now);
/// sources.cpp: sessions end whose sends fail for want of their source address while routing has
/// another one.
void leave_lost_sources(Shard& shard, Sockets& sockets, Instant now);
/// sources.cpp: after a change of routes or addresses, sessions end for which routing has another
/// source address, whether or not their sends succeed.
void leave_replaced_sources(Shard& shard, Sockets& sockets, Instant now);
/// retirement.cpp: sessions that have expired end; surplus groups close.
void retire_sessions(Shard& shard, Sockets& sockets, Instant now);
/// retirement.cpp: called when the shard stops: ends sessions from index `next` on, `count` of them
/// at most. Whether there are no more.
[[nodiscard]] bool end_all_sessions(Shard& shard, Sockets& sockets, std::uint32_t& next,
                                    std::size_t count, Instant now);
/// retirement.cpp: begin to close every listener and every group; called when the shard stops.
void close_all_listeners(Shard& shard, Sockets& sockets);
void close_all_groups(Shard& shard, Sockets& sockets);
/// retirement.cpp: notes which sockets are closed; a group's port cools down once its last socket
/// is closed.
void note_closed(Shard& shard, std::span<const Slot> closed, Instant now);
/// apply_commands.cpp: applies a command of the control thread.
void apply_command(Shard& shard, Sockets& sockets, Command& command, Instant now);
/// reconcile.cpp: brings existing groups and sessions to what was commanded since, and gives back
/// empty slots.
void reconcile_groups(Shard& shard, Sockets& sockets, Instant now);
/// prewarm.cpp: opens some of the groups that stand ready for new clients.
void prewarm_groups(Shard& shard, Sockets& sockets, Instant now);
/// records.cpp: writes the ledger's records of all groups that have changed.
void write_records(Shard& shard, const Sockets& sockets);
/// records.cpp: called when the shard hands over: writes the tallies of all sessions.
void write_all_records(Shard& shard, const Sockets& sockets);
/// inspection.cpp: answers the admin thread's question, if there is one; bounded, and complete
/// within the turn.
void answer_inspection(Shard& shard, Sockets& sockets, Instant now);
/// retirement.cpp: when the shard next has work without any input; at or before `now` when work
/// remains.
[[nodiscard]] std::optional<Instant> next_deadline(const Shard& shard, Instant now);
/// accounting.cpp: counts what was sent and what was not, and asserts that no datagram is
/// unaccounted for.
void account_sends(Shard& shard, std::span<const Fault> faults, Instant now);
void account_receive_faults(Shard& shard, std::span<const Fault> faults);
/// accounting.cpp: drops what is received after the last turn.
void drop_while_stopping(Shard& shard, std::span<const Arrival> requests,
                         std::span<const Arrival> replies);

}  // namespace udpproxy
