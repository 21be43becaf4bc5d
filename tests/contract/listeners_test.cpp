// Listeners and sources: one address for one instance, its clients spread over its sockets and each
// kept by one, and where requests leave from.
#include <netinet/udp.h>

#include <map>
#include <set>

#include "contract/rig.hpp"

namespace udpproxy::contract {
namespace {

ListenerRequest request_for(const Endpoint& endpoint) {
    return ListenerRequest{endpoint, 1U << 20, 1U << 20};
}

Endpoint name_of(const Socket& socket) {
    SocketName name{};
    socklen_t length = sizeof name;
    REQUIRE(::getsockname(socket.descriptor(), &name.any, &length) == 0);
    return read_socket_name(name);
}

TEST_CASE("a second instance on the same address is refused, however many sockets either has") {
    // With SO_REUSEPORT set before the first bind it would join and take clients.
    for (const Family family : families()) {
        for (const std::size_t count : {1U, 3U}) {
            const Endpoint endpoint = unused_endpoint(loopback(family));
            Result<ListenerSockets> first = open_listeners(request_for(endpoint), count);
            REQUIRE(first.has_value());
            CHECK(first->sockets.size() == count);
            const std::size_t before = descriptor_count();
            for (const std::size_t count_of_second : {1U, 3U}) {
                const Result<ListenerSockets> second =
                    open_listeners(request_for(endpoint), count_of_second);
                REQUIRE_FALSE(second.has_value());
                CHECK(second.error().message == "bind: Address already in use");
            }
            CHECK(descriptor_count() == before);
        }
    }
}

TEST_CASE("a listener keeps out of a port that another socket holds with SO_REUSEPORT") {
    Socket holder;
    REQUIRE(try_bind(Endpoint{group_address(Family::ipv4), 0, next_port()}, Reuse::port, holder) ==
            0);
    CHECK_FALSE(open_listeners(request_for(name_of(holder)), 2).has_value());
}

/// All that open_listeners() sets, in both families' names.
std::vector<int> options_of(const Socket& socket, Family family) {
    const bool ipv4 = family == Family::ipv4;
    const int level = ipv4 ? IPPROTO_IP : IPPROTO_IPV6;
    std::vector<int> values;
    const auto add = [&](int of, int option) {
        int value = 0;
        socklen_t length = sizeof value;
        REQUIRE(::getsockopt(socket.descriptor(), of, option, &value, &length) == 0);
        values.push_back(value);
    };
    for (const int option : {SO_RCVBUF, SO_SNDBUF, SO_REUSEPORT}) add(SOL_SOCKET, option);
    add(IPPROTO_UDP, UDP_GRO);
    for (const int option :
         ipv4 ? std::vector<int>{IP_RECVTOS, IP_MTU_DISCOVER, IP_PKTINFO, IP_FREEBIND}
              : std::vector<int>{IPV6_RECVTCLASS, IPV6_MTU_DISCOVER, IPV6_RECVPKTINFO,
                                 IPV6_FREEBIND, IPV6_V6ONLY})
        add(level, option);
    return values;
}

TEST_CASE("a socket that was handed over gets the options of one opened here, and comes first") {
    for (const Family family : families()) {
        for (const Address& at : {loopback(family), Address::any(family)}) {
            ListenerRequest request{unused_endpoint(at), 65536, 131072, PathMtu::omit, true};
            Socket bound;
            REQUIRE(try_bind(request.endpoint, Reuse::port, bound) == 0);
            const int number = bound.descriptor();
            std::vector<Socket> handed;
            handed.push_back(std::move(bound));
            Result<ListenerSockets> opened = open_listeners(request, 2, &handed);
            REQUIRE_MESSAGE(opened.has_value(), complaint(opened));
            CHECK(opened->sockets.front().descriptor() == number);
            CHECK_FALSE(handed.front());
            CHECK(options_of(opened->sockets[0], family) == options_of(opened->sockets[1], family));
            CHECK(opened->receive_buffer_bytes == 65536);
        }
    }
}

TEST_CASE("a socket that was handed over stays with the caller when the others cannot be opened") {
    const Endpoint endpoint = unused_endpoint(loopback(Family::ipv4));
    std::vector<Socket> handed(1);
    REQUIRE(try_bind(endpoint, Reuse::none, handed.front()) == 0);
    CHECK_FALSE(open_listeners(request_for(endpoint), 2, &handed).has_value());
    CHECK(handed.front());
}

TEST_CASE("a listener on an address that is not here yet is opened, and the absence told") {
    const Endpoint absent{address("192.0.2.1"), 0, next_port()};
    Result<ListenerSockets> opened = open_listeners(request_for(absent), 2);
    REQUIRE(opened.has_value());
    CHECK(opened->address_absent);
    for (const Socket& socket : opened->sockets) CHECK(name_of(socket) == absent);

    opened = open_listeners(request_for(Endpoint{loopback(Family::ipv4), 0, 0}), 1);
    REQUIRE(opened.has_value());
    CHECK_FALSE(opened->address_absent);
}

TEST_CASE("the granted buffer sizes are told in payload bytes") {
    Result<ListenerSockets> opened =
        open_listeners(ListenerRequest{Endpoint{loopback(Family::ipv4), 0, 0}, 65536, 131072}, 1);
    REQUIRE(opened.has_value());
    CHECK(opened->receive_buffer_bytes == 65536);
    CHECK(opened->send_buffer_bytes == 131072);
}

TEST_CASE_TEMPLATE(
    "200 clients are shared among the sockets of an address, and each client keeps to one", Engine,
    UDPPROXY_ENGINES) {
    // With SO_REUSEPORT cleared after the binds one socket would get everything.
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        Result<ListenerSockets> opened =
            open_listeners(request_for(unused_endpoint(loopback(family))), 2);
        REQUIRE(opened.has_value());
        const Endpoint endpoint = name_of(opened->sockets[0]);
        CHECK(name_of(opened->sockets[1]) == endpoint);
        EngineSetup setup;
        setup.slots_max = 4;
        setup.buffers_per_leg = 512;
        std::vector<ListenerSocket> listeners;
        for (Socket& socket : opened->sockets)
            listeners.push_back(ListenerSocket{std::move(socket), family});
        Result<Engine> engine = Engine::open(setup);
        REQUIRE(engine.has_value());
        REQUIRE(engine->start(std::move(listeners)).has_value());

        std::map<Endpoint, std::set<Slot>> slots_of;
        std::map<Slot, int> clients_of;
        std::vector<Peer> clients;
        for (int i = 0; i < 200; ++i) {
            clients.emplace_back(loopback(family)).send(endpoint, "x");
            clients.back().send(endpoint, "y");
        }
        std::size_t arrivals = 0;
        const Instant deadline = monotonic_now() + patience;
        while (arrivals < 400 && monotonic_now() < deadline) {
            const Completions& completions = engine->wait(deadline);
            for (const Arrival& arrival : completions.requests) {
                ++arrivals;
                if (slots_of[arrival.from].insert(arrival.slot).second) ++clients_of[arrival.slot];
                engine->discard(arrival.buffer);
            }
        }
        CHECK(arrivals == 400);
        CHECK(slots_of.size() == 200);
        for (const auto& [client, slots] : slots_of) CHECK(slots.size() == 1);
        CHECK(clients_of[Slot{0}] >= 40);
        CHECK(clients_of[Slot{1}] >= 40);
    }
}

TEST_CASE("requests leave from the wanted address if it is here, else from where routing says") {
    const std::size_t before = descriptor_count();
    const Endpoint upstream{address("127.0.0.2"), 0, 53};
    const SourceAnswer wanted = source_towards(upstream, address("127.0.0.9"));
    CHECK(wanted.error == 0);
    CHECK(wanted.source == Endpoint{address("127.0.0.9"), 0, 0});

    CHECK(source_towards(upstream, address("192.0.2.1")).error == EADDRNOTAVAIL);

    const SourceAnswer routed = source_towards(upstream, Address::any(Family::ipv4));
    CHECK(routed.error == 0);
    CHECK(routed.source == Endpoint{address("127.0.0.1"), 0, 0});

    // Towards everybody, too, wherever the kernel has a route for it.
    const Endpoint everybody{address("255.255.255.255"), 0, 53};
    const int error = source_towards(everybody, Address::any(Family::ipv4)).error;
    CHECK((error == 0 || error == ENETUNREACH));

    if (families().size() == 2) {
        const Endpoint upstream6{address("::1"), 0, 53};
        const SourceAnswer routed6 = source_towards(upstream6, Address::any(Family::ipv6));
        CHECK(routed6.error == 0);
        CHECK(routed6.source == Endpoint{address("::1"), 0, 0});
        CHECK(source_towards(upstream6, address("::1")).source == Endpoint{address("::1"), 0, 0});
        CHECK(source_towards(upstream6, address("2001:db8::1")).error == EADDRNOTAVAIL);
    }
    CHECK(descriptor_count() == before);
}

}  // namespace
}  // namespace udpproxy::contract
