// Start: from a checked configuration to shards that serve, step by step, each of which may fail with a sentence: names, room, engine, listeners,
// shards. What happens from then on is the operation's affair.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "machine.hpp"
#include "names.hpp"
#include "room.hpp"
#include "roster.hpp"
#include "shard_thread.hpp"
#include "signals.hpp"
#include "udpproxy/control/config.hpp"
#include "udpproxy/control/log.hpp"

namespace udpproxy {

class Start {
public:
    Start(const Config& config, Log& log) : config_(config), log_(log) {}

    /// Asks for the names and waits a moment for the first answers; a proxy whose name has none starts all the same. Returns the signal to stop that
    /// came meanwhile, or 0.
    [[nodiscard]] int prepare_proxies(Names& names, const Signals& signals);
    /// Numbers that cannot fit; empty when all is well.
    [[nodiscard]] std::vector<std::string> reckon();
    [[nodiscard]] Result<void> choose_engine();
    void tell_room();
    [[nodiscard]] Result<void> open_all_listeners();
    [[nodiscard]] Result<void> start_shards();
    /// What the admin thread may see from now on.
    void tell(Roster& roster) const;

    [[nodiscard]] std::vector<std::unique_ptr<ShardThread>>& shards() { return shards_; }
    [[nodiscard]] const std::vector<ProxySetup>& proxies() const { return proxies_; }
    [[nodiscard]] std::uint32_t sessions_max() const { return room_.sessions_max; }

private:
    void take_upstreams(const std::vector<Names::Found>& found);
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
    const bool trains_supported_ = trains_supported();
    std::vector<ProxySetup> proxies_;
    Room room_;
    std::vector<ListenerSetup> listeners_;
    std::vector<ListenerSockets> listener_sockets_;
    std::vector<ListenerWatch> listener_watches_;
    std::shared_ptr<SharedUse> use_;
    std::vector<std::unique_ptr<ShardThread>> shards_;
};

}  // namespace udpproxy
