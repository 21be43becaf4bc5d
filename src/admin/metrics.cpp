// Writes the metrics: families in a fixed order, each with its help, type and samples.
#include "metrics.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>

namespace udpproxy {

namespace {

std::string escaped(std::string_view value) {
    std::string text;
    for (const char letter : value) {
        if (letter == '\\' || letter == '"') text += '\\';
        if (letter == '\n')
            text += "\\n";
        else
            text += letter;
    }
    return text;
}

struct Label {
    std::string_view name;
    std::string_view value;
};

class Exposition {
public:
    void family(std::string_view name, std::string_view type, std::string_view help) {
        name_ = name;
        fmt::format_to(std::back_inserter(text_), "# HELP {} {}\n# TYPE {} {}\n", name, help, name,
                       type);
    }
    template <class Number>
    void sample(std::initializer_list<Label> labels, Number value, std::string_view suffix = {}) {
        text_ += name_;
        text_ += suffix;
        const char* before = "{";
        for (const Label& label : labels) {
            if (label.name.empty()) continue;
            fmt::format_to(std::back_inserter(text_), "{}{}=\"{}\"", before, label.name,
                           escaped(label.value));
            before = ",";
        }
        if (*before == ',') text_ += '}';
        fmt::format_to(std::back_inserter(text_), " {}\n", value);
    }
    [[nodiscard]] std::string take() { return std::move(text_); }

private:
    std::string name_;
    std::string text_;
};

/// `arrivals_request` is `arrivals` in the direction `request`.
struct SplitName {
    std::string_view stem;
    std::string_view direction;  // empty: none
};

SplitName split(std::string_view name) {
    for (const std::string_view direction : {"request", "reply"}) {
        if (name.size() > direction.size() + 1 && name.ends_with(direction) &&
            name[name.size() - direction.size() - 1] == '_')
            return {name.substr(0, name.size() - direction.size() - 1), direction};
    }
    return {name, {}};
}

std::string capitalised(std::string_view text) {
    std::string made{text};
    if (!made.empty() && made[0] >= 'a' && made[0] <= 'z')
        made[0] = static_cast<char>(made[0] - 'a' + 'A');
    return made;
}

/// `Datagrams: read from listeners (request), read from members of reply groups (reply).`
template <class Texts>
std::string help_of(const Texts& texts, std::string_view stem) {
    std::string help;
    for (const CounterText& text : texts) {
        const SplitName name = split(text.name);
        if (name.stem != stem) continue;
        help += help.empty() ? capitalised(text.unit) + ": " : std::string{", "};
        help += text.help;
        if (!name.direction.empty()) help += fmt::format(" ({})", name.direction);
    }
    return help + '.';
}

/// Stems in the order of the list, each once.
template <class Texts>
std::vector<std::string_view> stems_of(const Texts& texts) {
    std::vector<std::string_view> stems;
    for (const CounterText& text : texts) {
        const std::string_view stem = split(text.name).stem;
        if (stems.empty() || stems.back() != stem) stems.push_back(stem);
    }
    return stems;
}

template <class Texts, class Counters>
std::vector<CounterSum> values_of(const Texts& texts, const Counters& counters) {
    std::vector<CounterSum> values;
    std::size_t next = 0;
    for_each_counter(counters, [&](std::string_view, std::uint64_t value) {
        values.push_back({texts[next++], value});
    });
    return values;
}

/// Converts a list's unit for Prometheus: durations become seconds; a peak or a state becomes a
/// gauge.
struct Measure {
    std::string_view name;
    double scale = 1;
    std::string_view suffix;
    bool is_counter = true;
};

Measure measure_of(const CounterText& text) {
    Measure measure;
    measure.name = text.name;
    if (text.unit == "nanoseconds") {
        measure.scale = 1e-9;
        measure.suffix = "_seconds";
        if (text.name.ends_with("_ns")) measure.name.remove_suffix(3);
    }
    measure.is_counter = !text.name.starts_with("longest_");
    return measure;
}

void write_proxy_counters(const Status& status, Exposition& to) {
    std::vector<std::vector<CounterSum>> sums;
    for (const ProxyStatus& proxy : status.proxies)
        sums.push_back(sums_of_proxy(status, proxy.number));
    for (const std::string_view stem : stems_of(proxy_counter_texts)) {
        to.family(fmt::format("udpproxy_{}_total", stem), "counter",
                  help_of(proxy_counter_texts, stem));
        for (std::size_t i = 0; i < status.proxies.size(); ++i) {
            for (const CounterSum& sum : sums[i]) {
                const SplitName name = split(sum.text.name);
                if (name.stem != stem) continue;
                to.sample({{"proxy", status.proxies[i].name},
                           {name.direction.empty() ? "" : "direction", name.direction}},
                          sum.value);
            }
        }
    }
}

void write_drops(const Status& status, Exposition& to) {
    to.family("udpproxy_drops_total", "counter",
              "Datagrams dropped, each under exactly one reason.");
    for (const ProxyStatus& proxy : status.proxies) {
        for (std::size_t reason = 0; reason < drop_reasons.size(); ++reason)
            to.sample({{"proxy", proxy.name}, {"reason", drop_reasons[reason].name}},
                      sum_of_drops(status, proxy.number, static_cast<Drop>(reason)));
    }
}

void write_replies(const Status& status, Exposition& to) {
    to.family("udpproxy_replies_total", "counter",
              "Datagrams that came in as replies, by source: the upstream, each alias as "
              "configured, or one that is not listed (and dropped).");
    for (const ProxyStatus& proxy : status.proxies) {
        to.sample({{"proxy", proxy.name}, {"source", "upstream"}, {"alias", ""}},
                  sum_of_replies(status, proxy.number, 0));
        for (const UpstreamStatus::AliasStatus& alias : proxy.upstream.aliases)
            to.sample({{"proxy", proxy.name}, {"source", "alias"}, {"alias", alias.text}},
                      sum_of_replies(status, proxy.number, alias.counter_index));
        to.sample({{"proxy", proxy.name}, {"source", "unlisted"}, {"alias", ""}},
                  sum_of_drops(status, proxy.number, Drop::unlisted_source));
    }
}

void write_durations(const Status& status, Exposition& to) {
    to.family("udpproxy_session_duration_seconds", "histogram",
              "How long the sessions lasted that have ended.");
    for (const ProxyStatus& proxy : status.proxies) {
        std::uint64_t count = 0;
        std::uint64_t milliseconds = 0;
        const auto durations_in = [&](const auto& shard) -> const DurationHistogram& {
            return shard->shard().counters.proxies[proxy.number].session_durations;
        };
        for (std::size_t bucket = 0; bucket <= DurationHistogram::bounds.size(); ++bucket) {
            for (const auto& shard : status.shards)
                count += durations_in(shard).buckets[bucket].read();
            const bool last = bucket == DurationHistogram::bounds.size();
            to.sample({{"proxy", proxy.name},
                       {"le", last ? "+Inf" : std::to_string(DurationHistogram::bounds[bucket])}},
                      count, "_bucket");
        }
        for (const auto& shard : status.shards)
            milliseconds += durations_in(shard).milliseconds.read();
        to.sample({{"proxy", proxy.name}}, static_cast<double>(milliseconds) / 1000, "_sum");
        to.sample({{"proxy", proxy.name}}, count, "_count");
    }
}

void write_problems(const Status& status, const Problems& problems, Exposition& to) {
    to.family("udpproxy_problem", "gauge",
              "1 while something is wrong with a proxy, by the last minute of its traffic.");
    for (const ProxyStatus& proxy : status.proxies) {
        for (std::size_t kind = 0; kind < problem_texts.size(); ++kind) {
            const bool is_there =
                std::any_of(problems.begin(), problems.end(), [&](const Problem& problem) {
                    return problem.proxy == proxy.name &&
                           problem.kind == static_cast<ProblemKind>(kind);
                });
            to.sample({{"proxy", proxy.name}, {"kind", problem_texts[kind].name}},
                      is_there ? 1 : 0);
        }
    }
}

void write_room(const Status& status, Exposition& to) {
    to.family("udpproxy_sessions", "gauge", "Sessions at the moment.");
    for (const ProxyStatus& proxy : status.proxies)
        to.sample({{"proxy", proxy.name}}, status.use->proxies[proxy.number].sessions.read());
    to.family("udpproxy_sessions_max", "gauge", "Sessions that the proxy may have.");
    for (const ProxyStatus& proxy : status.proxies)
        to.sample({{"proxy", proxy.name}}, proxy.sessions_max);
    to.family("udpproxy_capacity_sessions_max", "gauge",
              "Sessions that all proxies together may have.");
    to.sample({}, status.sessions_max);
    to.family("udpproxy_capacity_descriptors", "gauge", "Descriptors that reply groups hold.");
    to.sample({}, status.use->descriptors.read());
    to.family("udpproxy_capacity_descriptors_max", "gauge",
              "Descriptors that reply groups may hold.");
    to.sample({}, status.descriptors_max);
    to.family(
        "udpproxy_ports", "gauge",
        "Local ports towards the upstream that the proxy may use, at all of its source addresses.");
    for (const ProxyStatus& proxy : status.proxies) to.sample({{"proxy", proxy.name}}, proxy.ports);
}

void write_queues(const Status& status, Exposition& to) {
    const auto write = [&](auto&& value_of) {
        for (const ListenerStatus& listener : status.listeners) {
            const ProxyStatus* proxy = status.find_proxy(listener.proxy);
            if (proxy == nullptr || !listener.queues) continue;
            to.sample({{"proxy", proxy->name}, {"listen", format(listener.endpoint)}},
                      value_of(listener.queues->read()));
        }
    };
    to.family("udpproxy_queue_drops_total", "counter",
              "Datagrams that the kernel dropped because a listener's receive queue was full.");
    write([](const QueueState& state) { return state.drops; });
    to.family("udpproxy_queue_bytes", "gauge",
              "What waits in a listener's receive queue, with the kernel's own bookkeeping.");
    write([](const QueueState& state) { return state.bytes; });
}

template <class Texts, class Counters>
void write_shard_values(const Status& status, Exposition& to, const Texts& texts, bool gauges,
                        Counters&& counters_of) {
    for (std::size_t i = 0; i < texts.size(); ++i) {
        const Measure measure = measure_of(texts[i]);
        const bool is_counter = measure.is_counter && !gauges;
        to.family(fmt::format("udpproxy_shard_{}{}{}", measure.name, measure.suffix,
                              is_counter ? "_total" : ""),
                  is_counter ? "counter" : "gauge",
                  capitalised(measure.suffix.empty() ? texts[i].unit : "seconds") + ": " +
                      std::string{texts[i].help} + '.');
        for (std::size_t shard = 0; shard < status.shards.size(); ++shard) {
            const std::uint64_t value =
                values_of(texts, counters_of(*status.shards[shard]))[i].value;
            const std::string number = std::to_string(shard);
            if (measure.scale == 1)
                to.sample({{"shard", number}}, value);
            else
                to.sample({{"shard", number}}, static_cast<double>(value) * measure.scale);
        }
    }
}

void write_shards(const Status& status, Exposition& to) {
    write_shard_values(
        status, to, shard_counter_texts, false,
        [](ShardThread& shard) -> const ShardCounters& { return shard.shard().counters; });
    write_shard_values(
        status, to, shard_gauge_texts, true,
        [](ShardThread& shard) -> const ShardGauges& { return shard.shard().gauges; });
    to.family("udpproxy_shard_cpu_seconds_total", "counter",
              "Processor time of the shard's thread.");
    for (std::size_t shard = 0; shard < status.shards.size(); ++shard)
        to.sample({{"shard", std::to_string(shard)}},
                  std::chrono::duration<double>(status.shards[shard]->cpu_time()).count());
}

void write_worker_starts(const Succession& succession, Exposition& to) {
    to.family("udpproxy_worker_starts_total", "counter",
              "Workers that were started since the program was, by reason; 0 without a keeper.");
    for (std::size_t reason = 0; reason < start_reasons; ++reason)
        to.sample({{"reason", name_of(static_cast<StartReason>(reason))}},
                  succession.starts[reason]);
    to.family("udpproxy_sessions_adopted", "gauge",
              "Sessions that this worker has taken over from the one before.");
    to.sample({}, succession.sessions_adopted);
    to.family("udpproxy_ledger_records_not_believed", "gauge",
              "Records of the worker before that were damaged: what they stood for was closed.");
    to.sample({}, succession.records_not_believed);
    to.family("udpproxy_last_pause_seconds", "gauge",
              "How long nothing was forwarded before this worker; 0: it is the first.");
    to.sample({},
              std::chrono::duration<double>(succession.pause.value_or(Duration::zero())).count());
    to.family("udpproxy_upgrades_refused_total", "counter",
              "Upgrades that this worker was asked for and that left all as it was.");
    to.sample({}, succession.upgrades_refused);
}

void write_program(const Status& status, const Log& log, Exposition& to) {
    to.family("udpproxy_build_info", "gauge", "1; the labels say what runs.");
    to.sample({{"version", UDPPROXY_VERSION},
               {"engine", name_of(status.engine)},
               {"compiler", __VERSION__}},
              1);
    to.family("udpproxy_start_time_seconds", "gauge", "When the program started, in Unix time.");
    to.sample({}, std::chrono::duration<double>(status.started_at.time_since_epoch()).count());
    to.family("udpproxy_ready", "gauge", "1 while new clients are taken.");
    to.sample({}, status.ready ? 1 : 0);
    to.family("udpproxy_reloads_total", "counter",
              "Reloads that were asked for, done or refused as a whole.");
    to.sample({{"outcome", "done"}}, status.reloads);
    to.sample({{"outcome", "refused"}}, status.reload_failures);
    to.family("udpproxy_log_lines_dropped_total", "counter",
              "Log lines that were lost because the log's reader stood still or writing failed.");
    to.sample({}, log.dropped());
}

}  // namespace

std::vector<CounterSum> sums_of_proxy(const Status& status, std::uint16_t proxy) {
    std::vector<CounterSum> sums;
    for (const auto& shard : status.shards) {
        const std::vector<CounterSum> values =
            values_of(proxy_counter_texts, shard->shard().counters.proxies[proxy]);
        if (sums.empty())
            sums = values;
        else
            for (std::size_t i = 0; i < sums.size(); ++i) sums[i].value += values[i].value;
    }
    return sums;
}

std::uint64_t sum_of_drops(const Status& status, std::uint16_t proxy, Drop reason) {
    std::uint64_t sum = 0;
    for (const auto& shard : status.shards)
        sum += shard->shard().counters.proxies[proxy].dropped(reason);
    return sum;
}

std::uint64_t sum_of_replies(const Status& status, std::uint16_t proxy, std::size_t counter_index) {
    std::uint64_t sum = 0;
    for (const auto& shard : status.shards)
        sum += shard->shard().counters.proxies[proxy].replies_from[counter_index].read();
    return sum;
}

std::string metrics_text(const Status& status, const Problems& problems, const Log& log) {
    Exposition to;
    write_program(status, log, to);
    write_worker_starts(status.succession, to);
    write_problems(status, problems, to);
    write_proxy_counters(status, to);
    write_drops(status, to);
    write_replies(status, to);
    write_durations(status, to);
    write_room(status, to);
    write_queues(status, to);
    write_shards(status, to);
    return to.take();
}

}  // namespace udpproxy
