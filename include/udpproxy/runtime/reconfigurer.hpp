// Reconfigurer: the control thread's view of the running program: the slot of each proxy and
// listener in the shards, what is in force, and what is closing. It turns each change (a new
// configuration, a new address of a name, a request to drain) into commands to the shards. Called
// by the daemon between signals, and by control queries in the same thread.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "udpproxy/config/config.hpp"
#include "udpproxy/host/network_watch.hpp"
#include "udpproxy/keeper/worker_start.hpp"
#include "udpproxy/log/log.hpp"
#include "udpproxy/runtime/bootstrap.hpp"
#include "udpproxy/runtime/plan.hpp"
#include "udpproxy/runtime/resolver.hpp"
#include "udpproxy/runtime/status.hpp"

namespace udpproxy {

/// The state of a slot in the shards, for a proxy or a listener.
enum class SlotState : std::uint8_t {
    vacant,
    serving,
    retired,  // takes no new clients; sessions go on until they end or the deadline comes
    closing,  // shards are releasing it
};

/// The number under which an alias's replies are counted. An alias keeps its number through
/// reloads.
struct AliasCounter {
    Prefix prefix;
    std::uint32_t scope = 0;
    std::optional<std::uint16_t> port;
    std::uint8_t number = 0;
};

struct ProxySlot {
    SlotState state = SlotState::vacant;
    bool draining = false;  // by request
    ProxyConfig config;     // of the latest proxy in this slot
    ProxySettings settings;
    std::shared_ptr<const Upstream> upstream;
    UpstreamStatus shown;  // `upstream` with its texts; the configuration may be newer
    std::uint32_t versions = 0;
    std::uint32_t closes_below = 0;  // sessions of earlier versions end
    std::vector<BindingLocation> bindings;
    BindingIndex first_binding = 0;  // number of the first of them; the others follow
    std::vector<AliasCounter>
        alias_counters;       // of all aliases that the proxy ever had, while numbers last
    Instant deadline{};       // when retired
    bool superseded = false;  // its name got another slot while this one was closing

    [[nodiscard]] bool was_ever_used() const noexcept { return versions > 0; }
};

struct ListenerSlot {
    SlotState state = SlotState::vacant;
    Endpoint endpoint;
    std::uint16_t proxy = 0;
    std::vector<int> descriptors;            // by shard
    std::shared_ptr<ListenerQueues> queues;  // null: must not be read
    Instant deadline{};                      // when retired
};

class Reconfigurer {
public:
    /// Publishes a status on `board`, now and after every change. `drain_timeout` bounds how long a
    /// retired or drained proxy or listener may go on. With a predecessor the shards have not
    /// started: adopt() starts them.
    Reconfigurer(Config config, std::string config_file, Duration drain_timeout,
                 Bootstrap& bootstrap, Names& names, StatusBoard& board, Log& log,
                 Predecessor* predecessor = nullptr);

    /// Lets the shards adopt what the predecessor has left, if there is one. Errors: a listener
    /// that is in force, whose sockets have gone, cannot be opened again; a shard cannot start.
    [[nodiscard]] Result<void> adopt(Predecessor* predecessor);
    /// Tells, in the log and in the status, why this process has started, and what it has adopted.
    void note_start(const WorkerStart& start, const Predecessor* predecessor);
    /// Asks the keeper to put the program's file in this one's place. False: it takes no message
    /// at the moment. Empty: there is no keeper.
    std::function<bool()> ask_for_upgrade;
    /// Tells, in the log and in the status, why the keeper has left all as it was.
    void note_refused_upgrade(const std::string& reason);
    /// Writes the ledger's record of the state, so that another process can go on from it. May
    /// throw std::bad_alloc.
    void record();

    /// Asks for names and takes their answers, follows changes of the network, closes what has
    /// drained, and frees what the shards have released. Called a few times a second, and when the
    /// names' descriptor is readable.
    void look(Instant now);

    /// Reads the configuration file again and brings the program to it. Returns lines for the
    /// operator: what was done, or why nothing was done. The log has the same lines.
    struct Reload {
        bool done = false;
        std::vector<std::string> lines;
        std::vector<KeyChange> keys;  // key_changes_told_max at most
    };
    Reload reload(Instant now);
    /// Called by reload(), whoever asks for it, before it begins and when it is over.
    std::function<void()> reload_begins = [] {};
    std::function<void(const Reload&)> reload_ends = [](const Reload&) {};
    [[nodiscard]] std::uint64_t reloads() const { return state_.reloads; }

    /// Stops new sessions of the named proxy or of all. For all, has_drained() is true once the
    /// last session has ended or the time is over. False: there is no proxy of that name.
    bool drain(const std::optional<std::string>& proxy, Instant now);
    /// Ends the drain of a proxy. False: there is no proxy of that name.
    bool resume(const std::string& proxy);
    [[nodiscard]] bool has_drained(Instant now) const;
    /// Whether new clients are taken: false from the first moment of a drain of all.
    [[nodiscard]] bool is_ready() const { return !state_.drain_deadline; }
    /// Sessions of the named proxy, or of all (empty).
    [[nodiscard]] std::uint64_t sessions(const std::string& proxy) const;
    /// The latest end of the drain of all; absent: there is none.
    [[nodiscard]] const std::optional<Instant>& drain_deadline() const {
        return state_.drain_deadline;
    }

    [[nodiscard]] const Config& config() const { return state_.config; }
    /// By the numbers that shards, counters and events use. Slots that were never taken have no
    /// name.
    [[nodiscard]] const std::vector<ProxySlot>& proxies() const { return state_.proxies; }
    [[nodiscard]] const std::vector<ListenerSlot>& listeners() const { return state_.listeners; }
    [[nodiscard]] const ShardThreads& shards() const { return bootstrap_.shards(); }
    [[nodiscard]] const Names& names() const { return names_; }
    /// Called before the shards close their sockets: no reader may touch a queue after that.
    void withdraw_queues();

private:
    struct Pool {
        Address address;
        std::vector<PortRange> ranges;
        std::uint64_t used = 0;  // the latest grant that used it
    };
    /// The source bindings and port pools of the shards. A change is prepared on a copy, so that
    /// one that does not fit leaves no trace.
    struct Sources {
        std::vector<Pool> pools;
        std::vector<BindingLocation> rows;  // by binding; its latest content
        std::vector<bool> held;             // by binding; held by a shard, or granted since
        std::uint64_t grants = 0;
    };
    /// Everything that a change undoes when memory runs out half way.
    struct State {
        Config config;
        std::vector<ProxySlot> proxies;
        std::vector<ListenerSlot> listeners;  // that were ever taken
        Capacity capacity;
        Sources sources;
        // Every version that a shard may hold.
        std::vector<UpstreamVersion> versions;
        std::shared_ptr<const KnownEndpoints> known_endpoints;  // the latest that the shards got
        // The objects that commands carry, until every shard has taken them.
        std::vector<std::shared_ptr<const void>> brought;
        std::uint64_t reloads = 0;
        std::optional<Instant> drain_deadline;
        // By shard: the commands that hand_over() sends.
        std::vector<std::list<Command>> outbox;
        // Counters of slots that all shards hold as soon as the outbox is sent.
        std::vector<std::atomic<std::uint32_t>*> newly_held;
    };
    /// Undoes changes of the state on destruction, unless they were committed.
    class Change;
    /// The source bindings that a proxy gets.
    struct BindingGrant {
        struct Change {
            std::uint32_t pool = 0;
            bool is_fresh = false;  // belonged to another address before
        };
        BindingIndex first = 0;
        std::vector<BindingLocation> bindings;
        std::vector<Change> changes;
    };
    /// A reload that is ready to be carried out: everything that may be refused is done.
    struct Preparation;

    // adopting.cpp
    [[nodiscard]] ControlRecord make_record() const;
    [[nodiscard]] bool is_in_use(BindingIndex binding) const;
    void take_over(const Predecessor& predecessor);
    [[nodiscard]] Result<void> take_over(const ControlRecord::Listener& from,
                                         const std::vector<int>& descriptors);
    [[nodiscard]] Result<std::vector<Adoption>> adoptions(Predecessor& predecessor);
    void bring_bindings(std::uint16_t proxy, const Predecessor& predecessor);

    // reconfigurer.cpp
    void take_over_start();
    void take_addresses(Instant now);
    void send_to_all(const Command& command);
    void hand_over() noexcept;
    void send_about_proxy(CommandKind kind, std::uint16_t proxy);
    void set_upstream(std::uint16_t proxy, const Endpoint& endpoint, bool close_older);
    void set_source_bindings(std::uint16_t proxy);
    void publish();
    [[nodiscard]] std::shared_ptr<const Status> make_status() const;
    [[nodiscard]] Config config_in_force() const;
    void set_limits(const Config& wanted);
    void wait_until_taken() noexcept;
    void close_retired(Instant now);
    void free_vacated();
    [[nodiscard]] bool has_listeners(std::uint16_t proxy) const;
    [[nodiscard]] std::optional<std::uint16_t> serving(const std::string& name) const;

    // reload.cpp
    Reload attempt_reload(Instant now);
    [[nodiscard]] std::vector<std::string> prepare(Config& wanted, Preparation& preparation);
    [[nodiscard]] std::string plan_proxies(const Config& wanted, Preparation& preparation) const;
    [[nodiscard]] std::string find_slots(const Config& wanted, Preparation& preparation) const;
    [[nodiscard]] const ListenerSlot* covering_listener(const Endpoint& endpoint) const;
    [[nodiscard]] std::string note_covered(const Config& wanted, Plan& plan) const;
    [[nodiscard]] std::string open_new_listeners(const Config& wanted, Preparation& preparation);
    void bring_about(Config wanted, const std::shared_ptr<Preparation>& preparation, Instant now);
    void log_reload();
    Reload reject(std::vector<std::string> reasons);

    // carry_out.cpp
    void carry_out(const Config& wanted, Preparation& preparation, Instant now);
    void bring_proxy(std::uint16_t index, const ProxyConfig& wanted, const ProxyCapacity& capacity,
                     Preparation& preparation);
    [[nodiscard]] const ProxyConfig* owner_of(const Config& wanted, const Endpoint& endpoint) const;
    void bring_listeners(const Config& wanted, Preparation& preparation, Instant now);
    void bring_listener(std::uint16_t number, ListenerSockets& opened);
    void ask_for_name(std::uint16_t proxy);
    void set_known_endpoints();

    // network_changes.cpp
    void watch_network();
    void follow_network(Instant now);
    void follow_interfaces(Instant now);
    void log_interface_failures(std::vector<std::string> reasons);

    // source_bindings.cpp
    void note_held(Sources& sources) const;
    [[nodiscard]] std::string grant_bindings(Sources& sources,
                                             std::vector<BindingLocation> bindings,
                                             BindingGrant& grant) const;
    void bring_bindings(std::uint16_t proxy, BindingGrant grant);

    State state_;
    std::string config_file_;
    Duration drain_timeout_;
    Bootstrap& bootstrap_;
    Names& names_;
    StatusBoard& board_;
    bool is_published_ = false;  // the newest status was made
    bool is_recorded_ = false;   // the ledger has the present state
    Succession succession_;
    std::chrono::system_clock::time_point started_at_ = std::chrono::system_clock::now();
    Log& log_;
    std::shared_ptr<const Preparation> unlogged_;  // a reload with lines that are not written yet
    std::uint64_t reload_failures_ = 0;
    NetworkWatch network_;
    std::optional<Instant> interfaces_again_at_;   // when to follow interfaces
    std::vector<std::string> interface_failures_;  // of the latest time, logged
    bool sources_unseen_ = false;                  // the shards have yet to look at their sources
};

}  // namespace udpproxy
