// LoopRig: a shard's whole loop over a real engine, turned by the test in its own thread: a service
// with two aliases behind it, clients before it.
#pragma once

#include <memory>
#include <thread>

#include "contract/rig.hpp"
#include "udpproxy/shard/loop.hpp"

namespace udpproxy::contract {

struct LoopRigSetup {
    Address listen = loopback(Family::ipv4);
    Duration unassured_timeout = std::chrono::seconds{10};
    Duration idle_timeout = std::chrono::seconds{10};
    Duration port_cooldown = std::chrono::seconds{10};
    Watch watch = Watch::all;
    bool offload = true;
};

/// Each rig has ports of its own: those of a ring that has gone are bound for some moments more.
inline PortRange next_ports() {
    constexpr int width = 1500;
    static int at = 0;
    at = (at + 1) % 12;
    return PortRange{static_cast<std::uint16_t>(10000 + at * width),
                     static_cast<std::uint16_t>(10000 + at * width + width - 1)};
}

template <Backend Engine>
class LoopRig {
public:
    explicit LoopRig(const LoopRigSetup& setup = {})
        : upstream(loopback(setup.listen.family())),
          first_alias(loopback(setup.listen.family())),
          second_alias(loopback(setup.listen.family())),
          loop_(open(setup)) {
        REQUIRE(loop_->start(std::move(sockets_)).has_value());
    }

    /// The listener; its address is the loopback one when it is a wildcard.
    [[nodiscard]] Endpoint listener() const { return listener_; }
    [[nodiscard]] const ProxyCounters& counters() { return loop_->shard().counters.proxies[0]; }
    [[nodiscard]] Shard& shard() { return loop_->shard(); }

    /// One turn that does not block.
    void turn() {
        loop_->wake();
        loop_->turn();
    }
    template <class Enough>
    [[nodiscard]] bool turns_until(Enough enough, Duration limit = patience) {
        const Instant deadline = monotonic_now() + limit;
        while (!enough()) {
            if (monotonic_now() >= deadline) return false;
            turn();
        }
        return true;
    }
    /// A letter for `peer`, turning until it is there.
    [[nodiscard]] std::optional<Letter> next_letter(const Peer& peer) {
        std::optional<Letter> letter;
        (void)turns_until([&] { return (letter = peer.receive(Duration::zero())).has_value(); });
        return letter;
    }

    /// Posts the stop command from another thread and runs the loop until it has stopped.
    void stop_and_run() {
        std::thread controller([&] {
            REQUIRE(loop_->shard().commands.post(Command{}));
            loop_->wake();
        });
        loop_->run();
        controller.join();
    }

    Peer upstream;
    Peer first_alias;
    Peer second_alias;

private:
    std::unique_ptr<Loop<Engine>> open(const LoopRigSetup& from) {
        ProxySetup proxy;
        proxy.name = "contract";
        std::vector<AliasRule> aliases;
        const auto bits = static_cast<std::uint8_t>(from.listen.is_ipv4() ? 32 : 128);
        for (const Peer* alias : {&first_alias, &second_alias})
            aliases.push_back(
                AliasRule{Prefix{alias->endpoint().address, bits}, 0, alias->endpoint().port});
        proxy.upstream = std::make_shared<Upstream>(upstream.endpoint(), std::move(aliases));
        proxy.watch = from.watch;
        proxy.sources = {group_address(from.listen.family())};
        proxy.ports = next_ports();
        proxy.port_cooldown = from.port_cooldown;
        proxy.idle_timeout = from.idle_timeout;
        proxy.unassured_timeout = from.unassured_timeout;
        proxy.sessions_max = 512;
        proxy.offload = from.offload && trains_supported();

        Result<ListenerSockets> opened =
            open_listeners(ListenerRequest{Endpoint{from.listen, 0, 0}, 4U << 20, 4U << 20,
                                           PathMtu::want, proxy.offload},
                           1);
        REQUIRE(opened.has_value());
        SocketName name{};
        socklen_t length = sizeof name;
        REQUIRE(::getsockname(opened->sockets[0].descriptor(), &name.any, &length) == 0);
        listener_ = read_socket_name(name);
        sockets_.push_back(
            ListenerSocket{std::move(opened->sockets[0]), from.listen.family(), proxy.offload});

        ShardSetup setup;
        setup.proxies = {proxy};
        setup.listeners = {ListenerSetup{0, listener_}};
        setup.sessions_max = 512;
        setup.descriptors_max = 2048;
        setup.slots_max = 1 + setup.descriptors_max;
        setup.buffers_per_leg = 256;
        setup.report_sessions = true;
        setup.key = SipKey{1, 2};
        setup.use = std::make_shared<SharedUse>(1, 1, setup.sessions_max, setup.key);

        EngineSetup engine_setup;
        engine_setup.slots_max = setup.slots_max;
        engine_setup.buffers_per_leg = setup.buffers_per_leg;
        Result<Engine> engine = Engine::open(engine_setup);
        INFO(complaint(engine));
        REQUIRE(engine.has_value());
        if (from.listen.is_unspecified()) listener_.address = loopback(from.listen.family());
        return std::make_unique<Loop<Engine>>(std::move(setup), std::move(*engine));
    }

    Endpoint listener_;
    std::vector<ListenerSocket> sockets_;  // of the listener, until the loop starts
    std::unique_ptr<Loop<Engine>> loop_;
};

}  // namespace udpproxy::contract
