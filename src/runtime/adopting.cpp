// The control thread's state as a record of the ledger, and how it is gone on from: the same
// numbers stand for the same proxies, listeners, source bindings and pools as in the process
// before, so that the records of groups need no translation.
#include <fmt/format.h>

#include <algorithm>

#include "listeners.hpp"
#include "udpproxy/host/limits.hpp"
#include "udpproxy/runtime/predecessor.hpp"
#include "udpproxy/runtime/reconfigurer.hpp"
#include "udpproxy/runtime/shard_setup.hpp"

namespace udpproxy {

namespace {

ControlRecord::State state_of(SlotState state) {
    return state == SlotState::serving   ? ControlRecord::State::serving
           : state == SlotState::retired ? ControlRecord::State::retired
                                         : ControlRecord::State::closing;
}

ControlRecord::PortSpan span_of(const PortRange& range) {
    return {range.first, range.last, range.spares_reserved};
}

PortRange range_of(const ControlRecord::PortSpan& span) {
    return {span.first, span.last, span.spares_reserved};
}

ControlRecord::Version version_of(std::uint16_t proxy, const Upstream& upstream) {
    ControlRecord::Version version;
    version.proxy = proxy;
    version.version = upstream.version();
    version.endpoint = upstream.endpoint();
    version.open = upstream.alias_members() == AliasMembers::open;
    for (std::size_t i = 0; i < upstream.aliases().size(); ++i) {
        const AliasRule& alias = upstream.aliases()[i];
        version.aliases.push_back(
            {alias.prefix, alias.scope, alias.port, upstream.counter_index(i)});
    }
    return version;
}

}  // namespace

ControlRecord Reconfigurer::make_record() const {
    ControlRecord record;
    record.program_version = UDPPROXY_VERSION;
    record.toml = toml_of(state_.config);
    record.reloads = state_.reloads;
    record.drain_deadline = state_.drain_deadline;
    const SharedUse& use = *bootstrap_.use();
    for (std::uint16_t number = 0; number < state_.proxies.size(); ++number) {
        const ProxySlot& slot = state_.proxies[number];
        if (slot.state == SlotState::vacant) continue;
        ControlRecord::Proxy& proxy = record.proxies.emplace_back();
        proxy.number = number;
        proxy.state = state_of(slot.state);
        proxy.draining = slot.draining;
        proxy.superseded = slot.superseded;
        proxy.toml = toml_of(slot.config);
        proxy.versions = slot.versions;
        proxy.upstream_version = slot.upstream->version();
        proxy.closes_below = slot.closes_below;
        proxy.deadline = slot.deadline;
        for (const AliasCounter& counter : slot.alias_counters)
            proxy.alias_counters.push_back(
                {counter.prefix, counter.scope, counter.port, counter.number});
    }
    for (const UpstreamVersion& held : state_.versions)
        record.versions.push_back(version_of(held.proxy, *held.upstream));
    for (std::uint16_t number = 0; number < state_.listeners.size(); ++number) {
        const ListenerSlot& slot = state_.listeners[number];
        if (slot.state == SlotState::vacant) continue;
        record.listeners.push_back({number, state_of(slot.state), slot.endpoint, slot.proxy,
                                    slot.deadline, slot.descriptors});
    }
    const Sources& sources = state_.sources;
    for (std::uint32_t number = 0; number < sources.rows.size(); ++number) {
        const BindingLocation& row = sources.rows[number];
        const bool in_use = is_in_use(number);
        if (!in_use && use.bindings_held[number].load(std::memory_order_acquire) == 0) continue;
        record.bindings.push_back({number, row.proxy, in_use, row.source, row.pool_address,
                                   row.port_pool, row.port_range, span_of(row.ports)});
    }
    // Pools without a source binding keep their place, and the rest of their ports.
    for (std::uint32_t number = 0; number < sources.pools.size(); ++number) {
        ControlRecord::Pool& pool = record.pools.emplace_back();
        pool.number = number;
        pool.address = sources.pools[number].address;
        for (const PortRange& range : sources.pools[number].ranges)
            pool.ranges.push_back(span_of(range));
    }
    return record;
}

bool Reconfigurer::is_in_use(BindingIndex binding) const {
    return std::any_of(state_.proxies.begin(), state_.proxies.end(), [&](const ProxySlot& slot) {
        return slot.state != SlotState::vacant && slot.first_binding <= binding &&
               binding < slot.first_binding + slot.bindings.size();
    });
}

void Reconfigurer::record() {
    if (const std::shared_ptr<Ledger>& ledger = bootstrap_.ledger();
        ledger && !ledger->put(Ledger::encode(make_record())))
        log_.warn("ledger_full", {{"effect", "a later process goes on from an earlier state"}});
    is_recorded_ = true;
}

/// The same numbers with the same content. The shards know of nothing yet.
void Reconfigurer::take_over(const Predecessor& predecessor) {
    const ControlRecord& from = predecessor.control();
    SharedUse& use = *bootstrap_.use();
    const auto shards = static_cast<std::uint32_t>(bootstrap_.shards().size());
    state_.versions = predecessor.versions();
    state_.reloads = from.reloads;
    state_.drain_deadline = from.drain_deadline;
    for (std::size_t i = 0; i < from.proxies.size(); ++i) {
        const ControlRecord::Proxy& proxy = from.proxies[i];
        ProxySlot& slot = state_.proxies[proxy.number];
        slot.config = predecessor.proxies()[i];
        slot.settings = settings_of(slot.config);
        slot.settings.sessions_max = slot.config.sessions_max.value_or(0);
        slot.state = SlotState::retired;
        slot.deadline = proxy.state == ControlRecord::State::closing ? Instant{} : proxy.deadline;
        for (std::size_t number = 0; number < state_.config.proxies.size(); ++number) {
            const ProxyConfig& serving = state_.config.proxies[number];
            if (proxy.state != ControlRecord::State::serving || serving.name != slot.config.name)
                continue;
            slot.state = SlotState::serving;
            slot.config = serving;  // with the settings that take effect now
            slot.settings = settings_of(serving);
            slot.settings.sessions_max = state_.capacity.proxies[number].sessions_max;
        }
        slot.draining = proxy.draining;
        slot.superseded = proxy.superseded;
        slot.versions = proxy.versions;
        slot.closes_below = proxy.closes_below;
        slot.upstream = predecessor.version(proxy.number, proxy.upstream_version);
        slot.shown = status_of(*slot.upstream, slot.config);
        for (const ControlRecord::Proxy::AliasCounter& counter : proxy.alias_counters)
            slot.alias_counters.push_back(
                {counter.prefix, counter.scope, counter.port, counter.number});
        use.proxies_held[proxy.number] = shards;
        if (slot.state == SlotState::serving && !slot.config.upstream.endpoint)
            ask_for_name(proxy.number);
    }
    for (const ControlRecord::Pool& pool : from.pools) {
        Pool& taken = state_.sources.pools.emplace_back();
        taken.address = pool.address;
        for (const ControlRecord::PortSpan& span : pool.ranges)
            taken.ranges.push_back(range_of(span));
    }
    for (const ControlRecord::Binding& binding : from.bindings) {
        Sources& sources = state_.sources;
        if (sources.rows.size() <= binding.number) sources.rows.resize(binding.number + 1);
        sources.rows[binding.number] =
            BindingLocation{binding.proxy, binding.source, binding.pool_address,
                            binding.pool,  binding.range,  range_of(binding.ports)};
        use.bindings_held[binding.number] = shards;
        ProxySlot& slot = state_.proxies[binding.proxy];
        if (!binding.in_use) continue;
        if (slot.bindings.empty()) slot.first_binding = binding.number;
        slot.bindings.push_back(sources.rows[binding.number]);
    }
    state_.sources.held.resize(state_.sources.rows.size());
}

Result<std::vector<Adoption>> Reconfigurer::adoptions(Predecessor& predecessor) {
    const std::size_t shards = bootstrap_.shards().size();
    for (const ControlRecord::Proxy& proxy : predecessor.control().proxies) {
        const ProxySlot& slot = state_.proxies[proxy.number];
        Command command;
        command.kind = CommandKind::set_settings;
        command.proxy = proxy.number;
        command.settings = slot.settings;
        send_to_all(command);
        command.kind = CommandKind::set_upstream;
        command.upstream = slot.upstream;
        command.closes_below = slot.closes_below;
        send_to_all(command);
        bring_bindings(proxy.number, predecessor);
        if (slot.draining) send_about_proxy(CommandKind::drain, proxy.number);
    }
    if (state_.drain_deadline) send_about_proxy(CommandKind::drain, all_proxies);
    for (const ControlRecord::Listener& listener : predecessor.control().listeners)
        if (Result<void> taken = take_over(listener, predecessor.take_listener(listener.number));
            !taken)
            return taken.error();
    set_known_endpoints();
    std::vector<Adoption> adoptions(shards);
    for (std::uint32_t shard = 0; shard < shards; ++shard) {
        adoptions[shard].commands = std::exchange(state_.outbox[shard], {});
        adoptions[shard].versions = state_.versions;
        adoptions[shard].groups = predecessor.take_groups(shard);
        adoptions[shard].keeps_times = predecessor.ended_in_order().has_value();
    }
    return adoptions;
}

Result<void> Reconfigurer::adopt(Predecessor* predecessor) {
    if (predecessor == nullptr) return {};
    Result<std::vector<Adoption>> adoptions = this->adoptions(*predecessor);
    if (!adoptions) return adoptions.error();
    if (Result<void> started = bootstrap_.start_adopting(*adoptions); !started) return started;
    for (const Adoption& adoption : *adoptions) {
        for (const int descriptor : adoption.left) Socket{descriptor};
        succession_.sessions_adopted += adoption.sessions_adopted;
        succession_.sessions_closed += adoption.sessions_closed;
    }
    succession_.records_not_believed = predecessor->not_believed();
    return {};
}

void Reconfigurer::note_start(const WorkerStart& start, const Predecessor* predecessor) {
    succession_.reason = start.reason;
    succession_.starts = start.starts;
    if (start.reason != StartReason::first) {
        succession_.from_version = start.from_version;
        // Of another process only the ledger tells.
        if (predecessor != nullptr && start.from_version.empty())
            succession_.from_version = predecessor->control().program_version;
        succession_.last_end = end_of_last(start);
        const auto ended_in_order = predecessor ? predecessor->ended_in_order() : std::nullopt;
        succession_.pause = monotonic_now() - ended_in_order.value_or(start.ended_at);
    }
    if (predecessor != nullptr) {
        log_.info(
            "adopted",
            {{"reason", name_of(start.reason)},
             {"from_version", succession_.from_version},
             {"sessions", succession_.sessions_adopted},
             {"closed", succession_.sessions_closed},
             {"not_believed", succession_.records_not_believed},
             {"pause_ms", std::chrono::duration<double, std::milli>(*succession_.pause).count()}});
    }
    publish();
}

void Reconfigurer::note_refused_upgrade(const std::string& reason) {
    log_.error("upgrade_refused", {{"reason", reason}});
    ++succession_.upgrades_refused;
    succession_.last_refusal = reason;
    publish();
}

/// One run of source bindings after the other, so that the shards come to have those in use and
/// hold the others as retired. The first change of all brings the pools.
void Reconfigurer::bring_bindings(std::uint16_t proxy, const Predecessor& predecessor) {
    std::vector<std::pair<BindingIndex, std::vector<BindingLocation>>> runs;
    for (const ControlRecord::Binding& binding : predecessor.control().bindings) {
        if (binding.proxy != proxy || binding.in_use) continue;
        if (runs.empty() || runs.back().first + runs.back().second.size() != binding.number)
            runs.push_back({binding.number, {}});
        runs.back().second.push_back(state_.sources.rows[binding.number]);
    }
    runs.push_back({state_.proxies[proxy].first_binding, state_.proxies[proxy].bindings});
    const std::vector<PortRange> reserved = reserved_ports();
    for (std::uint32_t shard = 0; shard < bootstrap_.shards().size(); ++shard) {
        for (const auto& [first, bindings] : runs) {
            const auto change = std::make_shared<SourceBindingChange>();
            change->first = first;
            for (const BindingLocation& binding : bindings)
                change->bindings.push_back({binding.source, binding.port_pool, binding.port_range});
            const auto brings_pools = [](const Command& command) {
                return command.kind == CommandKind::set_source_bindings;
            };
            if (std::none_of(state_.outbox[shard].begin(), state_.outbox[shard].end(),
                             brings_pools))
                for (const ControlRecord::Pool& pool : predecessor.control().pools)
                    change->pools.push_back(
                        {pool.number,
                         predecessor.pool(pool, shard, bootstrap_.ports_start(), reserved), true});
            state_.brought.push_back(change);
            Command command;
            command.kind = CommandKind::set_source_bindings;
            command.proxy = proxy;
            command.bindings = change;
            state_.outbox[shard].push_back(std::move(command));
        }
    }
}

/// Sets the options of the sockets anew, since settings may have changed. A listener in force whose
/// sockets are not there is opened anew.
Result<void> Reconfigurer::take_over(const ControlRecord::Listener& from,
                                     const std::vector<int>& descriptors) {
    const bool is_serving = from.state == ControlRecord::State::serving;
    if (descriptors.empty() && !is_serving) return {};
    if (state_.listeners.size() <= from.number)
        state_.listeners.resize(from.number + std::size_t{1});
    ListenerSlot& slot = state_.listeners[from.number];
    std::vector<Socket> sockets;
    for (const int descriptor : descriptors) sockets.emplace_back(descriptor);
    Result<ListenerSockets> opened =
        open_listener(state_.proxies[from.proxy].config, from.endpoint,
                      static_cast<std::uint32_t>(bootstrap_.shards().size()),
                      bind_attempts_at_reload, false, &sockets);
    if (!opened) {
        for (Socket& socket : sockets) (void)socket.release();  // another process may go on
        return opened.error();
    }
    slot.state = is_serving ? SlotState::serving : SlotState::retired;
    slot.endpoint = from.endpoint;
    slot.proxy = from.proxy;
    slot.deadline = from.deadline;
    bring_listener(from.number, *opened);
    if (!is_serving) {
        Command command;
        command.kind = CommandKind::retire_listener;
        command.listener = from.number;
        send_to_all(command);
    }
    bootstrap_.use()->listeners_held[from.number] =
        static_cast<std::uint32_t>(bootstrap_.shards().size());
    return {};
}

}  // namespace udpproxy
