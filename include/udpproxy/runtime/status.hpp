// Status: one immutable snapshot of the running program, for the admin thread. The control thread
// publishes a new one, as a whole, after every change. A reader takes the pointer once and works
// with that version to its end. Only the shards' counters are read in place, and sessions are asked
// for (admin/shard_query.hpp). A session may be newer than the snapshot, so proxies and listeners
// are found by number through functions that may return null.
#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "udpproxy/base/published.hpp"
#include "udpproxy/config/config.hpp"
#include "udpproxy/keeper/worker_start.hpp"
#include "udpproxy/runtime/shard_thread.hpp"
#include "udpproxy/shard/setup.hpp"

namespace udpproxy {

/// Losses of a receive queue, and its present content.
struct QueueState {
    std::uint64_t drops = 0;
    std::uint64_t bytes = 0;  // as the kernel accounts them: with its own overhead
};

/// The receive queues of one listening address, one socket in each shard, read from the kernel
/// (SO_MEMINFO). The descriptors belong to the shards. The control thread withdraws them before it
/// has a socket closed, so that no reader uses a descriptor that has become another file's.
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

/// A version of a proxy's upstream, as shown to operators.
struct UpstreamStatus {
    struct AliasStatus {
        std::string text;
        std::uint8_t counter_index = 0;  // of its replies
    };
    std::string text;   // as configured
    Endpoint endpoint;  // port 0: the host name has no address yet
    std::vector<AliasStatus> aliases;
};

/// Whether the version was made of this configuration.
[[nodiscard]] UpstreamStatus status_of(const Upstream& upstream, const ProxyConfig& config);

struct ProxyStatus {
    std::uint16_t number = 0;  // as shards and counters use it
    std::string name;
    std::vector<std::string> listen;
    std::vector<Alias> reply_aliases;  // as configured; those in force are in `upstream`
    UpstreamStatus upstream;           // the version in force
    bool draining = false;             // no new clients: by request, or no longer configured
    std::uint32_t sessions_max = 0;
    std::string capacity;     // the arithmetic of ProxyCapacity; empty once a reload has removed it
    std::uint64_t ports = 0;  // of all its source addresses together
};

struct ListenerStatus {
    std::uint16_t number = 0;  // as shards use it
    std::uint16_t proxy = 0;
    Endpoint endpoint;
    std::shared_ptr<const ListenerQueues> queues;
};

/// How this process came to serve, and what it took over from the one before.
struct Succession {
    StartReason reason = StartReason::first;
    std::array<std::uint64_t, start_reasons> starts{};  // of workers, by reason
    std::string from_version;                           // empty: there was no worker before
    std::string last_end;  // of the worker before: `signal 9 (Killed)`; empty: in order
    std::uint64_t sessions_adopted = 0;
    std::uint64_t sessions_closed = 0;       // whose group or listener could not be adopted
    std::uint64_t records_not_believed = 0;  // of groups and listeners
    std::optional<Duration> pause;           // in which no datagram was forwarded
    std::uint64_t upgrades_refused = 0;      // of those that this worker was asked for
    std::string last_refusal;
};
/// `replaced by an upgrade from 0.1.0, 200 sessions adopted, pause 24 ms`; empty: this worker is
/// the first.
[[nodiscard]] std::string text_of(const Succession& succession);

struct Status {
    std::string config_file;               // its name, or that of the command line
    std::shared_ptr<const Config> config;  // in force; host names with their present addresses
    Engine engine = Engine::epoll;
    std::chrono::system_clock::time_point started_at;
    bool ready = false;  // takes new clients: the answer of /ready
    std::uint64_t reloads = 0;
    std::uint64_t reload_failures = 0;
    std::uint32_t sessions_max = 0;
    std::uint32_t descriptors_max = 0;      // of reply groups
    std::uint64_t descriptors_fitting = 0;  // that the tables were made for
    std::vector<ProxyStatus> proxies;       // by number, with gaps; each name once
    std::vector<ListenerStatus> listeners;  // by number, with gaps
    ShardThreads shards;
    std::shared_ptr<const SharedUse> use;
    Succession succession;

    /// Null: the number is newer than this snapshot, or has gone.
    [[nodiscard]] const ProxyStatus* find_proxy(std::uint16_t number) const;
    [[nodiscard]] const ProxyStatus* find_proxy(std::string_view name) const;
    [[nodiscard]] const ListenerStatus* find_listener(std::uint16_t number) const;
};

using StatusBoard = Published<Status>;

/// The configuration line that lists `source` in addition; with `any_port` its address with every
/// port: a service that answers from two ports of one address will come from a third one.
[[nodiscard]] std::string aliases_with(const std::vector<Alias>& aliases, const Endpoint& source,
                                       bool any_port);
/// Whether two sources are of the same address, and no more.
[[nodiscard]] bool differ_in_port(const Endpoint& one, const Endpoint& other) noexcept;

}  // namespace udpproxy
