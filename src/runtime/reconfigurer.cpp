// Decides what happens between reloads: sets the addresses of names, drains proxies, and frees
// slots and upstream versions that the shards have released.
#include "udpproxy/runtime/reconfigurer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <thread>

#include "alias_numbers.hpp"
#include "change.hpp"
#include "udpproxy/config/one_proxy.hpp"
#include "udpproxy/runtime/shard_setup.hpp"

namespace udpproxy {

namespace {

constexpr Duration taken_within = std::chrono::seconds{1};
constexpr Duration look_pause = std::chrono::milliseconds{1};
// Half of all, so that names that change address again and again never make a reload impossible.
constexpr std::size_t name_versions_max = upstream_versions_max / 2;

/// Whether the present version in this slot matches its configuration and this address.
bool is_in_force(const ProxySlot& slot, const Endpoint& endpoint) {
    const std::shared_ptr<const Upstream> wanted = upstream_of(slot.config, endpoint, 0);
    return slot.upstream->endpoint() == endpoint && slot.upstream->aliases() == wanted->aliases() &&
           slot.upstream->alias_members() == wanted->alias_members();
}

}  // namespace

Reconfigurer::Reconfigurer(Config config, std::string config_file, Duration drain_timeout,
                           Bootstrap& bootstrap, Names& names, StatusBoard& board, Log& log,
                           Predecessor* predecessor)
    : config_file_(std::move(config_file)),
      drain_timeout_(drain_timeout),
      bootstrap_(bootstrap),
      names_(names),
      board_(board),
      log_(log) {
    state_.config = std::move(config);
    state_.proxies.resize(config_proxies_max);
    state_.capacity = bootstrap.capacity();
    state_.outbox.resize(bootstrap.shards().size());
    for (const auto& shard : bootstrap_.shards())
        state_.brought.push_back(state_.known_endpoints = shard->shard().known_endpoints);
    if (predecessor != nullptr)
        take_over(*predecessor);
    else
        take_over_start();
    publish();
    watch_network();
}

/// What the shards have started with.
void Reconfigurer::take_over_start() {
    Bootstrap& bootstrap = bootstrap_;
    state_.listeners.resize(bootstrap.listeners().size());
    const auto shards = static_cast<std::uint32_t>(bootstrap.shards().size());
    SharedUse& use = *bootstrap.use();
    for (std::size_t i = 0; i < bootstrap.proxies().size(); ++i) {
        ProxySlot& slot = state_.proxies[i];
        slot.state = SlotState::serving;
        slot.config = state_.config.proxies[i];
        slot.settings = bootstrap.proxies()[i];
        slot.upstream = bootstrap.proxies()[i].upstream;
        slot.versions = 1;
        (void)number_aliases(slot);
        slot.shown = status_of(*slot.upstream, slot.config);
        state_.versions.push_back({static_cast<std::uint16_t>(i), slot.upstream});
        use.proxies_held[i] = shards;
    }
    for (std::size_t i = 0; i < bootstrap.listeners().size(); ++i) {
        state_.listeners[i].state = SlotState::serving;
        state_.listeners[i].endpoint = bootstrap.listeners()[i].endpoint;
        state_.listeners[i].proxy = bootstrap.listeners()[i].proxy;
        state_.listeners[i].descriptors = bootstrap.listener_descriptors()[i];
        state_.listeners[i].queues = bootstrap.listener_queues()[i];
        use.listeners_held[i] = shards;
    }
    state_.sources.rows = binding_locations(bootstrap.proxies());
    BindingIndex next = 0;
    for (const BindingLocation& binding : state_.sources.rows) {
        ProxySlot& slot = state_.proxies[binding.proxy];
        if (slot.bindings.empty()) slot.first_binding = next;
        slot.bindings.push_back(binding);
        std::vector<Pool>& pools = state_.sources.pools;
        if (binding.port_pool >= pools.size()) pools.resize(binding.port_pool + 1);
        pools[binding.port_pool].address = binding.pool_address;
        pools[binding.port_pool].ranges.push_back(binding.ports);
        use.bindings_held[next++] = shards;
    }
}

/// If memory is short, a later look() makes the status. Until then readers have the last one.
void Reconfigurer::publish() {
    is_recorded_ = false;
    try {
        board_.set(make_status());
        is_published_ = true;
    } catch (const std::bad_alloc&) {
        is_published_ = false;
    }
}

/// Covers every slot that was ever taken, also vacant ones: their counters go on.
std::shared_ptr<const Status> Reconfigurer::make_status() const {
    auto status = std::make_shared<Status>();
    status->config_file = shown_config(config_file_);
    status->config = std::make_shared<const Config>(config_in_force());
    status->engine = bootstrap_.engine();
    status->started_at = started_at_;
    status->ready = is_ready();
    status->reloads = state_.reloads;
    status->reload_failures = reload_failures_;
    status->sessions_max = state_.capacity.sessions_max;
    status->descriptors_max = state_.capacity.descriptors_max;
    status->descriptors_fitting = bootstrap_.machine().descriptors;
    status->shards = bootstrap_.shards();
    status->use = bootstrap_.use();
    status->succession = succession_;
    for (std::uint16_t number = 0; number < state_.proxies.size(); ++number) {
        const ProxySlot& slot = state_.proxies[number];
        if (!slot.was_ever_used() || slot.superseded) continue;
        ProxyStatus& proxy = status->proxies.emplace_back();
        proxy.number = number;
        proxy.name = slot.config.name;
        for (const ListenAddress& listen : slot.config.listen)
            proxy.listen.push_back(listen.shown());
        proxy.reply_aliases = slot.config.reply_aliases;
        proxy.upstream = slot.shown;
        proxy.draining = slot.draining || state_.drain_deadline || slot.state != SlotState::serving;
        proxy.sessions_max = slot.settings.sessions_max;
        for (std::size_t i = 0; i < state_.config.proxies.size(); ++i)
            if (slot.state == SlotState::serving && state_.config.proxies[i].name == proxy.name)
                proxy.capacity = state_.capacity.proxies[i].arithmetic;
        for (const BindingLocation& binding : slot.bindings)
            proxy.ports += usable_ports(binding.ports, bootstrap_.machine().reserved_ports);
    }
    for (std::uint16_t number = 0; number < state_.listeners.size(); ++number) {
        const ListenerSlot& slot = state_.listeners[number];
        if (slot.state != SlotState::vacant)
            status->listeners.push_back({number, slot.proxy, slot.endpoint, slot.queues});
    }
    return status;
}

Config Reconfigurer::config_in_force() const {
    Config config = state_.config;
    for (ProxyConfig& proxy : config.proxies) {
        const std::optional<std::uint16_t> index = serving(proxy.name);
        if (index && state_.proxies[*index].upstream->is_resolved())
            proxy.upstream.endpoint = state_.proxies[*index].upstream->endpoint();
    }
    return config;
}

void Reconfigurer::withdraw_queues() {
    for (ListenerSlot& slot : state_.listeners)
        if (slot.queues) slot.queues->withdraw();
}

void Reconfigurer::look(Instant now) {
    take_addresses(now);
    follow_network(now);
    if (!is_published_) publish();
    if (unlogged_) log_reload();
    close_retired(now);
    set_known_endpoints();  // those of slots and versions that are free now go
    if (!is_recorded_) record();
    hand_over();
    free_vacated();
}

void Reconfigurer::take_addresses(Instant now) {
    for (Names::Found& found : names_.look(state_.config, now)) {
        const ProxySlot& slot = state_.proxies[found.proxy];
        const bool is_new = !slot.upstream->is_resolved();
        // Aliases configured together with the name come into force with its address, even if the
        // address is the same.
        if (!is_in_force(slot, found.endpoint)) {
            // A reload has made sure of a version for each name that it asks for. What a name
            // brings later must leave room for the next reload.
            if (!found.is_first && state_.versions.size() >= name_versions_max) {
                names_.put_off(found,
                               fmt::format("sessions hold {} versions of upstreams, and a name "
                                           "makes no more than {}",
                                           state_.versions.size(), name_versions_max),
                               now);
                continue;
            }
            Change change(*this);
            set_upstream(found.proxy, found.endpoint,
                         !is_new && slot.config.on_change == OnChange::close);
            set_source_bindings(found.proxy);
            set_known_endpoints();
            change.commit();
        }
        names_.settle(std::move(found), now);
        publish();
    }
    names_.log_settled();
}

bool Reconfigurer::drain(const std::optional<std::string>& proxy, Instant now) {
    if (!proxy && state_.drain_deadline) return true;
    const std::optional<std::uint16_t> index = proxy ? serving(*proxy) : all_proxies;
    if (!index) return false;
    Change change(*this);
    send_about_proxy(CommandKind::drain, *index);
    if (proxy) {
        state_.proxies[*index].draining = true;
        log_.info("draining", {{"proxy", *proxy},
                               {"sessions", bootstrap_.use()->proxies[*index].sessions.read()}});
    } else {
        state_.drain_deadline = now + drain_timeout_;
        log_.info("draining",
                  {{"sessions", bootstrap_.use()->sessions.read()},
                   {"seconds_at_most", std::chrono::duration<double>(drain_timeout_).count()}});
    }
    publish();
    change.commit();
    return true;
}

std::uint64_t Reconfigurer::sessions(const std::string& proxy) const {
    if (proxy.empty()) return bootstrap_.use()->sessions.read();
    const std::optional<std::uint16_t> index = serving(proxy);
    return index ? bootstrap_.use()->proxies[*index].sessions.read() : 0;
}

bool Reconfigurer::resume(const std::string& proxy) {
    const std::optional<std::uint16_t> index = serving(proxy);
    if (!index) return false;
    Change change(*this);
    send_about_proxy(CommandKind::resume, *index);
    state_.proxies[*index].draining = false;
    log_.info("resumed", {{"proxy", proxy}});
    publish();
    change.commit();
    return true;
}

bool Reconfigurer::has_drained(Instant now) const {
    return state_.drain_deadline &&
           (now >= *state_.drain_deadline || bootstrap_.use()->sessions.read() == 0);
}

/// Queues the command for all shards or, when memory is short, for none.
void Reconfigurer::send_to_all(const Command& command) {
    std::list<Command> copies(state_.outbox.size(), command);
    for (std::list<Command>& commands : state_.outbox)
        commands.splice(commands.end(), copies, copies.begin());
}

/// Sends the outbox. Slots are marked as held first, since a shard may release them at once.
void Reconfigurer::hand_over() noexcept {
    const ShardThreads& shards = bootstrap_.shards();
    for (std::atomic<std::uint32_t>* holders : state_.newly_held)
        *holders = static_cast<std::uint32_t>(shards.size());
    state_.newly_held.clear();
    for (std::size_t shard = 0; shard < shards.size(); ++shard)
        shards[shard]->send(std::exchange(state_.outbox[shard], {}));
}

void Reconfigurer::send_about_proxy(CommandKind kind, std::uint16_t proxy) {
    Command command;
    command.kind = kind;
    command.proxy = proxy;
    send_to_all(command);
}

void Reconfigurer::set_limits(const Config& wanted) {
    Command command;
    command.kind = CommandKind::set_limits;
    command.sessions_max = state_.capacity.sessions_max;
    command.descriptors_max = state_.capacity.descriptors_max;
    command.new_sessions = rate_of(wanted.new_sessions);
    command.pool_min = wanted.pool_min;
    command.report_sessions = wanted.log_sessions;
    send_to_all(command);
}

/// A change that is reported as done must be in force for every client that comes afterwards. A
/// shard takes some commands in each turn. A stuck shard is waited for no longer than taken_within.
void Reconfigurer::wait_until_taken() noexcept {
    const Instant end = monotonic_now() + taken_within;
    const auto has_taken_all = [](const auto& shard) { return shard->has_taken_all(); };
    const ShardThreads& shards = bootstrap_.shards();
    while (!std::all_of(shards.begin(), shards.end(), has_taken_all) && monotonic_now() < end)
        std::this_thread::sleep_for(look_pause);
}

/// Makes a new version: the configuration in this slot with this endpoint.
void Reconfigurer::set_upstream(std::uint16_t proxy, const Endpoint& endpoint, bool close_older) {
    ProxySlot& slot = state_.proxies[proxy];
    slot.upstream = upstream_of(slot.config, endpoint, ++slot.versions, number_aliases(slot));
    slot.shown = status_of(*slot.upstream, slot.config);
    state_.versions.push_back({proxy, slot.upstream});
    Command command;
    command.kind = CommandKind::set_upstream;
    command.proxy = proxy;
    if (close_older) slot.closes_below = slot.versions;
    command.closes_below = slot.closes_below;
    command.upstream = slot.upstream;
    send_to_all(command);
}

bool Reconfigurer::has_listeners(std::uint16_t proxy) const {
    return std::any_of(state_.listeners.begin(), state_.listeners.end(),
                       [&](const ListenerSlot& slot) {
                           return slot.state != SlotState::vacant && slot.proxy == proxy;
                       });
}

std::optional<std::uint16_t> Reconfigurer::serving(const std::string& name) const {
    for (std::uint16_t index = 0; index < state_.proxies.size(); ++index) {
        if (state_.proxies[index].state == SlotState::serving &&
            state_.proxies[index].config.name == name)
            return index;
    }
    return std::nullopt;
}

/// The command comes first: without memory for it the slot stays retired, and a later look() tries
/// again. All shards must close a listener at once. If one shard closed earlier, the kernel would
/// move the clients of the other shards to sockets that do not know them.
void Reconfigurer::close_retired(Instant now) {
    const SharedUse& use = *bootstrap_.use();
    for (std::uint16_t index = 0; index < state_.listeners.size(); ++index) {
        ListenerSlot& slot = state_.listeners[index];
        if (slot.state != SlotState::retired ||
            (use.listener_sessions[index].read() > 0 && now < slot.deadline))
            continue;
        Command command;
        command.kind = CommandKind::close_listener;
        command.listener = index;
        send_to_all(command);
        slot.state = SlotState::closing;
        if (slot.queues) slot.queues->withdraw();
        slot.queues.reset();
        publish();
    }
    for (std::uint16_t index = 0; index < state_.proxies.size(); ++index) {
        ProxySlot& slot = state_.proxies[index];
        if (slot.state != SlotState::retired || has_listeners(index)) continue;
        if (use.proxies[index].sessions.read() > 0 && now < slot.deadline) continue;
        send_about_proxy(CommandKind::close_proxy, index);
        slot.state = SlotState::closing;
    }
}

void Reconfigurer::free_vacated() {
    SharedUse& use = *bootstrap_.use();
    for (std::size_t index = 0; index < state_.listeners.size(); ++index) {
        ListenerSlot& slot = state_.listeners[index];
        if (slot.state != SlotState::closing ||
            use.listeners_held[index].load(std::memory_order_acquire) > 0)
            continue;
        log_.info("listener_closed", {{"proxy", state_.proxies[slot.proxy].config.name},
                                      {"listen", format(slot.endpoint)}});
        // Its endpoint is still wanted by the lines about its last sessions.
        slot.state = SlotState::vacant;
        publish();
    }
    for (std::size_t index = 0; index < state_.proxies.size(); ++index) {
        ProxySlot& slot = state_.proxies[index];
        if (slot.state != SlotState::closing ||
            use.proxies_held[index].load(std::memory_order_acquire) > 0)
            continue;
        log_.info("proxy_gone", {{"proxy", slot.config.name}});
        slot.state = SlotState::vacant;
        slot.draining = false;
        slot.upstream.reset();
        slot.bindings.clear();
        publish();
    }
    // A use count of 1 means that only this list holds it, and no other holder can appear.
    std::erase_if(state_.versions,
                  [](const UpstreamVersion& held) { return held.upstream.use_count() == 1; });
    std::erase_if(state_.brought, [](const auto& held) { return held.use_count() == 1; });
}

}  // namespace udpproxy
