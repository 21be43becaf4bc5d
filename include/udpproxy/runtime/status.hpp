// Roster: what is running, for those who look at it from outside the control thread (the admin
// thread, which makes status, metrics and listings of it). The supervisor fills it in and says what
// changes; whoever reads or changes it holds its mutex meanwhile. What shards count and hold is not
// in here: counters are read where they are, sessions are asked for (inspector.hpp).
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "udpproxy/config/config.hpp"
#include "udpproxy/runtime/shard_thread.hpp"
#include "udpproxy/shard/setup.hpp"

namespace udpproxy {

/// One socket of one listener: its queue's fill level and losses are asked of the kernel
/// (SO_MEMINFO).
struct ListenerWatch {
    std::uint16_t proxy = 0;
    std::string listen;
    int descriptor = -1;  // the shard's; stays valid while it stands here: take it off before the
                          // shard closes it
};

struct Roster {
    std::mutex mutex;

    const Config* config =
        nullptr;  // its proxies stand at the numbers that shards use; some may have gone
    std::string config_file;
    Engine engine = Engine::epoll;
    std::vector<ProxySetup> proxies;  // as the shards have them, with endpoints and limits
    std::vector<bool> draining;  // of each proxy: takes no new clients, by request or since it has
                                 // left the configuration
    std::vector<ListenerWatch> listeners;      // the shards' sockets of one address side by side
    std::vector<Endpoint> listener_endpoints;  // by the numbers that shards use
    const std::vector<std::unique_ptr<ShardThread>>* shards = nullptr;
    std::shared_ptr<SharedUse> use;
    std::uint32_t sessions_max = 0;
    std::uint32_t descriptors_max = 0;  // of reply groups
    std::chrono::system_clock::time_point started_at = std::chrono::system_clock::now();

    /// Serves, and takes new clients: what /ready says. Needs no mutex.
    std::atomic<bool> ready{false};
};

/// What a receive queue has lost and holds at the moment.
struct QueueState {
    std::uint64_t drops = 0;
    std::uint64_t bytes = 0;  // as the kernel accounts them: with its own bookkeeping
};
[[nodiscard]] QueueState queue_state(const ListenerWatch& listener);

/// The line of the configuration that would list `source` as well.
[[nodiscard]] std::string aliases_with(const ProxyConfig& proxy, const Endpoint& source);

}  // namespace udpproxy
