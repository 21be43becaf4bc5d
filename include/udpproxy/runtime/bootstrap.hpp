// Bootstrap: the start, from a checked configuration to shards that serve. The steps are names,
// capacity, engine, listeners, shards; each may fail with a message. Everything after the start
// belongs to the reconfigurer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "udpproxy/config/capacity.hpp"
#include "udpproxy/config/config.hpp"
#include "udpproxy/host/handed_sockets.hpp"
#include "udpproxy/host/limits.hpp"
#include "udpproxy/ledger/ledger.hpp"
#include "udpproxy/log/log.hpp"
#include "udpproxy/net/listener.hpp"
#include "udpproxy/runtime/predecessor.hpp"
#include "udpproxy/runtime/resolver.hpp"
#include "udpproxy/runtime/shard_thread.hpp"
#include "udpproxy/runtime/status.hpp"

namespace udpproxy {

class Bootstrap {
public:
    Bootstrap(const Config& config, Log& log) : config_(config), log_(log) {}

    /// Asks for the names and waits a moment for the first answers. A proxy whose name has no
    /// answer starts all the same. `stops(pause)` waits for at most `pause` or until the names'
    /// descriptor is readable, and returns whether to give up; this function then returns false.
    [[nodiscard]] bool prepare_proxies(Names& names, const std::function<bool(Duration)>& stops);
    // With a predecessor what it has is gone on from, and its clients wait meanwhile.

    /// The numbers of the configuration that cannot fit; empty when all fit. The number of shards
    /// is the predecessor's.
    [[nodiscard]] std::vector<std::string> compute_capacity(
        const Predecessor* predecessor = nullptr);
    /// Makes the ledger of this process. Without one, sessions end with the process, and a line
    /// says so.
    void make_ledger();
    /// After a predecessor there is no trial: the rings of the shards are.
    [[nodiscard]] Result<void> choose_engine(const Predecessor* predecessor = nullptr);
    void log_capacity();
    /// Keeps the sockets that a service manager has handed over, for the listeners of their
    /// addresses, and logs and closes what no listener wants. Returns what keeps them from serving;
    /// empty when they do.
    [[nodiscard]] std::vector<std::string> take_handed(HandedSockets handed);
    /// Opens the listeners and starts the shards. With engine "auto" every shard uses epoll when
    /// io_uring is refused to one of them.
    ///
    /// With a predecessor it creates the shards without proxies and listeners: the reconfigurer
    /// brings these, and each shard adopts its part in start_adopting(), before begin_shards().
    [[nodiscard]] Result<void> begin(Predecessor* predecessor = nullptr);
    [[nodiscard]] Result<void> start_adopting(std::vector<Adoption>& adoptions);
    void begin_shards();

    [[nodiscard]] ShardThreads& shards() { return shards_; }
    [[nodiscard]] const std::vector<ProxySetup>& proxies() const { return proxies_; }
    [[nodiscard]] const std::vector<ListenerSetup>& listeners() const { return listeners_; }
    /// By listener.
    [[nodiscard]] const std::vector<std::shared_ptr<ListenerQueues>>& listener_queues() const {
        return listener_queues_;
    }
    /// By listener, then by shard.
    [[nodiscard]] const std::vector<std::vector<int>>& listener_descriptors() const {
        return listener_descriptors_;
    }
    [[nodiscard]] Engine engine() const { return engine_; }
    [[nodiscard]] const std::shared_ptr<SharedUse>& use() const { return use_; }
    [[nodiscard]] const Capacity& capacity() const { return capacity_; }
    [[nodiscard]] std::uint64_t ports_start() const { return ports_start_; }
    /// The limit that the tables were made for: where address space is short, fewer descriptors
    /// than RLIMIT_NOFILE allows.
    [[nodiscard]] const MachineLimits& machine() const { return machine_; }
    [[nodiscard]] const TableSizes& tables() const { return tables_; }
    /// Null: there is none.
    [[nodiscard]] const std::shared_ptr<Ledger>& ledger() const { return ledger_; }

private:
    void take_upstreams(Names& names, Instant now);
    [[nodiscard]] std::uint32_t count_shards();
    [[nodiscard]] Result<void> create_shards(Predecessor* predecessor);
    [[nodiscard]] std::optional<int> cpu_of(std::uint32_t shard) const;
    [[nodiscard]] ShardSetup setup_of_shard(std::uint32_t shard, const SipKey& key) const;
    [[nodiscard]] Result<void> open_all_listeners();
    [[nodiscard]] Result<void> start_shards();
    [[nodiscard]] Result<void> create_shards(const SipKey& key);
    [[nodiscard]] std::vector<Socket> handed_for(const Endpoint& endpoint);
    /// The sockets of every listener that belong to this shard.
    [[nodiscard]] std::vector<ListenerSocket> take_sockets(std::uint32_t shard);

    const Config& config_;
    Log& log_;
    Engine engine_ = Engine::epoll;
    std::string engine_reason_;
    std::vector<int> cpus_ = usable_cpus();
    std::vector<ProxySetup> proxies_;
    MachineLimits machine_;
    TableSizes tables_;
    Capacity capacity_;
    std::uint64_t ports_start_ = 0;
    std::shared_ptr<Ledger> ledger_;
    std::shared_ptr<SharedUse> use_;
    std::vector<HandedSocket> handed_;
    std::vector<ListenerSetup> listeners_;
    std::vector<ListenerSockets> listener_sockets_;
    std::vector<std::vector<int>> listener_descriptors_;
    std::vector<std::shared_ptr<ListenerQueues>> listener_queues_;
    ShardThreads shards_;
};

}  // namespace udpproxy
