// From configuration to exit code, in the order in which things happen.
#include "udpproxy/control/supervisor.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <thread>

#include "machine.hpp"
#include "room.hpp"
#include "shard_thread.hpp"
#include "udpproxy/control/log.hpp"
#include "watchman.hpp"

namespace udpproxy {

namespace {

constexpr int look_every_ms = 100;
// A killed predecessor's ring keeps its sockets for a moment after the process has gone.
constexpr int bind_attempts = 20;
constexpr Duration bind_again_after = std::chrono::milliseconds{50};

/// The signals that the control thread reads from a descriptor; blocked in every thread.
Socket open_signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
    return Socket{::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC)};
}

/// Waits for a signal at most `limit_ms`; 0 when none came.
int next_signal(const Socket& signals, int limit_ms) {
    pollfd poll_entry{signals.descriptor(), POLLIN, 0};
    if (::poll(&poll_entry, 1, limit_ms) <= 0) return 0;
    signalfd_siginfo info{};
    if (::read(signals.descriptor(), &info, sizeof info) != sizeof info) return 0;
    return static_cast<int>(info.ssi_signo);
}

const char* name_of_signal(int signal) { return signal == SIGTERM ? "SIGTERM" : "SIGINT"; }

std::optional<Family> family_of_aliases(const ProxyConfig& proxy) {
    if (!proxy.source.empty()) return proxy.source.front().family();
    if (!proxy.reply_aliases.empty()) return proxy.reply_aliases.front().prefix.address.family();
    return std::nullopt;
}

/// One start of the program: built up step by step, each of which may fail with a sentence.
class Start {
public:
    Start(const Config& config, Log& log) : config_(config), log_(log) {}

    [[nodiscard]] Result<void> choose_engine();
    [[nodiscard]] Result<void> resolve_upstreams();
    /// Numbers that cannot fit; empty when all is well.
    [[nodiscard]] std::vector<std::string> reckon();
    void tell_room();
    [[nodiscard]] Result<void> open_all_listeners();
    [[nodiscard]] Result<void> start_shards();

    std::vector<std::unique_ptr<ShardThread>>& shards() { return shards_; }
    [[nodiscard]] std::uint32_t sessions_max() const { return room_.sessions_max; }

private:
    [[nodiscard]] std::string fault_of_resolved(const ProxyConfig& proxy, const Endpoint& upstream) const;
    [[nodiscard]] std::uint32_t slots_max() const {
        std::size_t listeners = 0;
        for (const ProxyConfig& proxy : config_.proxies) listeners += proxy.listen.size();
        return static_cast<std::uint32_t>(listeners) + room_.descriptors_max;
    }
    /// 64 KiB of address space each; only what datagrams reach becomes memory.
    [[nodiscard]] std::uint32_t buffers_per_leg() const { return shard_count_ <= 4 ? 4096 : shard_count_ <= 16 ? 2048 : 1024; }
    void warn_of_small_buffer(const std::string& listener, const char* key, const char* sysctl, std::uint64_t asked, std::uint64_t granted);
    [[nodiscard]] ShardSetup setup_of_shard(std::uint32_t shard, const SipKey& key, const std::shared_ptr<SharedUse>& use) const;

    const Config& config_;
    Log& log_;
    Engine engine_ = Engine::epoll;
    std::vector<int> cpus_ = usable_cpus();
    std::uint32_t shard_count_ = 1;
    std::vector<ProxySetup> proxies_;
    Room room_;
    std::vector<ListenerSetup> listeners_;
    std::vector<ListenerSockets> listener_sockets_;
    std::vector<std::unique_ptr<ShardThread>> shards_;
};

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

/// What the configuration could not see in a name: it leads back to a listener, or nowhere, or to an alias. Empty when all is well.
std::string Start::fault_of_resolved(const ProxyConfig& proxy, const Endpoint& upstream) const {
    if (upstream.address.is_unspecified() || upstream.address.is_multicast() || upstream.address.is_broadcast())
        return "not the address of a host";
    for (const Alias& alias : proxy.reply_aliases) {
        if (alias.is_exact() && alias.prefix.address == upstream.address && alias.port == upstream.port)
            return "listed in reply_aliases too; take it out there";
    }
    const bool is_loopback = upstream.address == *parse_address("127.0.0.1") || upstream.address == *parse_address("::1");
    for (const ProxyConfig& other : config_.proxies) {
        for (const ListenAddress& listen : other.listen) {
            const bool meets = listen.endpoint == upstream || (is_loopback && listen.endpoint.address == Address::any(upstream.family()));
            if (meets && listen.endpoint.port == upstream.port)
                return fmt::format("the listener of proxy \"{}\": a forwarding loop", other.name);
        }
    }
    return {};
}

Result<void> Start::resolve_upstreams() {
    const PortRange ephemeral = ephemeral_ports();
    for (const ProxyConfig& proxy : config_.proxies) {
        Endpoint upstream;
        if (proxy.upstream.endpoint) {
            upstream = *proxy.upstream.endpoint;
        } else {
            const auto found = resolve(proxy.upstream.host, proxy.upstream.port, family_of_aliases(proxy));
            if (!found)
                return Error{
                    fmt::format("proxy \"{}\": upstream \"{}\": resolve: {}", proxy.name, proxy.upstream.text, found.error().message)};
            upstream = found->front();
            if (const std::string fault = fault_of_resolved(proxy, upstream); !fault.empty())
                return Error{
                    fmt::format("proxy \"{}\": upstream \"{}\" is {}: {}", proxy.name, proxy.upstream.text, format(upstream), fault)};
            log_.info(
                "resolved",
                {{"proxy", proxy.name}, {"upstream", proxy.upstream.text}, {"endpoint", format(upstream)}, {"addresses", found->size()}});
        }
        proxies_.push_back(setup_of(proxy, upstream, ephemeral));
        proxies_.back().routed_source = source_towards(upstream, Address::any(upstream.family())).source.address;
    }
    return {};
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
            const ListenerRequest request{listen.endpoint, proxy.receive_buffer_bytes, proxy.send_buffer_bytes, proxy.path_mtu};
            Result<ListenerSockets> opened = open_listeners(request, shard_count_);
            for (int attempt = 1; !opened && opened.error().code == EADDRINUSE && attempt < bind_attempts; ++attempt) {
                std::this_thread::sleep_for(bind_again_after);
                opened = open_listeners(request, shard_count_);
            }
            if (!opened) return Error{name + ": " + opened.error().message};
            log_.info("listening", {{"proxy", proxy.name},
                                    {"listen", format(listen.endpoint)},
                                    {"upstream", format(proxies_[index].upstream)},
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
    const auto use = std::make_shared<SharedUse>(proxies_.size(), sources, room_.sessions_max, key);
    for (std::uint32_t shard = 0; shard < shard_count_; ++shard) {
        ShardSetup setup = setup_of_shard(shard, key, use);
        setup.ports_start = ports_start;
        EngineSetup engine_setup;
        engine_setup.slots_max = setup.slots_max;
        engine_setup.buffers_per_leg = setup.buffers_per_leg;
        for (std::size_t i = 0; i < listeners_.size(); ++i)
            engine_setup.listeners.push_back(
                ListenerSocket{std::move(listener_sockets_[i].sockets[shard]), listeners_[i].endpoint.family()});
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

/// Asks every shard to stop and waits; a second signal ends the program on the spot.
void stop_shards(std::vector<std::unique_ptr<ShardThread>>& shards, const Socket& signals, Watchman& watchman, Log& log) {
    for (const auto& shard : shards) shard->stop();
    const auto all_ended = [&] {
        for (const auto& shard : shards) {
            if (!shard->has_ended()) return false;
        }
        return true;
    };
    while (!all_ended()) {
        if (next_signal(signals, 5) != 0) {
            log.warn("stopped", {{"reason", "second signal"}});
            ::_exit(exit_failure);
        }
        watchman.look(monotonic_now());
    }
    for (const auto& shard : shards) shard->join();
    watchman.look(monotonic_now());
}

int fail(Log& log, const std::string& reason) {
    log.error("failed", {{"reason", reason}});
    return exit_failure;
}

}  // namespace

int serve(const Config& config, const std::string& config_file) {
    Result<Log> opened = Log::open(config.log_level, config.log_format, config.log_file);
    if (!opened) {
        fmt::print(stderr, "udpproxy: {}\n", opened.error().message);
        return exit_failure;
    }
    Log& log = *opened;
    const Socket signals = open_signals();
    if (!signals) return fail(log, "signalfd: " + error_text(errno));
    log.info("starting", {{"version", UDPPROXY_VERSION}, {"config", config_file}, {"pid", ::getpid()}});

    Start start(config, log);
    if (auto done = start.resolve_upstreams(); !done) return fail(log, done.error().message);
    if (const std::vector<std::string> complaints = start.reckon(); !complaints.empty()) {
        for (const std::string& complaint : complaints) log.error("failed", {{"reason", complaint}});
        return exit_config;
    }
    if (auto done = start.choose_engine(); !done) return fail(log, done.error().message);
    start.tell_room();
    if (auto done = start.open_all_listeners(); !done) return fail(log, done.error().message);
    if (auto done = start.start_shards(); !done) return fail(log, done.error().message);
    log.info("ready", {{"shards", start.shards().size()}, {"sessions", start.sessions_max()}});

    Watchman watchman(config, log, start.shards());
    int signal = 0;
    while (signal == 0) {
        signal = next_signal(signals, look_every_ms);
        watchman.look(monotonic_now());
    }
    log.info("stopping", {{"signal", name_of_signal(signal)}});
    stop_shards(start.shards(), signals, watchman, log);
    watchman.write_counters();
    log.info("stopped");
    return exit_ok;
}

std::vector<std::string> complaints_of_machine(const Config& config) {
    std::vector<ProxySetup> proxies;
    for (const ProxyConfig& proxy : config.proxies) {
        // The arithmetic needs the upstream's family at most; a name that is not resolved yet stands for either.
        const Endpoint upstream = proxy.upstream.endpoint.value_or(Endpoint{Address::any(Family::ipv4), 0, proxy.upstream.port});
        proxies.push_back(setup_of(proxy, upstream, ephemeral_ports()));
    }
    const auto shards = config.shards.value_or(static_cast<std::uint32_t>(usable_cpus().size()));
    return reckon_room(config, proxies, MachineRoom{descriptor_limit(), shards, ephemeral_ports()}).complaints;
}

std::string version_text() {
    const UringProbe probe = probe_io_uring();
    return fmt::format("udpproxy {}\nio_uring: {}\nepoll: yes\n", UDPPROXY_VERSION,
                       probe.usable ? "yes (" + probe.reason + ")" : "no (" + probe.reason + ")");
}

}  // namespace udpproxy
