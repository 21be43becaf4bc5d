// Shard: everything one loop owns: sessions, groups, ports, counters, and the batches of the turn
// at hand. The legs, admission and retirement are functions over it, in files of their own, in the
// order in which a datagram meets them. None of it does I/O but through Sockets and
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

// Bounds of one turn: what is left over waits for the next.
inline constexpr std::uint32_t admissions_per_turn = 64;
/// Of groups, by some thirty system calls and 25 to 100 us each: known clients wait for them, so
/// they are few. (A burst of new clients by itself takes a tenth longer than with eight.)
inline constexpr std::uint32_t openings_per_turn = 2;
inline constexpr std::uint32_t retirements_per_turn = 256;
inline constexpr std::uint32_t surplus_closes_per_turn = 16;
inline constexpr std::uint32_t commands_per_turn = 16;
inline constexpr std::uint32_t reconciled_per_turn = 256;
inline constexpr std::uint32_t joins_per_turn = 4;  // of members to groups that are there
/// How many turns a new client may wait for descriptors to come back or for a port that nobody else
/// holds.
inline constexpr std::uint32_t waits_max = 256;

/// Groups that are looked at in one turn because a send failed as it does when a source address has
/// gone.
inline constexpr std::uint32_t suspect_groups_max = 64;

/// A wait that ends this much later than asked was a stall, and so was a turn that took longer than
/// turn_held_up (the stages' bounds keep turns to some 10 ms); then expiry waits for at most so
/// many turns.
inline constexpr Duration stall_noticed = std::chrono::milliseconds{20};
inline constexpr Duration turn_held_up = std::chrono::milliseconds{200};
inline constexpr std::uint32_t catch_up_turns_max = 64;

/// A cooling group that nobody has wanted for this long beyond its rest is closed.
inline constexpr Duration surplus_after = std::chrono::seconds{60};
/// How long a session must have been idle before it may be ended to make room.
inline constexpr Duration eviction_idle = std::chrono::seconds{1};
/// How long a datagram that the kernel had no room for is tried again, and how many of them a shard
/// keeps.
inline constexpr Duration pending_time_max = std::chrono::milliseconds{100};
inline constexpr std::uint32_t pending_max = 256;
/// How often a source address is looked up again while groups are wanted from it.
inline constexpr Duration source_check_every = std::chrono::seconds{1};

/// An arrival whose client has no session yet.
struct NewClient {
    Arrival arrival;
    ClientKey key;
    std::uint64_t hash = 0;
    std::uint16_t proxy =
        0;  // the listener's when it arrived; the listener may be another's by now
    std::uint32_t waits = 0;  // turns in which it was looked at and told to wait
};

/// A departure that the kernel had no room for; its buffer is still ours.
struct PendingDeparture {
    Departure departure;
    int error = 0;  // errno of the last attempt
    Instant since{};
};

/// One source address of one proxy: where its groups are bound, and whether that works at the
/// moment.
struct SourceBinding {
    std::uint16_t proxy = 0;
    Address wanted;   // unspecified: what routing says
    Endpoint source;  // port 0
    int error = 0;    // errno of the last look; 0: usable
    Instant checked_at{};
    bool checked = false;
    bool looked_up = false;  // `source` and `error` are an answer
    std::uint32_t port_pool = 0;
    std::uint32_t port_range = 0;  // in that pool
    bool retired = false;  // its proxy has other source bindings now, or is going; groups that are
                           // in use may still be bound there
};

/// A listener as the shard works with it; what is configured of it stands in the setup.
struct Listener {
    std::uint32_t sessions = 0;
    bool open = false;
    bool retired = false;  // admits nobody
    bool closing = false;  // its sessions end
    bool closed = false;   // its socket is on its way
};

/// A proxy as the shard works with it.
struct Proxy {
    explicit Proxy(const ProxySetup& from) : setup(from) {}

    ProxySetup setup;
    BindingIndex first_binding = 0;  // its sources are first_binding, first_binding + 1, …
    BindingIndex bindings = 0;
    BindingIndex next_binding = 0;   // whose turn it is
    std::uint32_t opened = 0;        // groups, for the sample that watches
    std::uint32_t closes_below = 0;  // sessions of versions below it end
    bool draining = false;           // admits nobody
    bool closing = false;            // its sessions end
};

/// A version of an upstream that groups were opened with. The control thread holds it too, so that
/// letting go of one here frees no memory.
struct HeldUpstream {
    std::shared_ptr<const Upstream> upstream;  // null: a free place
    std::uint32_t groups = 0;
};

/// To which group a slot belongs: no_index for a listener's, and for one that nobody has. Kept as
/// complements, so that what was never used is zero and was never touched.
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
    /// Leaves a train's first `datagrams` of them and counts the others as dropped.
    void cut(Departure& departure, std::uint32_t datagrams, Drop reason);
    void report(const Event& event);
    /// Makes the gauges say what is the case now.
    void note_gauges();
    [[nodiscard]] ProxyCounters& counters_of(std::uint16_t proxy) {
        return counters.proxies[proxy];
    }

    /// A proxy that is not there: nobody can be admitted to it.
    std::shared_ptr<const Upstream> no_upstream = std::make_shared<const Upstream>(Endpoint{});
    ShardSetup setup;
    /// Looks up a source address; net's, but in a simulation.
    std::function<SourceAnswer(const Endpoint& upstream, const Address& wanted)> source_towards =
        udpproxy::source_towards;
    std::vector<Proxy> proxies;
    std::vector<Listener> listeners;
    std::uint32_t listeners_open = 0;
    SessionTable table;
    std::vector<SourceBinding> bindings;  // of all proxies; BindingIndex is the index
    GroupPool groups;
    std::vector<PortPool> ports;
    std::vector<Address> pool_sources;  // by port pool: the address its ports are bound at
    std::vector<HeldUpstream> upstreams;
    SlotGroups group_of_slot;
    ShardCounters counters;
    ShardGauges gauges;
    UnlistedSources unlisted;
    bool stopping = false;
    bool draining = false;

    // What was commanded, on its way to the groups that are there; see reconcile.cpp.
    std::optional<Instant> reconcile_at;
    std::uint32_t reconcile_next = 0;  // group to look at
    bool reconcile_failed = false;     // a member could not join: another pass is needed
    std::uint32_t leaving =
        0;  // listeners, source bindings and proxies whose places are to be given back

    // The pool of groups that stand ready; see prewarm.cpp.
    bool prewarming = true;  // some may be lacking
    Instant prewarm_at{};    // not before

    // The turn at hand.
    Instant turn_at{};
    Batch<Departure> departures;
    Batch<Buffer> dropped;  // buffers that go home
    Batch<NewClient> new_clients;
    Batch<PendingDeparture> pending;      // to be sent again in the next turn
    Batch<PendingDeparture> resumed;      // the first departures of this turn
    Batch<std::uint32_t> suspect_groups;  // groups whose source address may have gone
    bool admission_bound_met = false;
    std::uint32_t descriptors_closing =
        0;  // of groups that are being closed; they come back with the group's last socket

    // Laws: datagrams (not trains) since start; arrivals == departures + drops + new clients kept +
    // pending, after every turn.
    std::uint64_t arrivals_total = 0;
    std::uint64_t departures_total = 0;
    std::uint64_t drops_total = 0;

    Mailbox<Command> commands{64};
    Mailbox<Event> events{4096};
    InspectionSlot inspections;
    Trace trace;
};

// The stages of a turn, as the loop calls them; each says in which file it lives. What they say to
// each other is private to the room (src/shard/steps.hpp).

/// pending.cpp: what the kernel had no room for goes first.
void resume_pending(Shard& shard, Instant now);
/// pending.cpp: drops what still waits, for the end.
void give_up_pending(Shard& shard);
/// reply_leg.cpp: arrivals on members become departures to clients.
void forward_replies(Shard& shard, std::span<const Arrival> arrivals, Instant now);
/// request_leg.cpp: arrivals on listeners become departures to upstreams; an arrival without a
/// session becomes a new client.
void forward_requests(Shard& shard, std::span<const Arrival> arrivals, Instant now);
/// admission.cpp: new clients get a session, are dropped, or wait for the next turn; order within
/// each client is kept.
void admit_new_clients(Shard& shard, Sockets& sockets, Instant now);
/// sources.cpp: sessions whose source address has been replaced by another one end.
void leave_lost_sources(Shard& shard, Sockets& sockets, Instant now);
/// retirement.cpp: sessions that have expired end; groups nobody wants close.
void retire_sessions(Shard& shard, Sockets& sockets, Instant now);
/// retirement.cpp: begins to close every listener, and every group there is; for the end.
void close_all_listeners(Shard& shard, Sockets& sockets);
void close_all_groups(Shard& shard, Sockets& sockets);
/// retirement.cpp: sockets that are closed now; a group's port cools down after its last one.
void note_closed(Shard& shard, std::span<const Slot> closed, Instant now);
/// apply_commands.cpp: what the control thread has asked for.
void apply_command(Shard& shard, Sockets& sockets, Command& command, Instant now);
/// reconcile.cpp: brings existing groups and sessions to what was commanded since, and gives back
/// empty slots.
void reconcile_groups(Shard& shard, Sockets& sockets, Instant now);
/// prewarm.cpp: opens some of the groups that are to stand ready for new clients.
void prewarm_groups(Shard& shard, Sockets& sockets, Instant now);
/// inspection.cpp: answers what the admin thread has asked, if it has; bounded, and complete within
/// the turn.
void answer_inspection(Shard& shard, Sockets& sockets, Instant now);
/// retirement.cpp: when this shard next has to do something by itself; at or before `now` when work
/// is left over.
[[nodiscard]] std::optional<Instant> next_deadline(const Shard& shard, Instant now);
/// accounting.cpp: counts what was sent and what was not, and asserts that no datagram is
/// unaccounted for.
void account_sends(Shard& shard, std::span<const Fault> faults, Instant now);
void account_receive_faults(Shard& shard, std::span<const Fault> faults);
/// accounting.cpp: what still came in after the last turn.
void drop_while_stopping(Shard& shard, std::span<const Arrival> requests,
                         std::span<const Arrival> replies);

}  // namespace udpproxy
