// Status: one immutable snapshot of what runs, for the admin thread. The control thread makes a new
// one whenever something changes and publishes it as a whole; a reader takes the pointer once and
// works with that version to its end. Only what the shards count themselves is read where they
// write it, and sessions are asked for (admin/shard_query.hpp): a session may be newer than the
// snapshot, so nothing here is found by an index, but by number through a function that may say no.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "udpproxy/base/published.hpp"
#include "udpproxy/config/config.hpp"
#include "udpproxy/runtime/shard_thread.hpp"
#include "udpproxy/shard/setup.hpp"

namespace udpproxy {

/// What a receive queue has lost and holds at the moment.
struct QueueState {
    std::uint64_t drops = 0;
    std::uint64_t bytes = 0;  // as the kernel accounts them: with its own bookkeeping
};

/// The receive queues of one listening address, one socket in each shard, asked of the kernel
/// (SO_MEMINFO). The descriptors belong to the shards: the control thread withdraws them before it
/// asks for a socket to be closed, so that no reader meets a descriptor that has become another
/// file's.
class ListenerQueues {
public:
    explicit ListenerQueues(std::vector<int> descriptors) : descriptors_(std::move(descriptors)) {}

    /// The sum over the sockets.
    [[nodiscard]] QueueState read() const;
    void withdraw();
    void withdraw(int descriptor);

private:
    mutable std::mutex mutex_;  // held for as many system calls as there are shards
    std::vector<int> descriptors_;
};

/// A version of a proxy's upstream as it is shown.
struct UpstreamStatus {
    struct AliasStatus {
        std::string text;
        std::uint8_t counter_index = 0;  // its replies are counted there
    };
    std::string text;   // as configured
    Endpoint endpoint;  // port 0: the host name has no address yet
    std::vector<AliasStatus> aliases;
};

/// A version that was made of this configuration.
[[nodiscard]] UpstreamStatus status_of(const Upstream& upstream, const ProxyConfig& config);

struct ProxyStatus {
    std::uint16_t number = 0;  // that shards and counters use
    std::string name;
    std::vector<Endpoint> listen;
    std::vector<Alias> reply_aliases;  // as configured; what is in force stands in `upstream`
    UpstreamStatus upstream;           // the version in force
    bool draining = false;             // takes no new clients, by request or since it has left the
                                       // configuration
    std::uint32_t sessions_max = 0;
    std::uint64_t ports = 0;  // at all of its source addresses together
};

struct ListenerStatus {
    std::uint16_t number = 0;  // that shards use
    std::uint16_t proxy = 0;
    Endpoint endpoint;
    std::shared_ptr<const ListenerQueues> queues;
};

struct Status {
    std::string config_file;
    std::shared_ptr<const Config> config;  // in force, host names with the addresses they have now
    Engine engine = Engine::epoll;
    std::chrono::system_clock::time_point started_at;
    bool ready = false;  // takes new clients: what /ready says
    std::uint64_t reloads = 0;
    std::uint64_t reload_failures = 0;
    std::uint32_t sessions_max = 0;
    std::uint32_t descriptors_max = 0;      // of reply groups
    std::vector<ProxyStatus> proxies;       // by number, with gaps; each name once
    std::vector<ListenerStatus> listeners;  // by number, with gaps
    ShardThreads shards;
    std::shared_ptr<const SharedUse> use;

    /// Null: it came after this snapshot, or has gone.
    [[nodiscard]] const ProxyStatus* find_proxy(std::uint16_t number) const;
    [[nodiscard]] const ProxyStatus* find_proxy(std::string_view name) const;
    [[nodiscard]] const ListenerStatus* find_listener(std::uint16_t number) const;
};

using StatusBoard = Published<Status>;

/// The line of the configuration that would list `source` as well.
[[nodiscard]] std::string aliases_with(const std::vector<Alias>& aliases, const Endpoint& source);

}  // namespace udpproxy
