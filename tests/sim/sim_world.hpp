// SimWorld: a small kernel and network for one shard, seeded and with virtual time. It knows as
// much of the kernel as a shard can notice: exclusive ports, connected and open members, pending
// socket errors, closes that take a while, buffers that run out, trains. SimBackend (below) shows
// it to the loop through the backend contract. The seed of a larger simulator: everything random
// comes from `random`, nothing from the machine.
#pragma once

#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "udpproxy/io/backend.hpp"

namespace udpproxy::sim {

/// A datagram on the simulated wire.
struct Packet {
    Endpoint from;
    Endpoint to;
    std::string payload;
    std::uint8_t tos = 0;
};

struct SimListener {
    Endpoint endpoint;
    std::deque<Packet> queue;
    bool is_open = true;
};

struct SimMember {
    Slot slot = no_slot;
    Endpoint local;
    std::optional<Endpoint> peer;  // absent: an open member
    std::deque<Packet> queue;
    int pending_error = 0;        // of an earlier datagram: eats the next send, or the next receive
    int waits_until_closed = -1;  // >= 0 once close() was called
    int descriptor = -1;
};

/// The process dies inside a verb of the backend.
struct SimDeath {};

class SimWorld {
public:
    explicit SimWorld(std::uint64_t seed) : random(seed) {}

    // What tests do to the world.
    void client_sends(const Endpoint& client, const Endpoint& local, std::string payload,
                      std::uint8_t tos = 0);
    /// A datagram from the service's side to a group's address; returns false when no socket takes
    /// it (the kernel would answer with ICMP).
    bool service_sends(const Endpoint& source, const Endpoint& group, std::string payload,
                       std::uint8_t tos = 0);
    /// ICMP port unreachable for something sent from `group` to `peer`.
    void reject(const Endpoint& group, const Endpoint& peer, int error);
    [[nodiscard]] std::size_t open_members() const { return members.size(); }
    [[nodiscard]] bool chance(double probability) {
        return std::uniform_real_distribution<>(0, 1)(random) < probability;
    }
    [[nodiscard]] std::size_t pick(std::size_t count) {
        return std::uniform_int_distribution<std::size_t>(0, count - 1)(random);
    }

    /// What looking up a source address answers.
    [[nodiscard]] SourceAnswer source_towards(const Endpoint& to, const Address& wanted) const;

    /// Counts a verb of the backend; throws SimDeath.
    void live() {
        if (verbs_left >= 0 && verbs_left-- == 0) throw SimDeath{};
    }

    /// Through the network into the queue of a socket.
    void deliver(std::deque<Packet>& queue, const Packet& packet);

    std::mt19937_64 random;
    Instant now{std::chrono::seconds{1000}};
    std::vector<SimListener> listeners;
    std::map<std::uint32_t, SimMember> members;  // by slot index
    std::map<int, SimMember> left;               // by descriptor: of a shard that has died
    int next_descriptor = 100;
    int verbs_left = -1;       // after so many more verbs of the backend it dies; -1: it lives
    std::set<Endpoint> taken;  // addresses and ports of other programs
    std::set<Address> own_addresses;  // of this host: routing leads from each to itself
    std::set<Address> absent;         // source addresses that are not on this host
    std::set<Address> tentative;      // that a look-up names already, but no socket can be bound to
    int source_error = 0;             // what looking up a source address answers, if not 0
    Address routed = *parse_address("10.0.0.1");  // what routing says
    OpeningOutcome next_opening;                  // not `opened()`: the next group opening fails so
    OpeningOutcome next_join;                     // not `opened()`: the next join fails so
    int next_adoption_error = 0;                  // the next adopt() fails with it
    Duration next_send_takes{};                   // the clock runs on while the next batch is sent
    int next_send_error = 0;                      // the next send fails with it
    int send_errors = 0;                          // every send fails with it, if not 0
    double train_chance =
        0;  // that a datagram which may join the one before it, in its buffer, does
    // Of the network on either side: that a datagram is lost, comes twice, overtakes others.
    double loss_chance = 0;
    double duplicate_chance = 0;
    double reorder_chance = 0;
    std::size_t queue_max = std::numeric_limits<std::size_t>::max();  // of a socket, in datagrams
    double refusal_chance = 0;        // that the kernel refuses a train, so that it is sent singly
    int close_waits_max = 2;          // a close completes after 0 to this many waits
    std::vector<Packet> at_upstream;  // what came out on the service's side
    std::vector<Packet> at_clients;   // what came out on the clients' side
    std::uint64_t openings = 0;       // groups opened
    std::uint64_t refused_by_kernel = 0;  // datagrams that met no socket
    std::uint64_t lost = 0;               // datagrams, in the network
    std::uint64_t overflowed = 0;         // datagrams that found a socket's queue full
    std::uint64_t blocked_waits = 0;      // waits in which a real thread would have slept
};

class SimBackend final : public Sockets {
public:
    SimBackend(std::shared_ptr<SimWorld> world, std::uint32_t slots_max,
               std::uint32_t buffers_per_leg);

    [[nodiscard]] Result<void> start(std::vector<ListenerSocket> listeners);
    const Completions& wait(std::optional<Instant> deadline);
    std::span<const Fault> send(std::span<const Departure> departures, Instant now);
    void discard(Buffer buffer);
    [[nodiscard]] OpeningOutcome open_group(const GroupOpening& opening,
                                            std::span<Slot> slots) override;
    [[nodiscard]] OpeningOutcome join_group(std::span<const Slot> members,
                                            const MemberJoining& joining, Slot& joined) override;
    [[nodiscard]] int adopt(Slot slot, ListenerSocket& listener) override;
    [[nodiscard]] int descriptor_of(Slot slot) const override {
        return world_->members.at(index_of(slot)).descriptor;
    }
    void close(Slot slot) override;
    void wake() {}
    [[nodiscard]] const EngineCounters& counters() const { return counters_; }
    /// Buffers that are not at home.
    [[nodiscard]] std::size_t buffers_out() const {
        return 2 * buffers_per_leg_ - free_[0].size() - free_[1].size();
    }

private:
    void take_over(std::span<const int> descriptors, std::span<Slot> slots);
    void take_arrivals(Slot slot, std::deque<Packet>& queue, Leg leg, const Endpoint* listener);
    [[nodiscard]] static bool joins(const Arrival& arrival, const Packet& packet);
    [[nodiscard]] bool send_part(const Departure& departure, std::uint32_t index,
                                 std::uint32_t offset, std::uint32_t bytes,
                                 std::uint32_t segment_bytes);
    [[nodiscard]] int attempt(const Departure& departure, std::uint32_t offset, std::uint32_t bytes,
                              std::uint32_t segment_bytes);
    void finish_closes();

    std::shared_ptr<SimWorld> world_;
    std::uint32_t buffers_per_leg_;
    std::vector<std::uint32_t> free_slots_;
    std::vector<std::string> payloads_;               // by buffer, requests first
    std::array<std::vector<std::uint32_t>, 2> free_;  // buffers at home, by leg
    std::unique_ptr<Completions> completions_;
    std::vector<Fault> faults_;
    std::vector<Slot> closed_listeners_;
    EngineCounters counters_;
};

static_assert(Backend<SimBackend>);

struct SimClock {
    std::shared_ptr<const SimWorld> world;
    [[nodiscard]] Instant now() const { return world->now; }
};

}  // namespace udpproxy::sim
