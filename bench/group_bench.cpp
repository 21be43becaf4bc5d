// What a session costs that finds no cooling group: opening its sockets, on loopback. Without
// aliases a group has one member, with two it has three. Beside it, the same number of sockets
// without anything.
#include <benchmark/benchmark.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <span>

#include "udpproxy/net/group_sockets.hpp"

namespace {

using namespace udpproxy;

void open_group(benchmark::State& state) {
    const auto aliases = static_cast<std::size_t>(state.range(0));
    const std::array<Endpoint, 2> all{parse_endpoint("127.0.0.3:9").value(),
                                      parse_endpoint("127.0.0.4:9").value()};
    GroupOpening opening;
    opening.local = parse_endpoint("127.0.0.1:20000").value();
    opening.upstream = parse_endpoint("127.0.0.2:9").value();
    opening.aliases = std::span(all).first(aliases);
    std::array<int, 3> sockets{};
    std::uint16_t port = 20000;
    for (auto _ : state) {
        opening.local.port = port = port == 29999 ? 20000 : static_cast<std::uint16_t>(port + 1);
        const OpeningOutcome outcome = open_group_sockets(opening, sockets);
        if (!outcome.opened()) {
            // Somebody else's port.
            if (outcome.step == OpeningStep::bind) continue;
            state.SkipWithError("a group does not open");
            break;
        }
        state.PauseTiming();
        for (std::size_t i = 0; i < opening.members(); ++i) ::close(sockets[i]);
        state.ResumeTiming();
    }
}
BENCHMARK(open_group)->Arg(0)->Arg(2);

/// The least that three connected sockets can cost: no options, no group, ports of their own.
void open_bare_sockets(benchmark::State& state) {
    const std::array<const char*, 3> peers{"127.0.0.2:9", "127.0.0.3:9", "127.0.0.4:9"};
    std::array<SocketName, 3> names{};
    std::array<int, 3> sockets{};
    for (std::size_t i = 0; i < 3; ++i)
        write_socket_name(parse_endpoint(peers[i]).value(), names[i]);
    SocketName local{};
    const socklen_t length = write_socket_name(parse_endpoint("127.0.0.1:20000").value(), local);
    std::uint16_t port = 20000;
    for (auto _ : state) {
        for (std::size_t i = 0; i < 3; ++i) {
            local.ipv4.sin_port =
                htons(port = port == 29999 ? 20000 : static_cast<std::uint16_t>(port + 1));
            sockets[i] = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
            (void)::bind(sockets[i], &local.any, length);  // fails on somebody else's port, rarely
            (void)::connect(sockets[i], &names[i].any, length);
        }
        state.PauseTiming();
        for (const int socket : sockets) ::close(socket);
        state.ResumeTiming();
    }
}
BENCHMARK(open_bare_sockets);

}  // namespace
