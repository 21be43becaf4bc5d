// Reloads: a configuration and the next ones, their plans, and each plan carried out on a simulated
// shard under traffic. A plan says the difference and nothing else; what comes out belongs to a
// proxy that its listener was of; a reply in time reaches the client that asked, from the address
// that it wrote to, and one from an unlisted source nobody; each proxy's datagrams add up; and when
// all has gone, all is at home again.
#include <map>
#include <set>

#include "fuzz/input.hpp"
#include "sim/sim_shard.hpp"
#include "udpproxy/base/assert.hpp"
#include "udpproxy/runtime/plan.hpp"
#include "udpproxy/runtime/shard_setup.hpp"

namespace udpproxy::fuzz {

namespace {

using namespace std::chrono_literals;
using sim::at;

constexpr std::uint16_t proxies_max = 3;
constexpr std::uint16_t listeners_max = 6;  // one for each address, in its slot
constexpr std::uint16_t first_port = 53;
constexpr std::size_t reloads_max = 6;
constexpr std::size_t clients_max = 8;
constexpr std::size_t steps_max = 64;  // between two reloads
constexpr std::chrono::seconds cooldown{2};
constexpr std::uint32_t foreign = 200;  // the number of a service that is never listed
constexpr std::array<std::string_view, proxies_max> names{"a", "b", "c"};

Endpoint listen_at(std::uint16_t slot) {
    return {*parse_address("10.1.0.1"), 0, static_cast<std::uint16_t>(first_port + slot)};
}
/// The network of a proxy's services, by which what reaches them is told apart.
Endpoint service(std::uint16_t proxy, std::uint32_t number) {
    return at("10." + std::to_string(10 + proxy) + ".0." + std::to_string(1 + number) + ":53");
}
std::uint16_t proxy_of(const Endpoint& endpoint) {
    return static_cast<std::uint16_t>(endpoint.address.bytes[13] - 10);
}
std::uint16_t number_of(std::string_view name) {
    return static_cast<std::uint16_t>(std::find(names.begin(), names.end(), name) - names.begin());
}

ProxyConfig draw_proxy(Input& input, std::uint16_t number) {
    ProxyConfig proxy;
    proxy.name = names[number];
    proxy.upstream.endpoint = service(number, input.below(2));
    proxy.upstream.port = proxy.upstream.endpoint->port;
    proxy.upstream.text = format(*proxy.upstream.endpoint);
    const std::uint32_t aliases = input.below(4);
    for (std::uint32_t alias = 0; alias < 2; ++alias) {
        if ((aliases >> alias & 1U) == 0) continue;
        const Endpoint endpoint = service(number, 100 + alias);
        proxy.reply_aliases.push_back({{endpoint.address, 32}, 0, endpoint.port, format(endpoint)});
    }
    const std::uint32_t choice = input.below(256);
    proxy.on_change = (choice & 1U) != 0 ? OnChange::close : OnChange::keep;
    proxy.alias_filter = (choice & 2U) != 0 ? AliasFilter::open : AliasFilter::connected;
    proxy.unlisted_replies = (choice & 4U) != 0 ? UnlistedReplies::all : UnlistedReplies::off;
    // The first proxy's ports always cool down, so that its replies can be told to be in time.
    proxy.port_cooldown = (choice & 8U) != 0 && number > 0 ? 0s : cooldown;
    proxy.sessions_max = 1 + (choice >> 4U & 3U);
    proxy.sessions_per_client_max = choice >> 6U;
    proxy.idle_timeout = std::chrono::seconds{1 + input.below(8)};
    proxy.unassured_timeout = 1s;
    // So few that a port is soon the next to be leased again, and clients wait for one.
    proxy.ports = PortRange{20000, 20005};
    return proxy;
}

/// At least one proxy; each listening address belongs to one proxy at most.
Config draw_config(Input& input) {
    Config config;
    const std::uint32_t present = input.below(8);
    for (std::uint16_t number = 0; number < proxies_max; ++number)
        if ((present >> number & 1U) != 0 || (present == 0 && number == 0))
            config.proxies.push_back(draw_proxy(input, number));
    for (std::uint16_t slot = 0; slot < listeners_max; ++slot) {
        // The owner, or one of the values for nobody.
        const std::uint32_t owner = input.below(5);
        if (owner < config.proxies.size())
            config.proxies[owner].listen.push_back({listen_at(slot), format(listen_at(slot))});
    }
    config.sessions_max = 1 + input.below(12);
    config.pool_min = input.below(4) == 0 ? 1 : 0;
    return config;
}

std::map<Endpoint, std::string> owners_in(const Config& config) {
    std::map<Endpoint, std::string> owners;
    for (const ProxyConfig& proxy : config.proxies)
        for (const ListenAddress& listen : proxy.listen) owners[listen.endpoint] = proxy.name;
    return owners;
}

/// The plan leads from one configuration to the other, and back again.
void check_plan(const Config& present, const Config& wanted, const Plan& plan) {
    std::map<Endpoint, std::string> owners = owners_in(present);
    for (const ListenerStep& step : plan.listeners) {
        UDPPROXY_ASSERT(step.from || step.to);
        const auto place = owners.find(step.endpoint);
        UDPPROXY_ASSERT((place != owners.end()) == step.from.has_value());
        if (step.from) UDPPROXY_ASSERT(place->second == *step.from && step.to != step.from);
        if (step.to)
            owners[step.endpoint] = *step.to;
        else
            owners.erase(place);
    }
    UDPPROXY_ASSERT(owners == owners_in(wanted));

    std::set<std::string> proxies;
    for (const ProxyConfig& proxy : present.proxies) proxies.insert(proxy.name);
    for (const ProxyStep& step : plan.proxies) {
        const bool is_added = step.kind == ProxyStep::Kind::added;
        UDPPROXY_ASSERT(proxies.contains(step.name) != is_added);
        if (is_added) proxies.insert(step.name);
        if (step.kind == ProxyStep::Kind::removed) proxies.erase(step.name);
        if (step.kind == ProxyStep::Kind::changed)
            UDPPROXY_ASSERT(step.settings || step.aliases || step.upstream || step.sources);
    }
    for (const ProxyConfig& proxy : wanted.proxies) UDPPROXY_ASSERT(proxies.erase(proxy.name) == 1);
    UDPPROXY_ASSERT(proxies.empty());

    const Plan back = plan_reload(wanted, present);
    UDPPROXY_ASSERT(back.proxies.size() == plan.proxies.size());
    UDPPROXY_ASSERT(back.listeners.size() == plan.listeners.size());
    UDPPROXY_ASSERT(back.needs_restart == plan.needs_restart && back.limits == plan.limits);
    const Plan none = plan_reload(wanted, wanted);
    UDPPROXY_ASSERT(none.proxies.empty() && none.listeners.empty() && none.needs_restart.empty() &&
                    !none.limits && !none.log);
    Config kept = wanted;
    keep_what_needs_a_restart(kept, present);
    UDPPROXY_ASSERT(plan_reload(kept, kept).proxies.empty());
}

/// A shard, and what the control thread knows of it. Proxies and listeners have the slots of their
/// names and addresses.
class Program {
public:
    explicit Program(const Config& config) : present_(config), sim_(setup_of_shard(config)) {
        SharedUse& use = *sim_.shard().setup.use;
        // All slots are taken at the start. Those that the configuration has no proxy or listener
        // for are given back at once.
        for (std::uint16_t number = 0; number < proxies_max; ++number)
            use.proxies_held[number] = use.bindings_held[number] = 1;
        for (std::uint16_t slot = 0; slot < listeners_max; ++slot) use.listeners_held[slot] = 1;
        const std::map<Endpoint, std::string> owners = owners_in(config);
        for (std::uint16_t slot = 0; slot < listeners_max; ++slot) {
            const auto owner = owners.find(listen_at(slot));
            if (owner == owners.end())
                tell(CommandKind::close_listener, 0, slot);
            else
                owners_[slot] =
                    std::make_shared<std::set<std::uint16_t>>(std::set{number_of(owner->second)});
        }
        for (std::uint16_t number = 0; number < proxies_max; ++number)
            if (find_proxy(config, names[number]) == nullptr)
                tell(CommandKind::close_proxy, number);
        settle();
    }

    void reload(const Config& wanted) {
        const Plan plan = plan_reload(present_, wanted);
        check_plan(present_, wanted, plan);
        for (const ProxyStep& step : plan.proxies)
            if (step.kind != ProxyStep::Kind::removed) bring_proxy(step, wanted);
        if (plan.limits) {
            Command limits;
            limits.kind = CommandKind::set_limits;
            limits.sessions_max = wanted.sessions_max.value();
            limits.descriptors_max = descriptors_max;
            limits.pool_min = wanted.pool_min;
            post(limits);
        }
        for (const ListenerStep& step : plan.listeners) bring_listener(step);
        for (const ProxyStep& step : plan.proxies)
            if (step.kind == ProxyStep::Kind::removed)
                tell(CommandKind::close_proxy, number_of(step.name));
        present_ = wanted;
    }

    /// What clients, services and time do between two reloads.
    void go_on(Input& input) {
        for (std::size_t left = input.below(steps_max); left > 0; --left) {
            const std::uint32_t action = input.below(8);
            if (action < 4)
                send(static_cast<std::uint16_t>(input.below(listeners_max)),
                     input.below(clients_max));
            else if (action < 6)
                answer(input);
            else
                sim_.advance(std::chrono::milliseconds{input.below(4) * 500});
            if (input.flag()) turn();
        }
    }

    /// Every listener and proxy goes; nothing may be left.
    void end() {
        for (std::uint16_t slot = 0; slot < listeners_max; ++slot)
            tell(CommandKind::close_listener, 0, slot);
        for (const ProxyConfig& proxy : present_.proxies)
            tell(CommandKind::close_proxy, number_of(proxy.name));
        settle();
        Shard& shard = sim_.shard();
        const SharedUse& use = *shard.setup.use;
        UDPPROXY_ASSERT(shard.table.size() == 0 && shard.listeners_open == 0);
        UDPPROXY_ASSERT(shard.groups.size() == 0 && sim_.world->open_members() == 0);
        UDPPROXY_ASSERT(use.sessions.read() == 0 && use.descriptors.read() == 0);
        UDPPROXY_ASSERT(use.unassured.read() == 0 && shard.leaving == 0);
        UDPPROXY_ASSERT(shard.setup.use->client_counts.clients() == 0);
        UDPPROXY_ASSERT(sim_.loop->backend().buffers_out() == 0);
        for (const PortPool& pool : shard.ports) UDPPROXY_ASSERT(pool.leased() == 0);
        for (std::uint16_t number = 0; number < proxies_max; ++number)
            UDPPROXY_ASSERT(use.proxies_held[number] == 0 && use.bindings_held[number] == 0);
    }

    /// Until what was closed has gone and its slots are vacant.
    void settle() {
        for (int left = 100;
             left > 0 && (sim_.shard().leaving > 0 || sim_.shard().descriptors_closing > 0 ||
                          !sim_.shard().commands.is_empty());
             --left) {
            sim_.advance(1ms);
            turn();
        }
        UDPPROXY_ASSERT(sim_.shard().leaving == 0);
    }

private:
    using Owners = std::shared_ptr<std::set<std::uint16_t>>;

    static constexpr std::uint32_t descriptors_max = 60;

    struct Asked {
        Endpoint from;
        std::uint16_t proxy = 0;
        std::string payload;
        Instant at;
    };

    static ShardSetup setup_of_shard(const Config& config) {
        ShardSetup setup = sim::small_setup();
        setup.proxies.clear();
        setup.listeners.clear();
        for (std::uint16_t number = 0; number < proxies_max; ++number) {
            const ProxyConfig* proxy = find_proxy(config, names[number]);
            setup.proxies.push_back(
                proxy != nullptr ? udpproxy::setup_of(*proxy, *proxy->upstream.endpoint, {})
                                 : udpproxy::setup_of(config.proxies[0],
                                                      *config.proxies[0].upstream.endpoint, {}));
            setup.proxies.back().sessions_max =
                (proxy != nullptr ? *proxy : config.proxies[0]).sessions_max.value();
            setup.proxies.back().sources = {Address::any(Family::ipv4)};
        }
        const std::map<Endpoint, std::string> owners = owners_in(config);
        for (std::uint16_t slot = 0; slot < listeners_max; ++slot) {
            const auto owner = owners.find(listen_at(slot));
            setup.listeners.push_back(
                {owner != owners.end() ? number_of(owner->second) : std::uint16_t{0},
                 listen_at(slot)});
        }
        setup.proxies_max = proxies_max;
        setup.listeners_max = listeners_max;
        setup.bindings_max = proxies_max;
        setup.table_sessions_max = 16;
        setup.sessions_max = config.sessions_max.value();
        setup.pool_min = config.pool_min;
        setup.descriptors_max = descriptors_max;
        setup.slots_max = descriptors_max + listeners_max;
        setup.buffers_per_leg = 32;
        setup.report_sessions = false;
        return setup;
    }

    void post(const Command& command) {
        while (!sim_.shard().commands.post(command)) turn();
    }
    void tell(CommandKind kind, std::uint16_t proxy = 0, std::uint16_t listener = 0) {
        Command command;
        command.kind = kind;
        command.proxy = proxy;
        command.listener = listener;
        post(command);
    }

    void bring_proxy(const ProxyStep& step, const Config& wanted) {
        const ProxyConfig& proxy = *find_proxy(wanted, step.name);
        const bool is_added = step.kind == ProxyStep::Kind::added;
        Command command;
        command.proxy = number_of(step.name);
        SharedUse& use = *sim_.shard().setup.use;
        if (is_added) {
            UDPPROXY_ASSERT(use.proxies_held[command.proxy] == 0);
            use.proxies_held[command.proxy] = use.bindings_held[command.proxy] = 1;
        }
        if (is_added || step.settings) {
            command.kind = CommandKind::set_settings;
            command.settings = settings_of(proxy);
            command.settings.sessions_max = proxy.sessions_max.value();
            command.fresh = is_added;
            post(command);
        }
        if (is_added || step.upstream || step.aliases) {
            command.kind = CommandKind::set_upstream;
            command.upstream = upstream_of(proxy, *proxy.upstream.endpoint, ++version_);
            if (!is_added && step.upstream && proxy.on_change == OnChange::close)
                command.closes_below = version_;
            kept_.push_back(command.upstream);
            post(command);
        }
        if (is_added) {
            const auto bindings = std::make_shared<SourceBindingChange>();
            bindings->first = command.proxy;
            bindings->bindings = {{Address::any(Family::ipv4), 0, command.proxy}};
            kept_.push_back(bindings);
            command.kind = CommandKind::set_source_bindings;
            command.bindings = bindings;
            post(command);
        }
    }
    void bring_listener(const ListenerStep& step) {
        const auto slot = static_cast<std::uint16_t>(step.endpoint.port - first_port);
        if (!step.to) {
            tell(CommandKind::retire_listener, 0, slot);
            tell(CommandKind::close_listener, 0, slot);
            return;
        }
        const std::uint16_t proxy = number_of(*step.to);
        if (step.from) {
            owners_[slot]->insert(proxy);
            tell(CommandKind::move_listener, proxy, slot);
            return;
        }
        UDPPROXY_ASSERT(!sim_.shard().listeners[slot].open);
        Command command;
        command.kind = CommandKind::adopt_listener;
        command.proxy = proxy;
        command.listener = slot;
        command.arrival = std::make_shared<ListenerArrival>();
        command.arrival->endpoint = step.endpoint;
        kept_.push_back(command.arrival);
        sim_.shard().setup.use->listeners_held[slot] = 1;
        owners_[slot] = std::make_shared<std::set<std::uint16_t>>(std::set{proxy});
        post(command);
    }

    void send(std::uint16_t slot, std::uint32_t client) {
        // Two to a host.
        const Endpoint from{*parse_address("192.0.2." + std::to_string(1 + client / 2)), 0,
                            static_cast<std::uint16_t>(1000 + client)};
        std::string number = std::to_string(sent_.size());
        // A listener takes datagrams until the shard has closed it, which is after the command.
        const bool is_open = sim_.world->listeners[slot].is_open;
        sent_.push_back({from, slot, is_open ? owners_[slot] : nullptr});
        sim_.world->client_sends(from, listen_at(slot), std::move(number));
    }
    void answer(Input& input) {
        if (asked_.empty()) return;
        const Asked& request = asked_[input.below(static_cast<std::uint32_t>(asked_.size()))];
        const std::array<std::uint32_t, 5> sources{0, 1, 100, 101, foreign};
        const std::uint32_t source = sources[input.below(sources.size())];
        // Whatever has become of the session, nobody else may have its port so soon.
        const bool is_in_time = request.proxy == 0 && sim_.world->now - request.at < cooldown;
        sim_.world->service_sends(service(request.proxy, source), request.from,
                                  request.payload + (source == foreign ? " foreign" : "") +
                                      (is_in_time ? " in time" : ""));
    }

    void turn() {
        sim_.turns();
        for (const sim::Packet& packet : sim_.asked()) {
            const Sent& sent = sent_[std::stoul(packet.payload)];
            const std::uint16_t proxy = proxy_of(packet.to);
            UDPPROXY_ASSERT(sent.owners && sent.owners->contains(proxy));
            asked_.push_back({packet.from, proxy, packet.payload, sim_.world->now});
        }
        for (const sim::Packet& packet : sim_.answered()) {
            UDPPROXY_ASSERT(packet.payload.find("foreign") == std::string::npos);
            if (packet.payload.find("in time") == std::string::npos) continue;
            const Sent& sent = sent_[std::stoul(packet.payload)];
            UDPPROXY_ASSERT(packet.to == sent.client && packet.from == listen_at(sent.slot));
        }
        UDPPROXY_ASSERT(sim::accounts_balance(sim_.shard()));
    }

    struct Sent {
        Endpoint client;
        std::uint16_t slot = 0;
        Owners owners;  // null: nobody listened
    };

    Config present_;
    sim::SimShard sim_;
    std::array<Owners, listeners_max> owners_;
    std::vector<std::shared_ptr<const void>> kept_;  // what commands carried
    std::uint32_t version_ = 1;
    std::vector<Sent> sent_;
    std::vector<Asked> asked_;
};

}  // namespace

void reload(Bytes bytes) {
    Input input(bytes);
    Program program(draw_config(input));
    program.go_on(input);
    for (std::size_t reloads = 0; reloads < reloads_max && !input.is_over(); ++reloads) {
        program.reload(draw_config(input));
        program.go_on(input);
        // The next reload finds the slots of what goes vacant.
        program.settle();
    }
    program.end();
}

}  // namespace udpproxy::fuzz
