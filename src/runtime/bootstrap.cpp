// Carries out the steps of a start in order, each with its own error.
#include "udpproxy/runtime/bootstrap.hpp"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <thread>
#include <utility>

#include "listeners.hpp"
#include "udpproxy/host/cpu_quota.hpp"
#include "udpproxy/runtime/shard_setup.hpp"

namespace udpproxy {

namespace {

// A resolver that works answers within this time. One that does not must not keep the clients of
// the other proxies waiting.
constexpr Duration first_answers_within = std::chrono::seconds{3};
constexpr Duration answer_pause = std::chrono::milliseconds{100};
constexpr int locked_memory_attempts = 10;
constexpr Duration locked_memory_pause = std::chrono::milliseconds{10};

}  // namespace

Result<void> Bootstrap::choose_engine(const Predecessor* predecessor) {
    if (config_.engine == EngineChoice::epoll) {
        engine_reason_ = "runtime.engine = \"epoll\"";
        return {};
    }
    if (predecessor != nullptr) {
        engine_ = Engine::io_uring;
        engine_reason_ = "the kernel took the rings";
        return {};
    }
    const UringProbe probe = probe_io_uring(tables_.slots, tables_.buffers_per_leg);
    if (probe.usable) {
        engine_ = Engine::io_uring;
    } else if (config_.engine == EngineChoice::io_uring) {
        return Error{"runtime.engine = \"io_uring\", but this kernel refuses it: " + probe.reason +
                     "; use \"auto\" or \"epoll\""};
    }
    engine_reason_ = probe.usable ? probe.reason : "io_uring refused: " + probe.reason;
    return {};
}

bool Bootstrap::prepare_proxies(Names& names, const std::function<bool(Duration)>& stops) {
    const PortRange ephemeral = ephemeral_ports();
    if (!trains_supported())
        log_.info("offload",
                  {{"offload", "off"}, {"reason", "this kernel has no UDP_GRO (Linux 5.0)"}});
    for (std::uint16_t index = 0; index < config_.proxies.size(); ++index) {
        const ProxyConfig& proxy = config_.proxies[index];
        proxies_.push_back(
            setup_of(proxy, proxy.upstream.endpoint.value_or(Endpoint{}), ephemeral));
        if (proxy.upstream.endpoint)
            proxies_.back().routed_source = routed_source_towards(*proxy.upstream.endpoint);
        else
            names.ask(index, proxy);
    }
    const Instant end = monotonic_now() + first_answers_within;
    take_upstreams(names, monotonic_now());
    while (!names.all_answered() && monotonic_now() < end) {
        if (stops(names.has_more() ? Duration::zero() : answer_pause)) return false;
        take_upstreams(names, monotonic_now());
    }
    return true;
}

void Bootstrap::take_upstreams(Names& names, Instant now) {
    for (Names::Found& found : names.look(config_, now)) {
        ProxySetup& proxy = proxies_[found.proxy];
        proxy.upstream = upstream_of(config_.proxies[found.proxy], found.endpoint, 1);
        proxy.routed_source = routed_source_towards(found.endpoint);
        names.settle(std::move(found), now);
    }
    names.log_settled();
}

std::uint32_t Bootstrap::count_shards() {
    if (config_.shards) return *config_.shards;
    const AutomaticShards chosen = automatic_shards();
    log_.info("shards", {{"shards", chosen.shards}, {"reason", chosen.reason}});
    return chosen.shards;
}

std::vector<std::string> Bootstrap::compute_capacity(const Predecessor* predecessor) {
    machine_.shards = predecessor != nullptr ? predecessor->shards() : count_shards();
    machine_.ephemeral = ephemeral_ports();
    machine_.reserved_ports = reserved_ports();
    machine_.descriptors = raise_descriptor_limit();
    const std::uint64_t limit = machine_.descriptors;
    machine_ = fit_address_space(machine_);
    tables_ = table_sizes(machine_);
    if (machine_.descriptors < limit)
        log_.warn("small_tables", {{"descriptors", machine_.descriptors},
                                   {"limit", limit},
                                   {"reason", address_space_short},
                                   {"effect", "no more are used, whatever a reload brings"}});
    capacity_ = udpproxy::compute_capacity(config_, machine_);
    if (machine_.descriptors == limit && !capacity_.want_of_descriptors.empty())
        log_.warn("few_sessions", {{"sessions", capacity_.sessions_max},
                                   {"reason", capacity_.want_of_descriptors},
                                   {"set", more_descriptors}});
    for (std::size_t i = 0; i < proxies_.size(); ++i)
        proxies_[i].sessions_max = capacity_.proxies[i].sessions_max;
    return capacity_.complaints;
}

void Bootstrap::log_capacity() {
    for (std::size_t i = 0; i < proxies_.size(); ++i) {
        log_.info("capacity", {{"proxy", proxies_[i].name},
                               {"sessions", proxies_[i].sessions_max},
                               {"limit", capacity_.proxies[i].arithmetic}});
    }
}

std::vector<std::string> Bootstrap::take_handed(HandedSockets handed) {
    std::vector<std::string> complaints;
    for (const ProxyConfig& proxy : config_.proxies) {
        for (const ListenAddress& listen : proxy.listen) {
            std::vector<const HandedSocket*> wanted;
            for (const HandedSocket& each : handed.sockets)
                if (each.endpoint == listen.endpoint) wanted.push_back(&each);
            std::string complaint = mismatch_of(proxy, listen.endpoint, machine_.shards, wanted);
            if (!complaint.empty()) complaints.push_back(std::move(complaint));
        }
    }
    for (HandedSocket& each : handed.sockets) {
        const auto wants_it = [&](const ProxyConfig& proxy) {
            return std::any_of(
                proxy.listen.begin(), proxy.listen.end(),
                [&](const ListenAddress& listen) { return listen.endpoint == each.endpoint; });
        };
        if (std::any_of(config_.proxies.begin(), config_.proxies.end(), wants_it))
            handed_.push_back(std::move(each));
        else
            handed.refused.push_back(
                {each.shown, fmt::format("no listener is at {}", format(each.endpoint))});
    }
    for (const RefusedSocket& each : handed.refused)
        log_.warn("handed_over_unused",
                  {{"socket", each.shown}, {"reason", each.reason}, {"effect", "closed"}});
    return complaints;
}

/// Those that were handed over for this address.
std::vector<Socket> Bootstrap::handed_for(const Endpoint& endpoint) {
    std::vector<Socket> sockets;
    for (HandedSocket& each : handed_)
        if (each.endpoint == endpoint) sockets.push_back(std::move(each.socket));
    std::erase_if(handed_, [](const HandedSocket& each) { return !each.socket; });
    if (!sockets.empty())
        log_.info("handed_over", {{"listen", format(endpoint)}, {"sockets", sockets.size()}});
    return sockets;
}

Result<void> Bootstrap::open_all_listeners() {
    for (std::uint16_t index = 0; index < config_.proxies.size(); ++index) {
        const ProxyConfig& proxy = config_.proxies[index];
        for (const ListenAddress& listen : proxy.listen) {
            if (listen.is_absent()) continue;
            std::vector<Socket> handed = handed_for(listen.endpoint);
            Result<ListenerSockets> opened = open_listener(proxy, listen.endpoint, machine_.shards,
                                                           bind_attempts_at_start, false, &handed);
            if (!opened && may_go_without(proxy, listen.endpoint, opened.error())) {
                log_left_out(log_, proxy, listen.endpoint, opened.error());
                continue;
            }
            if (!opened) return opened.error();
            log_listener(log_, proxy, listen.endpoint, text_of(*proxies_[index].upstream, proxy),
                         *opened);
            listeners_.push_back(ListenerSetup{index, listen.endpoint});
            listener_sockets_.push_back(std::move(*opened));
        }
    }
    log_absent_interfaces(log_, config_);
    return {};
}

ShardSetup Bootstrap::setup_of_shard(std::uint32_t shard, const SipKey& key) const {
    ShardSetup setup;
    setup.shard = shard;
    setup.shards = machine_.shards;
    setup.proxies = proxies_;
    setup.listeners = listeners_;
    setup.proxies_max = config_proxies_max;
    setup.listeners_max = tables_.listeners;
    setup.bindings_max = tables_.source_bindings;
    setup.port_pools_max = tables_.port_pools;
    setup.table_sessions_max = tables_.sessions;
    setup.sessions_max = capacity_.sessions_max;
    setup.new_sessions = rate_of(config_.new_sessions);
    setup.pool_min = config_.pool_min;
    setup.descriptors_max = capacity_.descriptors_max;
    setup.slots_max = tables_.slots;
    setup.buffers_per_leg = tables_.buffers_per_leg;
    setup.report_sessions = config_.log_sessions;
    setup.key = key;
    setup.use = use_;
    setup.ledger = ledger_;
    setup.ports_start = ports_start_;
    setup.reserved_ports = machine_.reserved_ports;
    return setup;
}

void Bootstrap::make_ledger() {
    // The tables are made later and go first: without them nobody is served.
    const std::string want = want_of_ledger(tables_);
    Result<Ledger> made = want.empty()
                              ? Ledger::create({machine_.shards, tables_.slots, tables_.port_pools})
                              : Error{want};
    if (made)
        ledger_ = std::make_shared<Ledger>(std::move(*made));
    else
        log_.warn("no_ledger",
                  {{"reason", made.error().message}, {"effect", "sessions end with this process"}});
}

Result<void> Bootstrap::create_shards(Predecessor* predecessor) {
    SipKey key;
    if (::getrandom(&key, sizeof key, 0) != sizeof key) return system_error("getrandom", errno);
    if (::getrandom(&ports_start_, sizeof ports_start_, 0) != sizeof ports_start_)
        return system_error("getrandom", errno);
    use_ = std::make_shared<SharedUse>(config_proxies_max, tables_.port_pools, tables_.clients, key,
                                       tables_.listeners, tables_.source_bindings, machine_.shards);
    Result<void> created = create_shards(key);
    // The rings of the process before count as well, until some moments after they are closed.
    for (int attempt = 0; !created && created.error().code == ENOMEM && predecessor != nullptr &&
                          attempt < locked_memory_attempts;
         ++attempt) {
        shards_.clear();
        predecessor->close_engines();
        std::this_thread::sleep_for(locked_memory_pause);
        created = create_shards(key);
    }
    if (!created && engine_ == Engine::io_uring && config_.engine == EngineChoice::automatic) {
        shards_.clear();
        engine_ = Engine::epoll;
        engine_reason_ = "io_uring refused: " + created.error().message;
        created = create_shards(key);
    }
    if (!created) return created;
    log_.info("engine", {{"engine", name_of(engine_)}, {"reason", engine_reason_}});
    return {};
}

std::optional<int> Bootstrap::cpu_of(std::uint32_t shard) const {
    return config_.cpu_pinning ? std::optional{cpus_[shard % cpus_.size()]} : std::nullopt;
}

Result<void> Bootstrap::start_shards() {
    for (const ListenerSockets& listener : listener_sockets_) {
        listener_descriptors_.push_back(descriptors_of(listener));
        listener_queues_.push_back(std::make_shared<ListenerQueues>(listener_descriptors_.back()));
    }
    if (Result<void> created = create_shards(nullptr); !created) return created;
    for (std::uint32_t shard = 0; shard < machine_.shards; ++shard)
        if (Result<void> started = shards_[shard]->start(cpu_of(shard), take_sockets(shard));
            !started)
            return Error{fmt::format("shard {}: {}", shard, started.error().message)};
    return {};
}

Result<void> Bootstrap::begin(Predecessor* predecessor) {
    if (predecessor == nullptr) {
        Result<void> opened = open_all_listeners();
        return opened ? start_shards() : opened;
    }
    if (!ledger_) return Error{"there is no ledger"};  // a line has said why
    predecessor->rest_ports(*ledger_, monotonic_now());
    return create_shards(predecessor);
}

Result<void> Bootstrap::start_adopting(std::vector<Adoption>& adoptions) {
    const auto of_shard = [](std::uint32_t shard, Result<void> outcome) -> Result<void> {
        if (outcome) return outcome;
        return Error{fmt::format("shard {}: {}", shard, outcome.error().message)};
    };
    for (std::uint32_t shard = 0; shard < machine_.shards; ++shard)
        if (auto begun =
                of_shard(shard, shards_[shard]->start_adopting(cpu_of(shard), adoptions[shard]));
            !begun)
            return begun;
    for (std::uint32_t shard = 0; shard < machine_.shards; ++shard)
        if (auto started = of_shard(shard, shards_[shard]->finish_start()); !started)
            return started;
    return {};
}

void Bootstrap::begin_shards() {
    for (const auto& shard : shards_) shard->begin();
}

Result<void> Bootstrap::create_shards(const SipKey& key) {
    for (std::uint32_t shard = 0; shard < machine_.shards; ++shard) {
        ShardSetup setup = setup_of_shard(shard, key);
        EngineSetup engine_setup;
        engine_setup.slots_max = setup.slots_max;
        engine_setup.buffers_per_leg = setup.buffers_per_leg;
        engine_setup.busy_poll = config_.busy_poll;
        engine_setup.batch_wait = config_.batch_wait;
        Result<std::unique_ptr<ShardThread>> created =
            ShardThread::create(engine_, std::move(setup), engine_setup);
        if (!created)
            return Error{fmt::format("shard {}: {}", shard, created.error().message),
                         created.error().code};
        shards_.push_back(std::move(*created));
    }
    // Plain pointers: all shards have ended before the first of them goes.
    for (const auto& shard : shards_) {
        std::vector<ShardThread*> others;
        for (const auto& other : shards_)
            if (other != shard) others.push_back(other.get());
        shard->shard().wake_others = [others = std::move(others)] {
            for (ShardThread* other : others) other->wake();
        };
    }
    return {};
}

std::vector<ListenerSocket> Bootstrap::take_sockets(std::uint32_t shard) {
    std::vector<ListenerSocket> sockets;
    for (std::size_t i = 0; i < listeners_.size(); ++i)
        sockets.push_back(ListenerSocket{std::move(listener_sockets_[i].sockets[shard]),
                                         listeners_[i].endpoint.family(),
                                         proxies_[listeners_[i].proxy].offload});
    return sockets;
}

}  // namespace udpproxy
