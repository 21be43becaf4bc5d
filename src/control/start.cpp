// The steps of a start, in the order in which they happen.
#include "start.hpp"

#include <fmt/format.h>
#include <sys/random.h>

#include <cerrno>
#include <thread>

namespace udpproxy {

namespace {

// A killed predecessor's ring keeps its sockets for a moment after the process has gone.
constexpr int bind_attempts = 20;
constexpr Duration bind_again_after = std::chrono::milliseconds{50};
// A resolver that is there answers within it; one that is not must not keep the other proxies from their clients.
constexpr Duration first_answers_within = std::chrono::seconds{3};
constexpr int answer_look_ms = 5;

Address routed_source_towards(const Endpoint& upstream) { return source_towards(upstream, Address::any(upstream.family())).source.address; }

std::string text_of(const Upstream& upstream, const ProxyConfig& proxy) {
    return upstream.is_resolved() ? format(upstream.endpoint()) : proxy.upstream.text;
}

}  // namespace

Result<void> Start::choose_engine() {
    if (config_.engine == EngineChoice::epoll) {
        log_.info("engine", {{"engine", "epoll"}, {"reason", "runtime.engine = \"epoll\""}});
        return {};
    }
    const UringProbe probe = probe_io_uring(slots_max(), buffers_per_leg());
    if (probe.usable) {
        engine_ = Engine::io_uring;
    } else if (config_.engine == EngineChoice::io_uring) {
        return Error{"runtime.engine = \"io_uring\", but this kernel refuses it: " + probe.reason + "; use \"auto\" or \"epoll\""};
    }
    log_.info("engine", {{"engine", name_of(engine_)}, {"reason", probe.usable ? probe.reason : "io_uring refused: " + probe.reason}});
    return {};
}

int Start::prepare_proxies(Names& names, const Signals& signals) {
    const PortRange ephemeral = ephemeral_ports();
    if (!trains_supported_) log_.info("offload", {{"offload", "off"}, {"reason", "this kernel has no UDP_GRO (Linux 5.0)"}});
    for (std::uint16_t index = 0; index < config_.proxies.size(); ++index) {
        const ProxyConfig& proxy = config_.proxies[index];
        proxies_.push_back(setup_of(proxy, proxy.upstream.endpoint.value_or(Endpoint{}), ephemeral));
        proxies_.back().offload = proxies_.back().offload && trains_supported_;
        if (proxy.upstream.endpoint)
            proxies_.back().routed_source = routed_source_towards(*proxy.upstream.endpoint);
        else
            names.ask(index, proxy);
    }
    const Instant end = monotonic_now() + first_answers_within;
    while (!names.all_answered() && monotonic_now() < end) {
        if (const int signal = signals.next(answer_look_ms); is_stop(signal)) return signal;
        take_upstreams(names.look(config_, monotonic_now()));
    }
    return 0;
}

void Start::take_upstreams(const std::vector<Names::Found>& found) {
    for (const Names::Found& answer : found) {
        proxies_[answer.proxy].upstream = upstream_of(config_.proxies[answer.proxy], answer.endpoint, 1);
        proxies_[answer.proxy].routed_source = routed_source_towards(answer.endpoint);
    }
}

std::vector<std::string> Start::reckon() {
    shard_count_ = config_.shards.value_or(static_cast<std::uint32_t>(cpus_.size()));
    room_ = reckon_room(config_, proxies_, MachineRoom{raise_descriptor_limit(), shard_count_, ephemeral_ports()});
    for (std::size_t i = 0; i < proxies_.size(); ++i) proxies_[i].sessions_max = room_.proxies[i].sessions_max;
    return room_.complaints;
}

void Start::tell_room() {
    for (std::size_t i = 0; i < proxies_.size(); ++i) {
        log_.info("room",
                  {{"proxy", proxies_[i].name}, {"sessions", proxies_[i].sessions_max}, {"arithmetic", room_.proxies[i].arithmetic}});
    }
}

Result<void> Start::open_all_listeners() {
    for (std::uint16_t index = 0; index < config_.proxies.size(); ++index) {
        const ProxyConfig& proxy = config_.proxies[index];
        for (const ListenAddress& listen : proxy.listen) {
            const std::string name = fmt::format("listener \"{}\" {}", proxy.name, format(listen.endpoint));
            const ListenerRequest request{listen.endpoint, proxy.receive_buffer_bytes, proxy.send_buffer_bytes, proxy.path_mtu,
                                          proxies_[index].offload};
            Result<ListenerSockets> opened = open_listeners(request, shard_count_);
            for (int attempt = 1; !opened && opened.error().code == EADDRINUSE && attempt < bind_attempts; ++attempt) {
                std::this_thread::sleep_for(bind_again_after);
                opened = open_listeners(request, shard_count_);
            }
            if (!opened) return Error{name + ": " + opened.error().message};
            log_.info("listening", {{"proxy", proxy.name},
                                    {"listen", format(listen.endpoint)},
                                    {"upstream", text_of(*proxies_[index].upstream, proxy)},
                                    {"receive_buffer", opened->receive_buffer_bytes},
                                    {"send_buffer", opened->send_buffer_bytes}});
            if (opened->address_absent)
                log_.warn("address_absent", {{"proxy", proxy.name},
                                             {"listen", format(listen.endpoint)},
                                             {"effect", "not on this host yet; serves as soon as it is"}});
            warn_of_small_buffer(name, "receive_buffer", "net.core.rmem_max", proxy.receive_buffer_bytes, opened->receive_buffer_bytes);
            warn_of_small_buffer(name, "send_buffer", "net.core.wmem_max", proxy.send_buffer_bytes, opened->send_buffer_bytes);
            listeners_.push_back(ListenerSetup{index, listen.endpoint});
            listener_sockets_.push_back(std::move(*opened));
        }
    }
    return {};
}

void Start::warn_of_small_buffer(const std::string& listener, const char* key, const char* sysctl, std::uint64_t asked,
                                 std::uint64_t granted) {
    if (granted >= asked) return;
    log_.warn("small_buffer", {{"listener", listener},
                               {"key", key},
                               {"asked", asked},
                               {"granted", granted},
                               {"set", fmt::format("sysctl -w {}={}", sysctl, asked)}});
}

ShardSetup Start::setup_of_shard(std::uint32_t shard, const SipKey& key, const std::shared_ptr<SharedUse>& use) const {
    ShardSetup setup;
    setup.shard = shard;
    setup.shards = shard_count_;
    setup.proxies = proxies_;
    setup.listeners = listeners_;
    setup.sessions_max = room_.sessions_max;
    setup.newcomers = rate_of(config_.new_sessions);
    setup.descriptors_max = room_.descriptors_max;
    setup.slots_max = slots_max();
    setup.buffers_per_leg = buffers_per_leg();
    setup.report_sessions = config_.log_sessions;
    setup.key = key;
    setup.use = use;
    return setup;
}

Result<void> Start::start_shards() {
    SipKey key;
    if (::getrandom(&key, sizeof key, 0) != sizeof key) return system_error("getrandom", errno);
    std::uint64_t ports_start = 0;
    if (::getrandom(&ports_start, sizeof ports_start, 0) != sizeof ports_start) return system_error("getrandom", errno);
    std::size_t sources = 0;
    for (const ProxySetup& proxy : proxies_) sources += proxy.sources.size();
    use_ = std::make_shared<SharedUse>(proxies_.size(), sources, room_.sessions_max, key);
    for (std::size_t i = 0; i < listeners_.size(); ++i) {
        for (const Socket& socket : listener_sockets_[i].sockets)
            listener_watches_.push_back({listeners_[i].proxy, format(listeners_[i].endpoint), socket.descriptor()});
    }
    for (std::uint32_t shard = 0; shard < shard_count_; ++shard) {
        ShardSetup setup = setup_of_shard(shard, key, use_);
        setup.ports_start = ports_start;
        EngineSetup engine_setup;
        engine_setup.slots_max = setup.slots_max;
        engine_setup.buffers_per_leg = setup.buffers_per_leg;
        for (std::size_t i = 0; i < listeners_.size(); ++i)
            engine_setup.listeners.push_back(ListenerSocket{std::move(listener_sockets_[i].sockets[shard]), listeners_[i].endpoint.family(),
                                                            proxies_[listeners_[i].proxy].offload});
        Result<std::unique_ptr<ShardThread>> created = ShardThread::create(engine_, std::move(setup), std::move(engine_setup));
        if (!created) return Error{fmt::format("shard {}: {}", shard, created.error().message)};
        shards_.push_back(std::move(*created));
    }
    for (std::uint32_t shard = 0; shard < shard_count_; ++shard) {
        std::optional<int> cpu;
        if (config_.cpu_pinning) cpu = cpus_[shard % cpus_.size()];
        if (Result<void> started = shards_[shard]->start(cpu); !started)
            return Error{fmt::format("shard {}: {}", shard, started.error().message)};
    }
    return {};
}

void Start::tell(Roster& roster) const {
    const std::lock_guard lock(roster.mutex);
    roster.config = &config_;
    roster.engine = engine_;
    roster.proxies = proxies_;
    roster.listeners = listener_watches_;
    roster.shards = &shards_;
    roster.use = use_;
    roster.sessions_max = room_.sessions_max;
    roster.descriptors_max = room_.descriptors_max;
}

}  // namespace udpproxy
