// The steps of a start, in the order in which they happen.
#include "udpproxy/runtime/bootstrap.hpp"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>

#include "listeners.hpp"
#include "udpproxy/runtime/shard_setup.hpp"

namespace udpproxy {

namespace {

// A resolver that is there answers within it; one that is not must not keep the other proxies from
// their clients.
constexpr Duration first_answers_within = std::chrono::seconds{3};
constexpr Duration answer_pause = std::chrono::milliseconds{5};
// What reloads may bring beyond what the start has, as far as the table of files allows.
constexpr std::uint32_t spare_listeners = 512;
constexpr std::uint32_t spare_bindings = 512;
constexpr std::uint32_t spare_port_pools = 64;

}  // namespace

Result<void> Bootstrap::choose_engine() {
    if (config_.engine == EngineChoice::epoll) {
        log_.info("engine", {{"engine", "epoll"}, {"reason", "runtime.engine = \"epoll\""}});
        return {};
    }
    const UringProbe probe = probe_io_uring(slots_max(), buffers_per_leg());
    if (probe.usable) {
        engine_ = Engine::io_uring;
    } else if (config_.engine == EngineChoice::io_uring) {
        return Error{"runtime.engine = \"io_uring\", but this kernel refuses it: " + probe.reason +
                     "; use \"auto\" or \"epoll\""};
    }
    log_.info("engine",
              {{"engine", name_of(engine_)},
               {"reason", probe.usable ? probe.reason : "io_uring refused: " + probe.reason}});
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
    while (!names.all_answered() && monotonic_now() < end) {
        if (stops(answer_pause)) return false;
        take_upstreams(names.look(config_, monotonic_now()));
    }
    return true;
}

void Bootstrap::take_upstreams(const std::vector<Names::Found>& found) {
    for (const Names::Found& answer : found) {
        proxies_[answer.proxy].upstream =
            upstream_of(config_.proxies[answer.proxy], answer.endpoint, 1);
        proxies_[answer.proxy].routed_source = routed_source_towards(answer.endpoint);
    }
}

std::vector<std::string> Bootstrap::compute_capacity() {
    shard_count_ = config_.shards.value_or(static_cast<std::uint32_t>(cpus_.size()));
    descriptors_ = raise_descriptor_limit();
    capacity_ = udpproxy::compute_capacity(
        config_, MachineLimits{descriptors_, shard_count_, ephemeral_ports()});
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

Result<void> Bootstrap::open_all_listeners() {
    for (std::uint16_t index = 0; index < config_.proxies.size(); ++index) {
        const ProxyConfig& proxy = config_.proxies[index];
        for (const ListenAddress& listen : proxy.listen) {
            Result<ListenerSockets> opened =
                open_listener(proxy, listen.endpoint, shard_count_, bind_attempts_at_start);
            if (!opened) return opened.error();
            log_listener(log_, proxy, listen.endpoint, text_of(*proxies_[index].upstream, proxy),
                         *opened);
            listeners_.push_back(ListenerSetup{index, listen.endpoint});
            listener_sockets_.push_back(std::move(*opened));
        }
    }
    return {};
}

/// A ring's table of files may have no more entries than the process may have descriptors.
std::uint32_t Bootstrap::listeners_max() const {
    std::size_t listeners = 0;
    for (const ProxyConfig& proxy : config_.proxies) listeners += proxy.listen.size();
    const std::uint64_t table = std::min<std::uint64_t>(descriptors_, 1U << 20);
    const std::uint64_t room =
        table > capacity_.descriptors_max ? table - capacity_.descriptors_max : 0;
    return static_cast<std::uint32_t>(std::max<std::uint64_t>(
        listeners, std::min<std::uint64_t>(room, listeners + spare_listeners)));
}

std::uint32_t Bootstrap::bindings_max() const {
    return static_cast<std::uint32_t>(binding_locations(proxies_).size()) + spare_bindings;
}

std::uint32_t Bootstrap::port_pools_max() const {
    return static_cast<std::uint32_t>(binding_locations(proxies_).size()) + spare_port_pools;
}

ShardSetup Bootstrap::setup_of_shard(std::uint32_t shard, const SipKey& key) const {
    ShardSetup setup;
    setup.shard = shard;
    setup.shards = shard_count_;
    setup.proxies = proxies_;
    setup.listeners = listeners_;
    setup.proxies_max = config_proxies_max;
    setup.listeners_max = listeners_max();
    setup.bindings_max = bindings_max();
    setup.port_pools_max = port_pools_max();
    setup.sessions_max = capacity_.sessions_max;
    setup.new_sessions = rate_of(config_.new_sessions);
    setup.pool_min = config_.pool_min;
    setup.descriptors_max = capacity_.descriptors_max;
    setup.slots_max = slots_max();
    setup.buffers_per_leg = buffers_per_leg();
    setup.report_sessions = config_.log_sessions;
    setup.key = key;
    setup.use = use_;
    setup.ports_start = ports_start_;
    return setup;
}

Result<void> Bootstrap::start_shards() {
    SipKey key;
    if (::getrandom(&key, sizeof key, 0) != sizeof key) return system_error("getrandom", errno);
    if (::getrandom(&ports_start_, sizeof ports_start_, 0) != sizeof ports_start_)
        return system_error("getrandom", errno);
    use_ = std::make_shared<SharedUse>(config_proxies_max, port_pools_max(), capacity_.sessions_max,
                                       key, listeners_max(), bindings_max());
    for (const ListenerSockets& listener : listener_sockets_)
        listener_queues_.push_back(std::make_shared<ListenerQueues>(descriptors_of(listener)));
    for (std::uint32_t shard = 0; shard < shard_count_; ++shard) {
        ShardSetup setup = setup_of_shard(shard, key);
        EngineSetup engine_setup;
        engine_setup.listeners_max = setup.listeners_max;
        engine_setup.slots_max = setup.slots_max;
        engine_setup.buffers_per_leg = setup.buffers_per_leg;
        engine_setup.busy_poll = config_.busy_poll;
        engine_setup.batch_wait = config_.batch_wait;
        for (std::size_t i = 0; i < listeners_.size(); ++i)
            engine_setup.listeners.push_back(ListenerSocket{
                std::move(listener_sockets_[i].sockets[shard]), listeners_[i].endpoint.family(),
                proxies_[listeners_[i].proxy].offload});
        Result<std::unique_ptr<ShardThread>> created =
            ShardThread::create(engine_, std::move(setup), std::move(engine_setup));
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

}  // namespace udpproxy
