// A seeded storm over one shard. Clients of many hosts, replies early, late and foreign; a network
// that loses, duplicates and reorders; queues that are full, errors, shortages; addresses that come
// and go and are tentative; limits, settings, upstreams, drains and listeners that reloads change,
// a listener's slot given to another proxy. After every turn the laws are looked at; at the end
// everything must be at home again.
//
// UDPPROXY_STORM=7 runs seed 7 alone, UDPPROXY_STORM=1-5000 so many.
#include <doctest/doctest.h>

#include <cstdlib>
#include <map>
#include <set>
#include <sstream>

#include "sim/sim_shard.hpp"
#include "told_on_abort.hpp"

using namespace udpproxy;
using namespace udpproxy::sim;
using namespace std::chrono_literals;

namespace {

constexpr std::uint16_t proxies = 3;
constexpr std::uint16_t slots = 4;  // of listeners
constexpr std::uint16_t first_port = 53;
constexpr std::uint16_t ports = 6;  // that listeners may have; the last one is a wildcard's

/// Everything that a storm draws once.
struct Scene {
    Family family = Family::ipv4;
    bool is_large = false;  // so many sessions and groups that a turn leaves work for the next
    std::uint32_t clients = 16;
    std::uint32_t hosts = 1;

    /// 10.NET.0.HOST or fd00:NET::HOST.
    [[nodiscard]] Address address(unsigned net, unsigned host) const {
        const std::string text = family == Family::ipv4
                                     ? "10." + std::to_string(net) + ".0." + std::to_string(host)
                                     : "fd00:" + std::to_string(net) + "::" + std::to_string(host);
        return *parse_address(text);
    }
    /// Whole networks of clients: sessions_per_client_max counts an IPv6 /64 as one.
    [[nodiscard]] Endpoint client(std::uint32_t number) const {
        const unsigned host = number % hosts;
        return {address(family == Family::ipv4 ? 200 : 200 + host, 1 + host), 0,
                static_cast<std::uint16_t>(1000 + number)};
    }
    [[nodiscard]] Endpoint upstream(std::uint16_t proxy, std::uint32_t version) const {
        return {address(10U + proxy, 250 - version % 3), 0, 53};
    }
    [[nodiscard]] Endpoint alias(std::uint16_t proxy, unsigned number) const {
        return {address(10U + proxy, 100 + number), 0, 53};
    }
    [[nodiscard]] std::optional<std::uint16_t> proxy_of(const Address& upstream_side) const {
        for (std::uint16_t proxy = 0; proxy < proxies; ++proxy)
            if (Prefix{address(10U + proxy, 0),
                       static_cast<std::uint8_t>(family == Family::ipv4 ? 24 : 32)}
                    .contains(upstream_side))
                return proxy;
        return std::nullopt;
    }
};

std::uint32_t up_to(SimWorld& draw, std::size_t most) {
    return static_cast<std::uint32_t>(draw.pick(most + 1));
}

std::shared_ptr<const Upstream> draw_upstream(const Scene& scene, SimWorld& draw,
                                              std::uint16_t proxy, std::uint32_t version) {
    std::vector<AliasRule> aliases;
    for (unsigned number = 0; number < 2; ++number)
        if (draw.pick(2) == 0)
            aliases.push_back(AliasRule{
                Prefix{scene.alias(proxy, number).address,
                       static_cast<std::uint8_t>(scene.family == Family::ipv4 ? 32 : 128)},
                0, 53});
    // Often other aliases for the same address.
    const std::uint32_t address = draw.pick(2) == 0 ? 0 : version;
    return std::make_shared<Upstream>(
        scene.upstream(proxy, address), std::move(aliases),
        draw.pick(2) == 0 ? AliasMembers::connected : AliasMembers::open, version);
}

Rate draw_rate(SimWorld& draw) { return draw.pick(4) == 0 ? Rate{2, 1 + up_to(draw, 8)} : Rate{}; }

/// Tiny limits, so that walls are hit all the time.
ProxySettings draw_settings(const Scene& scene, SimWorld& draw) {
    ProxySettings settings;
    settings.port_cooldown = draw.pick(3) == 0 ? 0s : std::chrono::seconds{1 + draw.pick(4)};
    settings.idle_timeout = std::chrono::seconds{3 + draw.pick(10)};
    settings.unassured_timeout = std::chrono::seconds{1 + draw.pick(3)};
    settings.watch = std::array{Watch::all, Watch::spare_capacity, Watch::none}[draw.pick(3)];
    settings.sessions_max = scene.is_large ? 64 : 1 + up_to(draw, 8);
    settings.sessions_per_client_max = up_to(draw, 3);
    settings.new_sessions = draw_rate(draw);
    settings.amplification_limit = draw.pick(3) == 0 ? up_to(draw, 3) : 0;
    settings.replies_max = draw.pick(3) == 0 ? up_to(draw, 3) : 0;
    settings.end_after_replies = draw.pick(4) == 0 ? up_to(draw, 3) : 0;
    settings.end_after_requests = draw.pick(4) == 0 ? up_to(draw, 3) : 0;
    settings.datagram_max = draw.pick(6) == 0 ? up_to(draw, 40) : 0;
    return settings;
}

ShardSetup draw_setup(const Scene& scene, SimWorld& draw) {
    ShardSetup setup = small_setup();
    setup.proxies.clear();
    setup.listeners.clear();
    for (std::uint16_t proxy = 0; proxy < proxies; ++proxy) {
        ProxySetup& each = setup.proxies.emplace_back();
        static_cast<ProxySettings&>(each) = draw_settings(scene, draw);
        each.upstream = draw_upstream(scene, draw, proxy, 1);
        each.sources = {Address::any(scene.family)};
        if (draw.pick(3) == 0) each.sources = {scene.address(0, 1), scene.address(0, 2)};
        each.ports = {20000,
                      static_cast<std::uint16_t>(scene.is_large ? 20127 : 20003 + draw.pick(12))};
        setup.listeners.push_back(
            {proxy, {scene.address(1, 1), 0, static_cast<std::uint16_t>(first_port + proxy)}});
    }
    setup.listeners_max = slots;
    setup.proxies_max = proxies;
    setup.sessions_max = scene.is_large ? 128 : 1 + up_to(draw, 10);
    setup.table_sessions_max = scene.is_large ? 128 : 16;
    setup.new_sessions = draw_rate(draw);
    setup.pool_min = draw.pick(4) == 0 ? up_to(draw, 3) : 0;
    setup.descriptors_max = scene.is_large ? 400 : 8 + up_to(draw, 30);
    setup.slots_max = (scene.is_large ? 400U : 40U) + slots;
    setup.buffers_per_leg = scene.is_large ? 64 : std::uint32_t{2} << draw.pick(4);
    setup.report_sessions = false;
    setup.ledger = std::make_shared<Ledger>(*Ledger::create({1, setup.slots_max, 64}));
    return setup;
}

class Storm {
public:
    explicit Storm(std::uint64_t seed)
        : draw_(seed),
          scene_(draw_scene(draw_)),
          setup_(draw_setup(scene_, draw_)),
          sim_(setup_, seed) {
        SimWorld& world = *sim_.world;
        world.close_waits_max = static_cast<int>(draw_.pick(4));
        world.train_chance = draw_.pick(2) == 0 ? 0.9 : 0;
        world.refusal_chance = 0.3;
        world.loss_chance = draw_.pick(2) == 0 ? 0.1 : 0;
        world.duplicate_chance = draw_.pick(2) == 0 ? 0.1 : 0;
        world.reorder_chance = draw_.pick(2) == 0 ? 0.2 : 0;
        if (draw_.pick(3) == 0) world.queue_max = 1 + draw_.pick(8);
        world.routed = scene_.address(0, 1);
        Shard& shard = sim_.shard();
        for (std::uint16_t proxy = 0; proxy < proxies; ++proxy) {
            cooldown_least_[proxy] = shard.proxies[proxy].setup.port_cooldown;
            shard.setup.use->proxies_held[proxy] = 1;
            kept_.push_back(shard.proxies[proxy].setup.upstream);
            versions_.push_back({proxy, shard.proxies[proxy].setup.upstream});
        }
        for (std::uint16_t slot = 0; slot < proxies; ++slot) owners_[slot] = new_owners(slot);
        sessions_max_ = sessions_allowed_ = shard.setup.sessions_max;
        descriptors_max_ = descriptors_allowed_ = shard.setup.descriptors_max;
    }

    void step() {
        const std::size_t action = draw_.pick(100);
        if (draw_.pick(40) == 0) return die();
        if (action < 38)
            send_requests();
        else if (action < 58)
            send_replies();
        else if (action < 70)
            sim_.advance(draw_.pick(2) == 0 ? Duration{std::chrono::milliseconds{draw_.pick(2500)}}
                                            : Duration{std::chrono::milliseconds{draw_.pick(20)}});
        else if (action < 80)
            trouble();
        else if (action < 86)
            change_addresses();
        else if (action < 92)
            change_listeners();
        else
            reload();
        // Often what a turn leaves meets the next action.
        if (draw_.pick(2) == 0)
            turn_once();
        else
            turn();
    }

    /// Faults stop, and everything is allowed again: every client must be served again, and in the
    /// end nothing is left.
    void calm() {
        SimWorld& world = *sim_.world;
        world.absent.clear();
        world.tentative.clear();
        world.source_error = world.next_send_error = 0;
        world.next_opening = {};
        world.loss_chance = 0;
        world.queue_max = 1000;
        Scene scene = scene_;
        scene.is_large = true;
        for (std::uint16_t proxy = 0; proxy < proxies; ++proxy) {
            ProxySettings settings = draw_settings(scene, draw_);
            settings.new_sessions = {};
            settings.sessions_per_client_max = settings.amplification_limit = settings.replies_max =
                settings.end_after_replies = settings.end_after_requests = settings.datagram_max =
                    0;
            set_settings(proxy, settings);
            tell(command_of(CommandKind::resume, proxy));
        }
        tell(command_of(CommandKind::resume, all_proxies));
        Command limits = command_of(CommandKind::set_limits);
        limits.sessions_max = 16;
        limits.descriptors_max = scene_.is_large ? 400 : 40;
        set_limits(limits);
        for (std::uint16_t slot = 0; slot < slots; ++slot) close_listener(slot);
        // Until groups that nobody wants are closed, too: theirs may be all ports of the address
        // that routing has changed to.
        for (int i = 0; i < 100; ++i) {
            sim_.advance(1s);
            turn();
        }
        REQUIRE(sim_.shard().table.size() == 0);
        REQUIRE(sim_.shard().listeners_open == 0);
        asked_.clear();
        adopt_listener(0, 0, first_port);
        turn();
        send(0, first_port, 1);
        for (int i = 0; i < 100 && asked_.empty(); ++i) {
            sim_.advance(1ms);
            turn();
        }
        REQUIRE_FALSE(asked_.empty());  // more than one where the network duplicates
        for (int i = 0; i < 60; ++i) {
            sim_.advance(3s);
            for (int turns = 0; turns < 6; ++turns) turn();
        }
        Shard& shard = sim_.shard();
        const SharedUse& use = *shard.setup.use;
        CHECK(shard.table.size() == 0);
        CHECK(world.open_members() == 0);
        CHECK(shard.groups.size() == 0);
        CHECK(use.descriptors.used.load() == 0);
        CHECK(use.sessions.used.load() == 0);
        CHECK(use.unassured.used.load() == 0);
        CHECK(shard.setup.use->client_counts.clients() == 0);
        for (std::uint16_t proxy = 0; proxy < proxies; ++proxy)
            CHECK(use.proxies[proxy].sessions.read() == 0);
        CHECK(sim_.loop->backend().buffers_out() == 0);
        for (const PortPool& pool : shard.ports) CHECK(pool.leased() == 0);
    }

    [[nodiscard]] std::uint64_t delivered() const { return delivered_; }
    [[nodiscard]] std::uint64_t delivered_fresh() const { return delivered_fresh_; }
    [[nodiscard]] std::uint64_t dropped() { return sim_.shard().drops_total; }
    [[nodiscard]] std::uint64_t adopted() const { return adopted_; }
    [[nodiscard]] std::uint64_t deaths() const { return deaths_; }
    [[nodiscard]] std::uint64_t sessions_carried() const { return sessions_carried_; }
    [[nodiscard]] std::uint64_t lost() const { return sim_.world->lost + sim_.world->overflowed; }

private:
    /// Of one listener, from its opening to its closing: every proxy that it was of.
    using Owners = std::shared_ptr<std::vector<std::uint16_t>>;

    struct Sent {
        Endpoint client;
        Endpoint local;  // that the client wrote to
        Owners owners;
    };
    struct Asked {
        std::size_t number = 0;  // of the request
        Endpoint group;
        std::uint16_t proxy = 0;
        Instant at;
    };

    static Scene draw_scene(SimWorld& draw) {
        Scene scene;
        scene.family = draw.pick(3) == 0 ? Family::ipv6 : Family::ipv4;
        scene.is_large = draw.pick(5) == 0;
        scene.clients = scene.is_large ? 100 : 4 + up_to(draw, 20);
        scene.hosts = 1 + up_to(draw, scene.clients - 1);
        return scene;
    }
    static Owners new_owners(std::uint16_t proxy) {
        return std::make_shared<std::vector<std::uint16_t>>(1, proxy);
    }
    static Command command_of(CommandKind kind, std::uint16_t proxy = 0,
                              std::uint16_t listener = 0) {
        Command command;
        command.kind = kind;
        command.proxy = proxy;
        command.listener = listener;
        return command;
    }

    /// The shard has taken all that was told when the turn is over.
    void tell(const Command& command) { REQUIRE(sim_.shard().commands.post(command)); }

    // What clients and services do.

    /// A payload is the request's number, so that everything about it can be looked up by whoever
    /// meets it.
    void send(std::uint32_t client, std::uint16_t port, std::size_t datagrams) {
        SimWorld& world = *sim_.world;
        const bool is_wildcard = port == first_port + ports - 1;
        const Endpoint local{scene_.address(1, is_wildcard ? 1 + up_to(draw_, 1) : 1), 0, port};
        Owners owners;
        for (std::uint16_t slot = 0; slot < slots; ++slot)
            if (world.listeners[slot].is_open && world.listeners[slot].endpoint.port == port)
                owners = owners_[slot];
        for (; datagrams > 0; --datagrams) {
            std::string number = std::to_string(sent_.size());
            sent_.push_back({scene_.client(client), local, owners});
            // Of one length, so that they may come as a train.
            world.client_sends(scene_.client(client), local,
                               std::string(6 - number.size(), '0') + number);
        }
    }
    void send_requests() {
        // In a large scene bursts of many clients.
        for (std::size_t burst = scene_.is_large ? 1 + draw_.pick(40) : 1; burst > 0; --burst)
            send(up_to(draw_, scene_.clients - 1),
                 static_cast<std::uint16_t>(first_port + draw_.pick(ports)),
                 draw_.pick(3) == 0 ? 1 + draw_.pick(9) : 1);
    }
    /// Any request of the past may be answered: early, late, after the session's end, and from
    /// anywhere.
    void send_replies() {
        for (std::size_t burst = scene_.is_large ? 1 + draw_.pick(20) : 1;
             burst > 0 && !asked_.empty(); --burst) {
            const std::size_t recent = std::min<std::size_t>(asked_.size(), 200);
            const Asked& request =
                asked_[asked_.size() - 1 - draw_.pick(draw_.pick(2) == 0 ? recent : asked_.size())];
            const std::uint16_t proxy = request.proxy;
            const std::array<Endpoint, 6> sources{
                scene_.upstream(proxy, 0),
                scene_.upstream(proxy, 1 + up_to(draw_, 1)),
                scene_.alias(proxy, 0),
                scene_.alias(proxy, 1),
                Endpoint{scene_.address(10U + proxy, 66), 0, 53},
                Endpoint{scene_.upstream(proxy, 0).address, 0, 99}};
            const std::size_t source = draw_.pick(sources.size());
            // Younger than the cooldown: whatever has happened to the session since, nobody else
            // may have its port.
            const bool is_fresh = sim_.world->now - request.at < cooldown_least_[proxy];
            const std::string flow = std::to_string(request.number) + ' ' + std::to_string(source);
            for (std::size_t left = draw_.pick(4) == 0 ? 1 + draw_.pick(9) : 1; left > 0; --left)
                sim_.world->service_sends(sources[source], request.group,
                                          flow + ' ' + std::to_string(++replies_) +
                                              (is_fresh ? " fresh" : " old") +
                                              (source < 4 ? " listed" : " foreign"));
        }
    }

    // What the host does.

    void trouble() {
        SimWorld& world = *sim_.world;
        constexpr std::array errors{EAGAIN, ENOBUFS, EPERM, ENETUNREACH, EMSGSIZE, EINVAL};
        switch (draw_.pick(4)) {
            case 0:
                if (!asked_.empty()) {
                    const Asked& request = asked_[draw_.pick(asked_.size())];
                    world.reject(request.group, scene_.upstream(request.proxy, 0), ECONNREFUSED);
                }
                break;
            case 1:
                world.next_send_error = errors[draw_.pick(errors.size())];
                break;
            case 2:
                world.next_opening = {OpeningStep::socket,
                                      std::array{EMFILE, ENFILE, ENOMEM}[draw_.pick(3)]};
                break;
            default:
                world.next_join = {OpeningStep::socket, EMFILE};
                break;
        }
    }
    void change_addresses() {
        SimWorld& world = *sim_.world;
        world.absent.clear();
        world.tentative.clear();
        world.source_error = draw_.pick(8) == 0 ? ENETUNREACH : 0;
        world.routed = scene_.address(0, 1 + up_to(draw_, 1));
        for (unsigned host = 1; host <= 2; ++host) {
            if (draw_.pick(4) == 0) world.absent.insert(scene_.address(0, host));
            if (draw_.pick(4) == 0) world.tentative.insert(scene_.address(0, host));
        }
        if (draw_.pick(2) == 0) {
            world.absent.clear();
            world.tentative.clear();
            world.source_error = 0;
        }
    }

    // What reloads and operators do.

    void set_settings(std::uint16_t proxy, const ProxySettings& settings) {
        Command command = command_of(CommandKind::set_settings, proxy);
        command.settings = settings;
        cooldown_least_[proxy] = std::min(cooldown_least_[proxy], settings.port_cooldown);
        tell(command);
    }
    void set_limits(const Command& command) {
        sessions_max_ = command.sessions_max;
        descriptors_max_ = command.descriptors_max;
        sessions_allowed_ = std::max(sessions_allowed_, sessions_max_);
        descriptors_allowed_ = std::max(descriptors_allowed_, descriptors_max_);
        tell(command);
    }
    void adopt_listener(std::uint16_t slot, std::uint16_t proxy, std::uint16_t port) {
        Command command = command_of(CommandKind::adopt_listener, proxy, slot);
        command.arrival = std::make_shared<ListenerArrival>();
        const bool is_wildcard = port == first_port + ports - 1;
        command.arrival->endpoint = {
            is_wildcard ? Address::any(scene_.family) : scene_.address(1, 1), 0, port};
        sim_.world->listeners[slot].endpoint = command.arrival->endpoint;
        owners_[slot] = new_owners(proxy);
        kept_.push_back(command.arrival);
        ++adopted_;
        tell(command);
    }
    void close_listener(std::uint16_t slot) {
        if (sim_.shard().listeners.size() > slot && sim_.shard().listeners[slot].open)
            tell(command_of(CommandKind::close_listener, 0, slot));
    }
    void change_listeners() {
        const auto slot = static_cast<std::uint16_t>(draw_.pick(slots));
        const auto proxy = static_cast<std::uint16_t>(draw_.pick(proxies));
        const Shard& shard = sim_.shard();
        const bool is_open = shard.listeners.size() > slot && shard.listeners[slot].open;
        if (!is_open) {
            const auto port = static_cast<std::uint16_t>(first_port + draw_.pick(ports));
            for (std::uint16_t other = 0; other < shard.listeners.size(); ++other)
                if (shard.listeners[other].open &&
                    sim_.world->listeners[other].endpoint.port == port)
                    return;
            adopt_listener(slot, proxy, port);
        } else if (shard.listeners[slot].closing) {
            return;
        } else if (draw_.pick(4) == 0) {
            give_slot_away(slot, proxy);
        } else if (draw_.pick(2) == 0) {
            close_listener(slot);
        } else if (draw_.pick(2) == 0) {
            tell(command_of(CommandKind::retire_listener, 0, slot));
        } else {
            owners_[slot]->push_back(proxy);
            tell(command_of(CommandKind::move_listener, proxy, slot));
        }
    }
    /// As two quick reloads do, while new clients wait.
    void give_slot_away(std::uint16_t slot, std::uint16_t proxy) {
        const std::uint16_t port = sim_.world->listeners[slot].endpoint.port;
        for (std::uint32_t client = 0; client < scene_.clients; ++client) send(client, port, 1);
        close_listener(slot);
        for (int i = 0; i < 8 && sim_.shard().listeners[slot].open; ++i) turn_once();
        if (!sim_.shard().listeners[slot].open) adopt_listener(slot, proxy, port);
    }
    void reload() {
        const auto proxy = static_cast<std::uint16_t>(draw_.pick(proxies));
        switch (draw_.pick(5)) {
            case 0: {
                Command command = command_of(CommandKind::set_upstream, proxy);
                command.upstream = draw_upstream(scene_, draw_, proxy, ++version_);
                if (draw_.pick(4) == 0) command.closes_below = version_;
                kept_.push_back(command.upstream);
                versions_.push_back({proxy, command.upstream});
                tell(command);
                break;
            }
            case 1:
                set_settings(proxy, draw_settings(scene_, draw_));
                break;
            case 2: {
                Command command = command_of(CommandKind::set_limits);
                command.sessions_max = scene_.is_large ? 128 : 1 + up_to(draw_, 10);
                command.descriptors_max = scene_.is_large ? 400 : 8 + up_to(draw_, 30);
                command.new_sessions = draw_rate(draw_);
                command.pool_min = draw_.pick(4) == 0 ? up_to(draw_, 3) : 0;
                set_limits(command);
                break;
            }
            case 3:
                tell(command_of(CommandKind::drain, draw_.pick(3) == 0 ? all_proxies : proxy));
                break;
            default:
                tell(command_of(CommandKind::resume, all_proxies));
                tell(command_of(CommandKind::resume, proxy));
                break;
        }
    }

    // Death: another process goes on from the ledger.

    struct Carried {
        std::uint64_t id = 0;
        Endpoint local;
        bool assured = false;
        std::uint64_t requests = 0;
        Instant last_active_at{};
    };
    [[nodiscard]] static std::map<std::array<std::uint64_t, 5>, Carried> sessions_of(Shard& shard) {
        std::map<std::array<std::uint64_t, 5>, Carried> sessions;
        for (std::uint32_t index = 0; index < shard.table.high_water(); ++index) {
            if (!shard.table.is_live(index)) continue;
            const Session& session = shard.table[index];
            if (shard.listeners[session.key.listener].closing) continue;
            sessions[session.key.words()] = {session.id, shard.groups[session.group].local,
                                             session.assured, session.requests.datagrams,
                                             session.last_active_at};
        }
        return sessions;
    }

    /// In order, between two turns, or within one.
    void die() {
        ++deaths_;
        const std::size_t kind = draw_.pick(3);
        std::shared_ptr<Ledger> ledger = sim_.shard().setup.ledger;
        bool is_torn = !sim_.world->next_opening.opened();  // a group is refused
        if (kind == 0) {
            tell(command_of(CommandKind::hand_over));
            sim_.loop->run();
            ledger->close_in_order(sim_.world->now);
        } else if (kind == 1 && sim_.shard().commands.is_empty()) {
            sim_.world->verbs_left = static_cast<int>(draw_.pick(30));
            try {
                sim_.loop->turn();
                if (sim_.loop->is_catching_up()) sim_.loop->turn();
            } catch (const SimDeath&) {
                is_torn = true;
            }
            sim_.world->verbs_left = -1;
        }
        look_at_requests();
        look_at_replies();
        Shard& dead = sim_.shard();
        std::vector<Command> untaken;
        for (Command command; dead.commands.take(command);) untaken.push_back(command);
        const auto before = sessions_of(dead);
        const Will will = will_of(dead);
        while (!go_on(will, *ledger)) {
        }
        left_ = 0;
        Shard& shard = sim_.shard();
        const auto after = sessions_of(shard);
        for (const auto& [key, session] : after) {
            const auto was = before.find(key);
            if (was == before.end() || was->second.id != session.id) continue;
            ++sessions_carried_;
            REQUIRE(was->second.local == session.local);
            if (is_torn) continue;
            REQUIRE(was->second.assured == session.assured);
            if (kind != 0) continue;
            REQUIRE(was->second.requests == session.requests);
            REQUIRE(was->second.last_active_at == session.last_active_at);
        }
        if (!is_torn) REQUIRE(after.size() == before.size());
        sessions_allowed_ = std::max(sessions_max_, shard.table.size());
        descriptors_allowed_ = std::max(descriptors_max_, shard.setup.use->descriptors.used.load());
        turned_at_ = sim_.world->now;
        look();
        for (const Command& command : untaken) tell(command);
    }

    /// What the control thread knows.
    struct Will {
        ShardSetup setup;
        std::vector<Command> commands;  // without the source bindings
        std::array<bool, slots> listens{};
    };
    [[nodiscard]] Will will_of(const Shard& dead) {
        Will will;
        will.setup = setup_;
        will.setup.proxies.clear();
        will.setup.listeners.clear();
        will.setup.use = nullptr;
        will.setup.bindings_max = will.setup.port_pools_max = 64;
        will.setup.sessions_max = dead.setup.sessions_max;
        will.setup.descriptors_max = dead.setup.descriptors_max;
        will.setup.new_sessions = dead.setup.new_sessions;
        will.setup.pool_min = dead.setup.pool_min;
        for (std::uint16_t index = 0; index < proxies; ++index) {
            const Proxy& proxy = dead.proxies[index];
            Command command = command_of(CommandKind::set_settings, index);
            command.settings = proxy.setup;
            will.commands.push_back(command);
            command.kind = CommandKind::set_upstream;
            command.upstream = proxy.setup.upstream;
            command.closes_below = proxy.closes_below;
            will.commands.push_back(command);
            if (proxy.draining) will.commands.push_back(command_of(CommandKind::drain, index));
        }
        if (dead.draining) will.commands.push_back(command_of(CommandKind::drain, all_proxies));
        for (std::uint16_t slot = 0; slot < dead.listeners.size(); ++slot) {
            const Listener& listener = dead.listeners[slot];
            will.listens[slot] = listener.open && !listener.closing;
            if (!will.listens[slot]) continue;
            Command command =
                command_of(CommandKind::adopt_listener, dead.setup.listeners[slot].proxy, slot);
            command.arrival = std::make_shared<ListenerArrival>();
            command.arrival->endpoint = sim_.world->listeners[slot].endpoint;
            kept_.push_back(command.arrival);
            will.commands.push_back(command);
            command.kind = CommandKind::retire_listener;
            if (listener.retired) will.commands.push_back(command);
        }
        return will;
    }

    /// False: the process that would go on has died meanwhile.
    [[nodiscard]] bool go_on(const Will& will, const Ledger& last) {
        SimWorld& world = *sim_.world;
        for (auto& [slot, member] : world.members) {
            member.waits_until_closed = -1;  // whoever was to close it is dead
            world.left.emplace(member.descriptor, std::move(member));
        }
        world.members.clear();
        for (std::uint16_t slot = 0; slot < slots; ++slot) {
            if (!will.listens[slot]) world.listeners[slot].queue.clear();
            world.listeners[slot].is_open = false;
        }
        const Ledger read = *Ledger::open(last.descriptor());
        Adoption adoption;
        adoption.keeps_times = read.closed_in_order().has_value();
        adoption.versions = versions_;
        std::set<std::pair<std::uint32_t, std::uint16_t>> leased;
        const std::vector<BindingLocation> locations = binding_locations(setup_.proxies);
        std::set<int> claimed;
        for (std::uint32_t group = 0; group < read.high_water(0); ++group) {
            GroupRecord record;
            if (read.read(0, group, record) != Ledger::Found::whole) continue;
            const auto members = std::span{record.descriptors}.first(record.members);
            if (!std::all_of(members.begin(), members.end(), [&](int descriptor) {
                    return world.left.contains(descriptor) &&
                           world.left.at(descriptor).local == record.local;
                }))
                continue;
            claimed.insert(members.begin(), members.end());
            leased.insert({locations.at(record.binding).port_pool, record.local.port});
            adoption.groups.push_back(record);
        }
        const auto rests_until = [&](std::uint32_t pool, std::uint16_t port) {
            Instant until = read.rests_until(pool, port);
            for (const auto& [descriptor, member] : world.left)
                if (!claimed.contains(descriptor) && member.local.port == port)
                    until = std::max(until, world.now + std::chrono::seconds{5});
            return until;
        };
        ShardSetup setup = will.setup;
        setup.use = std::make_shared<SharedUse>(proxies, 64, 256, setup.key, 64, 64);
        setup.ledger = std::make_shared<Ledger>(*Ledger::create({1, setup.slots_max, 64}));
        std::map<std::uint32_t, std::vector<PortRange>> ranges;
        for (const BindingLocation& location : locations)
            ranges[location.port_pool].push_back(location.ports);
        BindingIndex next = 0;
        for (const Command& told : will.commands) {
            adoption.commands.push_back(told);
            if (told.kind != CommandKind::set_upstream) continue;
            auto change = std::make_shared<SourceBindingChange>();
            change->first = next;
            for (; next < locations.size() && locations[next].proxy == told.proxy; ++next)
                change->bindings.push_back({locations[next].source, locations[next].port_pool,
                                            locations[next].port_range});
            if (told.proxy == 0) {
                for (const auto& [number, of_pool] : ranges) {
                    PortPool pool(of_pool, 0, 1);
                    pool.restore(
                        [&, pool_number = number](std::uint16_t port) {
                            return leased.contains({pool_number, port});
                        },
                        [&, pool_number = number](std::uint16_t port) {
                            const Instant until = rests_until(pool_number, port);
                            if (until > world.now) setup.ledger->rest(pool_number, port, until);
                            return until;
                        });
                    change->pools.push_back({number, std::move(pool), true});
                }
            }
            kept_.push_back(change);
            Command command = command_of(CommandKind::set_source_bindings, told.proxy);
            command.bindings = change;
            adoption.commands.push_back(command);
        }
        std::erase_if(world.left,
                      [&](const auto& member) { return !claimed.contains(member.first); });
        if (draw_.pick(4) == 0) world.verbs_left = static_cast<int>(draw_.pick(20));
        try {
            sim_.go_on(std::move(setup), adoption);
        } catch (const SimDeath&) {
            world.verbs_left = -1;
            return false;
        }
        world.verbs_left = -1;
        for (const int descriptor : adoption.left) world.left.erase(descriptor);
        REQUIRE(world.left.empty());
        for (std::uint16_t proxy = 0; proxy < proxies; ++proxy)
            sim_.shard().setup.use->proxies_held[proxy] = 1;
        return true;
    }

    // The laws.

    void turn_once() {
        const Duration passed = sim_.world->now - turned_at_;
        turned_at_ = sim_.world->now;
        const bool was_catching_up = sim_.loop->is_catching_up();
        for (const Proxy& proxy : sim_.shard().proxies)
            had_successions_ = had_successions_ || proxy.setup.end_after_requests > 0;
        sim_.loop->turn();
        // The shard was held up for no longer than this, whatever work it has left over.
        if (!was_catching_up && passed <= stall_noticed) REQUIRE(!sim_.loop->is_catching_up());
        look();
        // What was there beyond a lower limit stays until it ends, and does not come again.
        sessions_allowed_ = std::max(sessions_max_, sim_.shard().table.size());
        descriptors_allowed_ =
            std::max(descriptors_max_, sim_.shard().setup.use->descriptors.used.load());
    }
    /// Turns until nothing is left that needs no time to pass.
    void turn() {
        turn_once();
        for (int left = 400;
             left > 0 && (sim_.loop->is_catching_up() || sim_.shard().admission_bound_met); --left)
            turn_once();
        REQUIRE(!sim_.loop->is_catching_up());
    }

    void look() {
        look_at_requests();
        look_at_replies();
        look_at_accounts();
    }
    void look_at_requests() {
        for (const Packet& packet : sim_.asked()) {
            ++left_;
            REQUIRE(packet.payload.size() == 6);  // every boundary is where it was
            const std::size_t number = std::stoul(packet.payload);
            REQUIRE(number < sent_.size());
            const std::optional<std::uint16_t> proxy = scene_.proxy_of(packet.to.address);
            REQUIRE(proxy.has_value());
            REQUIRE(packet.to.port == 53);
            // Of a proxy that the listener belonged to, and of no other.
            const Owners& owners = sent_[number].owners;
            REQUIRE(owners != nullptr);
            REQUIRE(std::find(owners->begin(), owners->end(), *proxy) != owners->end());
            asked_.push_back({number, packet.from, *proxy, sim_.world->now});
            std::string flow = format(sent_[number].client) + ' ' + format(sent_[number].local);
            // A request that waits for room in the kernel may be overtaken on the socket of its
            // session's successor.
            if (had_successions_) flow += ' ' + format(packet.from);
            check_order(flow, number);
        }
    }
    void look_at_replies() {
        for (const Packet& packet : sim_.answered()) {
            ++delivered_;
            ++left_;
            REQUIRE(packet.payload.find(" listed") + 7 == packet.payload.size());
            // Members have no order among each other, so each source of replies is a flow; nor have
            // a session and its successor.
            std::istringstream words(packet.payload);
            std::size_t request_number = 0;
            std::string source;
            std::size_t reply_number = 0;
            words >> request_number >> source >> reply_number;
            std::string flow = format(packet.to) + ' ' + format(packet.from) + ' ' + source;
            if (had_successions_) flow += ' ' + format(group_of(request_number));
            check_order(flow, reply_number);
            if (packet.payload.find("fresh") == std::string::npos) continue;
            ++delivered_fresh_;
            const Sent& request = sent_[request_number];
            REQUIRE(packet.to == request.client);
            REQUIRE(packet.from == request.local);
        }
    }
    /// That a request was sent from.
    [[nodiscard]] Endpoint group_of(std::size_t request) const {
        const auto found = std::find_if(asked_.rbegin(), asked_.rend(),
                                        [&](const Asked& each) { return each.number == request; });
        return found == asked_.rend() ? Endpoint{} : found->group;
    }
    /// No datagram of a flow overtakes another, unless the network let it.
    void check_order(const std::string& flow, std::size_t number) {
        if (sim_.world->reorder_chance > 0 || sim_.world->duplicate_chance > 0) return;
        const auto [last, is_first] = last_of_flow_.try_emplace(flow, number);
        CAPTURE(flow);
        REQUIRE((is_first || last->second < number));
        last->second = number;
    }
    void look_at_accounts() {
        Shard& shard = sim_.shard();
        const SharedUse& use = *shard.setup.use;
        REQUIRE(shard.departures_total == left_);
        REQUIRE(accounts_balance(shard));
        REQUIRE(shard.table.size() <= sessions_allowed_);
        REQUIRE(use.descriptors.used.load() <= descriptors_allowed_);
        // A group's descriptors are given back when its last socket is closed.
        REQUIRE(use.descriptors.used.load() >= sim_.world->open_members());
        if (shard.descriptors_closing == 0)
            REQUIRE(use.descriptors.used.load() == sim_.world->open_members());
        REQUIRE(use.sessions.used.load() == shard.table.size());
        REQUIRE(sim_.loop->backend().buffers_out() ==
                shard.new_clients.size() + shard.pending.size());
        REQUIRE(shard.table.longest_probe() <= 32);
    }

    SimWorld draw_;
    Scene scene_;
    ShardSetup setup_;
    SimShard sim_;
    std::array<Owners, slots> owners_;
    std::array<Duration, proxies> cooldown_least_{};  // that was ever set
    std::vector<std::shared_ptr<const void>> kept_;   // what commands carried
    std::vector<UpstreamVersion> versions_;
    std::uint64_t deaths_ = 0;
    std::uint64_t sessions_carried_ = 0;
    std::uint32_t version_ = 1;
    std::uint32_t sessions_max_ = 0;
    std::uint32_t sessions_allowed_ = 0;  // at present: no less
    std::uint32_t descriptors_max_ = 0;
    std::uint32_t descriptors_allowed_ = 0;
    Instant turned_at_ = sim_.world->now;
    std::vector<Sent> sent_;
    std::vector<Asked> asked_;
    std::size_t replies_ = 0;
    std::map<std::string, std::size_t> last_of_flow_;
    std::uint64_t adopted_ = 0;
    bool had_successions_ = false;  // some proxy had end_after_requests
    std::uint64_t delivered_ = 0;
    std::uint64_t delivered_fresh_ = 0;
    std::uint64_t left_ = 0;  // datagrams, on either side
};

struct Seeds {
    std::uint64_t first = 1;
    std::uint64_t last = 400;
};
Seeds chosen_seeds() {
    Seeds seeds;
    if (const char* chosen = std::getenv("UDPPROXY_STORM")) {
        char* end = nullptr;
        seeds.first = seeds.last = std::strtoull(chosen, &end, 10);
        if (*end == '-') seeds.last = std::strtoull(end + 1, nullptr, 10);
    }
    return seeds;
}

}  // namespace

TEST_CASE("in any storm no law breaks, and after it everything is at home again") {
    std::uint64_t delivered = 0;
    std::uint64_t delivered_fresh = 0;
    std::uint64_t dropped = 0;
    std::uint64_t adopted = 0;
    std::uint64_t lost = 0;
    std::uint64_t deaths = 0;
    std::uint64_t carried = 0;
    ToldOnAbort told;
    const Seeds seeds = chosen_seeds();
    for (std::uint64_t seed = seeds.first; seed <= seeds.last; ++seed) {
        CAPTURE(seed);
        told.at("seed " + std::to_string(seed));
        Storm storm(seed);
        for (int step = 0; step < 600; ++step) storm.step();
        storm.calm();
        delivered += storm.delivered();
        delivered_fresh += storm.delivered_fresh();
        dropped += storm.dropped();
        adopted += storm.adopted();
        lost += storm.lost();
        deaths += storm.deaths();
        carried += storm.sessions_carried();
    }
    // The storm must have exercised all of it.
    if (seeds.last - seeds.first < 100) return;
    CHECK(delivered > 5000);
    CHECK(delivered_fresh > 500);
    CHECK(dropped > 5000);
    CHECK(adopted > 300);
    CHECK(lost > 1000);
    CHECK(deaths > 1000);
    CHECK(carried > 1000);
}
