// A seeded storm over one shard: random clients, replies early, late and foreign, errors,
// shortages, addresses that come and go. After every turn the laws are looked at; at the end
// everything must be at home again.
//
// A request is "<port of the client> <port of the listener> <number>", and a reply that request and
// " <source> <number> fresh|old listed|foreign". So its receiver can be checked, and its order.
#include <doctest/doctest.h>

#include <cstdio>

#include "sim/sim_shard.hpp"

using namespace udpproxy;
using namespace udpproxy::sim;
using namespace std::chrono_literals;

namespace {

/// Tiny limits, so that walls are hit all the time.
ShardSetup tiny_setup(SimWorld& draw) {
    ShardSetup setup = small_setup();
    ProxySetup& proxy = setup.proxies[0];
    proxy.ports = PortRange{20000, static_cast<std::uint16_t>(20003 + draw.pick(12))};
    proxy.port_cooldown = draw.pick(3) == 0 ? 0s : std::chrono::seconds{1 + draw.pick(4)};
    proxy.idle_timeout = std::chrono::seconds{3 + draw.pick(10)};
    proxy.unassured_timeout = std::chrono::seconds{1 + draw.pick(3)};
    proxy.watch = draw.pick(2) == 0 ? Watch::all : Watch::spare_capacity;
    proxy.sessions_max = static_cast<std::uint32_t>(2 + draw.pick(8));
    proxy.sessions_per_client_max = static_cast<std::uint32_t>(draw.pick(4));
    if (draw.pick(4) == 0) proxy.new_sessions = Rate{2, 8};
    setup.proxies.push_back(proxy);
    setup.proxies[1].upstream = small_upstream(AliasMembers::open);
    setup.listeners.push_back(ListenerSetup{1, at("10.1.0.1:54")});
    setup.sessions_max = static_cast<std::uint32_t>(3 + draw.pick(8));
    setup.descriptors_max = static_cast<std::uint32_t>(8 + draw.pick(30));
    setup.slots_max = setup.descriptors_max + 2;
    setup.buffers_per_leg = std::uint32_t{2} << draw.pick(4);
    setup.report_sessions = false;
    return setup;
}

class Storm {
public:
    explicit Storm(std::uint64_t seed) : draw_(seed), sim_(tiny_setup(draw_), seed) {
        sim_.world->close_waits_max = static_cast<int>(draw_.pick(4));
        sim_.world->train_chance = draw_.pick(2) == 0 ? 0.9 : 0;
        sim_.world->refusal_chance = 0.3;
        hosts_ = static_cast<std::uint32_t>(1 + draw_.pick(16));
    }

    void step() {
        SimWorld& world = *sim_.world;
        switch (draw_.pick(12)) {
            case 0:
            case 1:
            case 2:
            case 3: {
                const auto number = static_cast<std::uint32_t>(draw_.pick(16));
                const Endpoint client{Address::ipv4(0xc0000201U + number % hosts_), 0,
                                      static_cast<std::uint16_t>(1000 + number)};
                const Endpoint listener = at(draw_.pick(2) == 0 ? "10.1.0.1:53" : "10.1.0.1:54");
                const std::string flow =
                    std::to_string(client.port) + ' ' + std::to_string(listener.port) + ' ';
                // Now and then several in a row, which may come as a train.
                for (std::size_t left = draw_.pick(3) == 0 ? 1 + draw_.pick(9) : 1; left > 0;
                     --left)
                    world.client_sends(client, listener, flow + next_number());
                break;
            }
            case 4:
            case 5:
            case 6:
                if (!asked_.empty()) {
                    // Any request of the past may be answered: early, late, after the session's
                    // end, from anywhere.
                    const Asked& request = asked_[draw_.pick(asked_.size())];
                    const char* sources[] = {"10.0.0.254:53", "10.0.0.253:53", "10.0.0.252:53",
                                             "10.0.0.66:53", "10.0.0.254:99"};
                    const std::size_t source = draw_.pick(5);
                    // Younger than the cooldown: whatever has happened to the session since, no
                    // other session may have its port.
                    const bool is_fresh =
                        world.now - request.at < sim_.shard().proxies[0].setup.port_cooldown;
                    for (std::size_t left = draw_.pick(4) == 0 ? 1 + draw_.pick(9) : 1; left > 0;
                         --left)
                        world.service_sends(at(sources[source]), request.packet.from,
                                            request.packet.payload + ' ' + std::to_string(source) +
                                                ' ' + next_number() +
                                                (is_fresh ? " fresh" : " old") +
                                                (source < 3 ? " listed" : " foreign"));
                }
                break;
            case 7:
                sim_.advance(std::chrono::milliseconds{draw_.pick(2500)});
                break;
            case 8:
                if (!asked_.empty())
                    world.reject(asked_[draw_.pick(asked_.size())].packet.from, at("10.0.0.254:53"),
                                 ECONNREFUSED);
                break;
            case 9:
                if (draw_.pick(4) == 0) world.absent = {*parse_address("10.0.0.1")};
                if (draw_.pick(2) == 0) world.absent.clear();
                break;
            case 10: {
                const int errors[] = {EAGAIN, ENOBUFS, EPERM, ENETUNREACH, EMSGSIZE, EINVAL};
                if (draw_.pick(3) == 0) world.next_send_error = errors[draw_.pick(6)];
                break;
            }
            default:
                if (draw_.pick(4) == 0)
                    world.next_opening = {OpeningStep::socket,
                                          draw_.pick(2) == 0 ? ENFILE : ENOMEM};
                break;
        }
        sim_.turns();
        look();
    }

    /// Faults stop: every client must be served again, and in the end nothing is left.
    void calm() {
        SimWorld& world = *sim_.world;
        world.absent.clear();
        world.next_send_error = 0;
        world.next_opening = {};
        for (int i = 0; i < 40; ++i) {
            sim_.advance(1s);
            sim_.turns(3);
            look();
        }
        REQUIRE(sim_.shard().table.size() == 0);
        sim_.asked();
        asked_.clear();
        const Endpoint client{*parse_address("192.0.2.1"), 0, 999};
        world.client_sends(client, at("10.1.0.1:53"), "9999 53 " + next_number());
        sim_.turns(8);
        look();
        REQUIRE(asked_.size() == 1);
        for (int i = 0; i < 60; ++i) {
            sim_.advance(3s);
            sim_.turns(6);
        }
        CHECK(sim_.shard().table.size() == 0);
        CHECK(world.open_members() == 0);
        CHECK(sim_.shard().groups.size() == 0);
        CHECK(sim_.shard().setup.use->descriptors.used.load() == 0);
        CHECK(sim_.shard().setup.use->sessions.used.load() == 0);
        CHECK(sim_.shard().setup.use->unassured.used.load() == 0);
        CHECK(sim_.shard().setup.use->client_counts.clients() == 0);
        CHECK(sim_.loop->backend().buffers_out() == 0);
        for (const PortPool& pool : sim_.shard().ports) CHECK(pool.leased() == 0);
    }

    [[nodiscard]] std::uint64_t delivered() const { return delivered_; }
    [[nodiscard]] std::uint64_t delivered_fresh() const { return delivered_fresh_; }
    [[nodiscard]] std::uint64_t dropped() { return sim_.shard().drops_total; }

private:
    void look() {
        Shard& shard = sim_.shard();
        for (Packet& packet : sim_.asked()) {
            REQUIRE(packet.to == at("10.0.0.254:53"));
            ++left_;
            // Every boundary is where it was.
            REQUIRE(packet.payload.size() == std::string_view{"1000 53 000000"}.size());
            require_order(packet.payload.substr(0, 7), packet.payload.substr(8));
            asked_.push_back(Asked{std::move(packet), sim_.world->now});
        }
        for (const Packet& packet : sim_.answered()) {
            ++delivered_;
            ++left_;
            REQUIRE(packet.payload.find(" listed") + 7 == packet.payload.size());
            REQUIRE(packet.payload.find("foreign") == std::string::npos);
            // Members have no order among each other, so each source of replies is a flow.
            require_order(std::to_string(packet.to.port) + ' ' + std::to_string(packet.from.port) +
                              packet.payload.substr(14, 3),
                          packet.payload.substr(17, 6));
            if (packet.payload.find("fresh") == std::string::npos) continue;
            ++delivered_fresh_;
            REQUIRE(packet.payload.substr(0, packet.payload.find(' ')) ==
                    std::to_string(packet.to.port));
        }
        REQUIRE(shard.departures_total == left_);
        REQUIRE(shard.table.size() <= shard.setup.sessions_max);
        REQUIRE(shard.setup.use->descriptors.used.load() <= shard.setup.descriptors_max);
        // A group's descriptors are given back when its last socket is closed.
        REQUIRE(shard.setup.use->descriptors.used.load() >= sim_.world->open_members());
        if (shard.descriptors_closing == 0)
            REQUIRE(shard.setup.use->descriptors.used.load() == sim_.world->open_members());
        REQUIRE(shard.setup.use->sessions.used.load() == shard.table.size());
        REQUIRE(sim_.loop->backend().buffers_out() ==
                shard.new_clients.size() + shard.pending.size());
        REQUIRE(shard.table.longest_probe() <= 16);
    }

    std::string next_number() {
        char digits[7];
        std::snprintf(digits, sizeof digits, "%06u", ++number_ % 1'000'000);
        return digits;
    }
    /// No datagram of a flow overtakes another.
    void require_order(const std::string& flow, const std::string& number) {
        std::string& last = last_of_flow_[flow];
        CAPTURE(flow);
        REQUIRE(last < number);
        last = number;
    }

    struct Asked {
        Packet packet;
        Instant at;
    };

    SimWorld draw_;
    SimShard sim_;
    std::uint32_t hosts_ = 1;  // that clients are on
    std::uint32_t number_ = 0;
    std::map<std::string, std::string> last_of_flow_;
    std::vector<Asked> asked_;
    std::uint64_t delivered_ = 0;
    std::uint64_t delivered_fresh_ = 0;
    std::uint64_t left_ = 0;  // datagrams, on either side
};

}  // namespace

TEST_CASE("in any storm no law breaks, and after it everything is at home again") {
    std::uint64_t delivered = 0;
    std::uint64_t delivered_fresh = 0;
    std::uint64_t dropped = 0;
    for (std::uint64_t seed = 1; seed <= 150; ++seed) {
        CAPTURE(seed);
        Storm storm(seed);
        for (int step = 0; step < 600; ++step) storm.step();
        storm.calm();
        delivered += storm.delivered();
        delivered_fresh += storm.delivered_fresh();
        dropped += storm.dropped();
    }
    // The storm must have exercised both ends.
    CHECK(delivered > 5000);
    CHECK(delivered_fresh > 500);
    CHECK(dropped > 5000);
}
