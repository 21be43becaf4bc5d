// Decides which events and counters become log lines, and how often.
#include "udpproxy/runtime/event_log.hpp"

#include <algorithm>

#include "udpproxy/runtime/status.hpp"

namespace udpproxy {

namespace {

constexpr Duration repeat_every = std::chrono::minutes{1};
constexpr Duration limits_every = std::chrono::seconds{1};
constexpr std::uint32_t unlisted_lines_max = 32;  // a minute; other sources are summed

const char* name_of(SessionEnd end) {
    switch (end) {
        case SessionEnd::idle:
            break;
        case SessionEnd::finished:
            return "finished";
        case SessionEnd::evicted:
            return "evicted";
        case SessionEnd::source_changed:
            return "source_changed";
        case SessionEnd::killed:
            return "killed";
        case SessionEnd::closed:
            return "closed";
        case SessionEnd::stopped:
            return "stopped";
    }
    return "idle";
}

}  // namespace

void EventLog::look(Instant now) {
    take_events(now);
    if (now - limits_looked_at_ < limits_every) return;
    limits_looked_at_ = now;
    check_limits(now);
}

/// An event stays here until its line is written: without memory for the line, a later look() tries
/// again.
void EventLog::take_events(Instant now) {
    for (const auto& shard : shards_) {
        while (is_unwritten_ || shard->shard().events.take(event_)) {
            is_unwritten_ = true;
            write(event_, now);
            is_unwritten_ = false;
        }
    }
}

void EventLog::write(const Event& event, Instant now) {
    switch (event.kind) {
        case EventKind::unlisted_reply:
            write_unlisted(event, now);
            break;
        case EventKind::session_ended:
            write_session(event);
            break;
        case EventKind::listener_refused:
            log_.error("listener_refused",
                       {{"listen", format(reconfigurer_.listeners()[event.listener].endpoint)},
                        {"reason", error_text(event.error)},
                        {"effect", "a shard does not listen there until a restart"}});
            break;
    }
}

void EventLog::write_unlisted(const Event& event, Instant now) {
    if (now - unlisted_minute_ >= repeat_every) begin_unlisted_minute(now);
    if (unlisted_lines_ >= unlisted_lines_max && !unlisted_.contains({event.proxy, event.source})) {
        unlisted_others_ += event.datagrams;
        return;
    }
    Unlisted& known = unlisted_[{event.proxy, event.source}];
    const std::uint64_t datagrams = known.unlogged + event.datagrams;
    if (known.ever_logged && now - known.logged_at < repeat_every) {
        known.unlogged = datagrams;
        return;
    }
    const ProxyConfig& proxy = reconfigurer_.proxies()[event.proxy].config;
    const bool any_port = std::any_of(unlisted_.begin(), unlisted_.end(), [&](const auto& entry) {
        return entry.first.first == event.proxy && differ_in_port(entry.first.second, event.source);
    });
    log_.warn("unlisted_reply",
              {{"proxy", proxy.name},
               {"source", format(event.source)},
               {"datagrams", datagrams},
               {"add", aliases_with(proxy.reply_aliases, event.source, any_port)}});
    known = {now, 0, true};
    ++unlisted_lines_;
}

/// Logs the sum of the sources without a line of their own. Forgets sources that were silent, so
/// the table holds no more entries than a minute has lines.
void EventLog::begin_unlisted_minute(Instant now) {
    if (unlisted_others_ > 0)
        log_.warn("unlisted_others", {{"datagrams", unlisted_others_},
                                      {"note", "more sources than have a line of their own"}});
    std::erase_if(unlisted_, [&](const auto& entry) {
        return now - entry.second.logged_at >= repeat_every && entry.second.unlogged == 0;
    });
    unlisted_lines_ = 0;
    unlisted_others_ = 0;
    unlisted_minute_ = now;
}

void EventLog::write_session(const Event& event) {
    const ListenerSlot& listener = reconfigurer_.listeners()[event.listener];
    const std::string local = event.local.is_unspecified()
                                  ? format(listener.endpoint)
                                  : format(Endpoint{event.local, 0, listener.endpoint.port});
    log_.info("session_ended", {{"proxy", reconfigurer_.proxies()[event.proxy].config.name},
                                {"client", format(event.client)},
                                {"local", local},
                                {"local_endpoint", format(event.local_endpoint)},
                                {"reason", name_of(event.end)},
                                {"seconds", std::chrono::duration<double>(event.lasted).count()},
                                {"assured", event.assured},
                                {"requests", event.requests.datagrams},
                                {"request_bytes", event.requests.bytes},
                                {"replies", event.replies.datagrams},
                                {"reply_bytes", event.replies.bytes}});
}

void EventLog::check_limits(Instant now) {
    for (std::uint16_t proxy = 0; proxy < reconfigurer_.proxies().size(); ++proxy) {
        if (!reconfigurer_.proxies()[proxy].was_ever_used()) continue;
        for (std::size_t reason = 0; reason < drop_reasons.size(); ++reason) {
            if (!is_limit(static_cast<Drop>(reason))) continue;
            std::uint64_t count = 0;
            for (const auto& shard : shards_)
                count += shard->shard().counters.proxies[proxy].drops[reason].read();
            check_limit(proxy, drop_reasons[reason].name, count, now);
        }
        std::uint64_t evicted = 0;
        for (const auto& shard : shards_)
            evicted += shard->shard().counters.proxies[proxy].sessions_evicted.read();
        check_limit(proxy, "sessions_evicted", evicted, now);
    }
}

void EventLog::check_limit(std::uint16_t proxy, std::string_view reason, std::uint64_t count,
                           Instant now) {
    LimitMet& limit = limits_[{proxy, reason}];
    if (count < limit.logged) limit = LimitMet{};  // the slot belongs to another proxy now
    if (count == limit.logged || (limit.ever_logged && now - limit.logged_at < repeat_every))
        return;
    log_.warn("limit_met", {{"proxy", reconfigurer_.proxies()[proxy].config.name},
                            {"reason", reason},
                            {"count", count - limit.logged},
                            {"total", count}});
    limit = {count, now, true};
}

void EventLog::write_counters() {
    for (std::size_t proxy = 0; proxy < reconfigurer_.proxies().size(); ++proxy) {
        if (!reconfigurer_.proxies()[proxy].was_ever_used()) continue;
        std::vector<LogField> fields{{"proxy", reconfigurer_.proxies()[proxy].config.name}};
        std::map<std::string, std::uint64_t> sums;
        std::vector<std::string> order;
        const auto sum = [&](std::string_view name, std::uint64_t value) {
            const auto [entry, is_new] = sums.try_emplace(std::string{name}, 0);
            if (is_new) order.emplace_back(name);
            entry->second += value;
        };
        for (const auto& shard : shards_) {
            const ProxyCounters& counters = shard->shard().counters.proxies[proxy];
            for_each_counter(counters, sum);
            for (std::size_t reason = 0; reason < drop_reasons.size(); ++reason) {
                if (const std::uint64_t count = counters.drops[reason].read(); count > 0)
                    sum("drop_" + std::string{drop_reasons[reason].name}, count);
            }
        }
        for (const std::string& name : order) fields.emplace_back(name, sums[name]);
        log_.info("counters", fields);
    }
    for (std::size_t shard = 0; shard < shards_.size(); ++shard) {
        std::vector<LogField> fields{{"shard", shard}};
        for_each_counter(
            shards_[shard]->shard().counters,
            [&](std::string_view name, std::uint64_t value) { fields.emplace_back(name, value); });
        fields.emplace_back("run_queue_delay_ns", shards_[shard]->run_queue_delay_ns());
        log_.info("shard_counters", fields);
    }
}

}  // namespace udpproxy
