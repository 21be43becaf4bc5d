// Rig: an engine with its listeners, driven as a shard drives it, but so that a test can look at
// everything: arrivals are copied and their buffers handed back (collect), or held until the test
// sends or discards them (hold). Every wait is bounded.
#pragma once

#include <doctest/doctest.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "contract/engines.hpp"
#include "contract/peer.hpp"
#include "udpproxy/io/backend.hpp"
#include "udpproxy/net/listener.hpp"

namespace udpproxy::contract {

struct RigSetup {
    std::vector<Address> listen{loopback(Family::ipv4)};  // each on a port the kernel chooses
    std::uint32_t slots_max = 64;
    std::uint32_t buffers_per_leg = 256;
    std::uint32_t payload_bytes_max = 65535;
    bool offload = true;
    Duration busy_poll{};
    Duration batch_wait{};
};

/// One listener, on the family's loopback address.
[[nodiscard]] inline RigSetup listening_in(Family family) {
    RigSetup setup;
    setup.listen = {loopback(family)};
    return setup;
}

template <class T>
[[nodiscard]] std::string complaint(const Result<T>& result) {
    return result ? "no complaint" : result.error().message;
}

/// An arrival as it was, copied.
struct Seen {
    Leg leg = Leg::request;
    Slot slot = no_slot;
    Endpoint from;
    Address local;
    std::uint32_t interface_index = 0;
    std::uint8_t tos = 0;
    bool truncated = false;
    std::uint32_t bytes = 0;  // as sent; the payload is less when it was truncated
    std::uint32_t segment_bytes = 0;
    std::uint32_t datagrams = 0;
    std::string payload;
};

/// Requires: not truncated.
[[nodiscard]] inline std::string payload_of(const Arrival& arrival) {
    return {reinterpret_cast<const char*>(arrival.payload), arrival.bytes};
}

/// The request leg's departure: on a connected slot.
[[nodiscard]] inline Departure towards(const Arrival& arrival, Slot slot) {
    Departure departure;
    departure.slot = slot;
    departure.buffer = arrival.buffer;
    departure.payload = arrival.payload;
    departure.bytes = arrival.bytes;
    departure.segment_bytes = arrival.segment_bytes;
    departure.tos = arrival.tos;
    return departure;
}

/// The reply leg's departure: on a listener's slot, to a client by name.
[[nodiscard]] inline Departure back_to(const Arrival& arrival, Slot listener,
                                       const Endpoint& client, const Address& from = {}) {
    Departure departure = towards(arrival, listener);
    departure.to = client;
    departure.from = from;
    departure.leg = Leg::reply;
    return departure;
}

struct OpenedGroup {
    Endpoint local;
    std::vector<Slot> slots;
};

template <Backend Engine>
class Rig {
public:
    explicit Rig(Family family) : Rig(listening_in(family)) {}
    explicit Rig(const RigSetup& setup = {})
        : payload_bytes_max_(setup.payload_bytes_max),
          offload_(setup.offload && trains_supported()),
          client_(loopback(setup.listen.at(0).family())),
          engine_(open(setup)) {
        const Result<void> started = engine_.start(std::move(sockets_));
        INFO(complaint(started));
        REQUIRE(started.has_value());
    }

    [[nodiscard]] Engine& engine() { return engine_; }
    /// Where listener `index` listens; a wildcard's address is the loopback one.
    [[nodiscard]] Endpoint listener(std::size_t index = 0) const { return listeners_.at(index); }
    [[nodiscard]] const Peer& client() const { return client_; }

    /// Waits until `count` arrivals have been copied to `seen`, in all. False: the time is over.
    [[nodiscard]] bool collect(std::size_t count, Duration limit = patience) {
        return until([&] { return seen.size() >= count; }, limit);
    }
    /// Waits until `count` arrivals are in `held`. Arrivals of the other leg are copied as ever.
    [[nodiscard]] bool hold(std::size_t count, Leg leg = Leg::request, Duration limit = patience) {
        held_leg_ = leg;
        return until_held([&] { return held.size() >= count; }, limit);
    }
    template <class Enough>
    [[nodiscard]] bool until_held(Enough enough, Duration limit = patience) {
        holding_ = true;
        const bool came = until(enough, limit);
        holding_ = false;
        return came;
    }
    template <class Enough>
    [[nodiscard]] bool until(Enough enough, Duration limit = patience) {
        const Instant deadline = monotonic_now() + limit;
        while (!enough()) {
            if (monotonic_now() >= deadline) return false;
            wait(deadline);
        }
        return true;
    }
    /// Waits on for `limit`.
    void pass(Duration limit = moment) {
        (void)until([] { return false; }, limit);
    }
    /// Whether a wait blocks until its deadline before many have ended early. What an engine left
    /// undone, or reports again and again, ends every wait at once; a few ended waits are no fault.
    [[nodiscard]] bool comes_to_rest() {
        for (int ended_early = 0; ended_early < 50; ++ended_early) {
            const Instant deadline = monotonic_now() + moment;
            wait(deadline);
            if (monotonic_now() >= deadline) return true;
        }
        return false;
    }
    void wait(std::optional<Instant> deadline) {
        const Completions& completions = engine_.wait(deadline);
        for (const Arrival& arrival : completions.replies) take(arrival, Leg::reply);
        for (const Arrival& arrival : completions.requests) take(arrival, Leg::request);
        faults.insert(faults.end(), completions.faults.begin(), completions.faults.end());
        closed.insert(closed.end(), completions.closed.begin(), completions.closed.end());
    }

    /// Has the rig's client send these to the first listener, and returns the arrivals, held.
    [[nodiscard]] std::vector<Arrival> feed(const std::vector<std::string>& payloads) {
        REQUIRE(held.empty());
        for (const std::string& payload : payloads) {
            client_.send(listener(), payload);
            REQUIRE(hold(held.size() + 1));
        }
        return std::exchange(held, {});
    }
    /// The same for one train: whole when offload is on and the kernel kept it so.
    [[nodiscard]] std::vector<Arrival> feed_train(std::string_view payload,
                                                  std::size_t segment_bytes) {
        REQUIRE(held.empty());
        client_.send_train(listener(), payload, segment_bytes);
        std::size_t bytes = 0;
        REQUIRE(until_held([&] {
            bytes = 0;
            for (const Arrival& arrival : held) bytes += arrival.bytes;
            return bytes >= payload.size();
        }));
        return std::exchange(held, {});
    }
    [[nodiscard]] std::vector<Fault> send(const std::vector<Departure>& departures) {
        const std::span<const Fault> reported = engine_.send(departures, monotonic_now());
        return {reported.begin(), reported.end()};
    }
    void discard_held() {
        for (const Arrival& arrival : held) engine_.discard(arrival.buffer);
        held.clear();
    }

    /// Opens a group on a free port. Fails the test when it cannot.
    [[nodiscard]] OpenedGroup open_group(const Endpoint& upstream,
                                         const std::vector<Endpoint>& aliases = {},
                                         bool with_open_member = false) {
        OpenedGroup group;
        GroupOpening opening;
        opening.upstream = upstream;
        opening.aliases = aliases;
        opening.with_open_member = with_open_member;
        opening.offload = offload_;
        group.slots.resize(opening.members());
        OpeningOutcome outcome{OpeningStep::bind, EADDRINUSE};
        for (int tried = 0; tried < 100 && outcome.error == EADDRINUSE; ++tried) {
            opening.local = Endpoint{group_address(upstream.family()), 0, next_port()};
            outcome = engine_.open_group(opening, group.slots);
        }
        INFO("open_group, step ", static_cast<int>(outcome.step), ": ", error_text(outcome.error));
        REQUIRE(outcome.opened());
        group.local = opening.local;
        return group;
    }
    void close(const OpenedGroup& group) {
        for (const Slot slot : group.slots) engine_.close(slot);
    }
    /// Closes the group and waits until all of it is closed.
    [[nodiscard]] bool close_and_wait(const OpenedGroup& group) {
        const std::size_t wanted = closed.size() + group.slots.size();
        close(group);
        return until([&] { return closed.size() >= wanted; });
    }

    std::vector<Seen> seen;
    std::vector<Arrival> held;
    std::vector<Fault> faults;
    std::vector<Slot> closed;

private:
    Engine open(const RigSetup& setup) {
        EngineSetup engine_setup;
        engine_setup.slots_max = setup.slots_max;
        engine_setup.buffers_per_leg = setup.buffers_per_leg;
        engine_setup.busy_poll = setup.busy_poll;
        engine_setup.batch_wait = setup.batch_wait;
        engine_setup.payload_bytes_max = setup.payload_bytes_max;
        for (const Address& at : setup.listen) {
            Result<ListenerSockets> opened = open_listeners(
                ListenerRequest{Endpoint{at, 0, 0}, 4U << 20, 4U << 20, PathMtu::want, offload_},
                1);
            INFO(complaint(opened));
            REQUIRE(opened.has_value());
            SocketName name{};
            socklen_t length = sizeof name;
            REQUIRE(::getsockname(opened->sockets[0].descriptor(), &name.any, &length) == 0);
            Endpoint endpoint = read_socket_name(name);
            if (at.is_unspecified()) endpoint.address = loopback(at.family());
            listeners_.push_back(endpoint);
            sockets_.push_back(
                ListenerSocket{std::move(opened->sockets[0]), at.family(), offload_});
        }
        Result<Engine> engine = Engine::open(engine_setup);
        INFO(complaint(engine));
        REQUIRE(engine.has_value());
        return std::move(*engine);
    }

    void take(const Arrival& arrival, Leg leg) {
        if (holding_ && leg == held_leg_) {
            held.push_back(arrival);
            return;
        }
        seen.push_back(Seen{leg, arrival.slot, arrival.from, arrival.local, arrival.interface_index,
                            arrival.tos, arrival.truncated, arrival.bytes, arrival.segment_bytes,
                            arrival.datagrams(),
                            std::string(reinterpret_cast<const char*>(arrival.payload),
                                        std::min(arrival.bytes, payload_bytes_max_))});
        engine_.discard(arrival.buffer);
    }

    std::uint32_t payload_bytes_max_;
    bool offload_;
    std::vector<Endpoint> listeners_;
    std::vector<ListenerSocket> sockets_;  // of the listeners, until the engine starts
    Peer client_;
    Engine engine_;
    bool holding_ = false;
    Leg held_leg_ = Leg::request;
};

/// What most tests begin with: a rig, an upstream of its first listener's family, and a group
/// towards it.
template <Backend Engine>
class GroupRig : public Rig<Engine> {
public:
    explicit GroupRig(const RigSetup& setup = {})
        : Rig<Engine>(setup),
          upstream(setup.listen.at(0).is_ipv4() ? address("127.0.0.2") : loopback(Family::ipv6)),
          group(this->open_group(upstream.endpoint())) {}
    explicit GroupRig(Family family) : GroupRig(listening_in(family)) {}

    Peer upstream;
    OpenedGroup group;
};

}  // namespace udpproxy::contract
