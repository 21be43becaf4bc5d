// Judges the last minute of a proxy's counters.
#include "udpproxy/runtime/problems.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace udpproxy {

namespace {

constexpr Duration look_every = std::chrono::seconds{5};
constexpr Duration window = std::chrono::minutes{1};
constexpr std::uint64_t asked_min = 10;       // fewer requests prove nothing
constexpr std::uint64_t icmp_errors_min = 3;  // the kernel sends few: it limits their rate

/// A listener that goes takes its share of a total with it.
std::uint64_t growth(std::uint64_t now, std::uint64_t before) {
    return now > before ? now - before : 0;
}

Traffic growth(const Traffic& now, const Traffic& before) {
    Traffic lately;
    lately.requests = growth(now.requests, before.requests);
    lately.replies = growth(now.replies, before.replies);
    lately.unlisted = growth(now.unlisted, before.unlisted);
    lately.icmp_errors = growth(now.icmp_errors, before.icmp_errors);
    lately.queue_drops = growth(now.queue_drops, before.queue_drops);
    for (std::size_t reason = 0; reason < lately.limits.size(); ++reason)
        lately.limits[reason] = growth(now.limits[reason], before.limits[reason]);
    return lately;
}

bool has_same_subject(const Problem& one, const Problem& other) {
    return one.kind == other.kind && one.proxy == other.proxy;
}

bool contains(const Problems& problems, const Problem& wanted) {
    return std::any_of(problems.begin(), problems.end(),
                       [&](const Problem& each) { return has_same_subject(each, wanted); });
}

}  // namespace

Traffic traffic_of(const Status& status, const ProxyStatus& proxy) {
    Traffic totals;
    for (const auto& shard : status.shards) {
        const ProxyCounters& counters = shard->shard().counters.proxies[proxy.number];
        // The shard counts meanwhile: of an unlisted reply its arrival may not be seen yet.
        const std::uint64_t unlisted = counters.dropped(Drop::unlisted_source);
        totals.unlisted += unlisted;
        totals.replies += growth(counters.arrivals_reply.read(), unlisted);
        totals.requests += counters.departures_request.read();
        totals.icmp_errors += counters.receive_errors.read() + counters.send_retries.read() +
                              counters.dropped(Drop::send_refused);
        for (std::size_t reason = 0; reason < drop_reasons.size(); ++reason) {
            if (is_limit(static_cast<Drop>(reason)))
                totals.limits[reason] += counters.drops[reason].read();
        }
    }
    for (const ListenerStatus& listener : status.listeners) {
        if (listener.proxy == proxy.number && listener.queues)
            totals.queue_drops += listener.queues->read().drops;
    }
    return totals;
}

Problems problems_of(const ProxyStatus& proxy, const Traffic& lately, std::uint64_t asked) {
    Problems found;
    const auto add = [&](ProblemKind kind, std::string text) {
        found.push_back({kind, proxy.name, std::move(text)});
    };
    const std::string& upstream = proxy.upstream.text;
    const std::uint64_t all_replies = lately.replies + lately.unlisted;
    if (proxy.upstream.endpoint.port == 0)
        add(ProblemKind::upstream_unresolved,
            fmt::format("upstream {} has no address: its host name is not resolved, and no client "
                        "is served",
                        upstream));
    else if (all_replies == 0 && lately.icmp_errors >= icmp_errors_min)
        add(ProblemKind::upstream_refuses,
            fmt::format("{} request{} in the last minute, no reply, {} ICMP errors: the port of "
                        "upstream {} is closed, or a firewall rejects",
                        lately.requests, lately.requests == 1 ? "" : "s", lately.icmp_errors,
                        upstream));
    else if (lately.unlisted >= asked_min && 4 * lately.unlisted >= all_replies)
        add(ProblemKind::replies_unlisted,
            fmt::format("{} of {} replies in the last minute came from sources that are not "
                        "listed, and were dropped; \"udpproxyctl unlisted\" names them",
                        lately.unlisted, all_replies));
    else if (all_replies == 0 && asked >= asked_min)
        add(ProblemKind::replies_missing,
            fmt::format("{} requests in the last minute, no reply, from upstream {} or any other "
                        "source; a service that only listens, as syslog does, never replies",
                        lately.requests, upstream));
    std::string limits;
    for (std::size_t reason = 0; reason < lately.limits.size(); ++reason) {
        if (lately.limits[reason] > 0)
            limits += fmt::format("{}{} {}", limits.empty() ? "" : ", ", drop_reasons[reason].name,
                                  lately.limits[reason]);
    }
    if (!limits.empty())
        add(ProblemKind::clients_refused,
            "datagrams of new clients refused in the last minute: " + limits);
    if (lately.queue_drops > 0)
        add(ProblemKind::queue_drops,
            fmt::format("{} datagram{} in the last minute found a full receive queue; raise "
                        "receive_buffer for bursts, shards for load",
                        lately.queue_drops, lately.queue_drops == 1 ? "" : "s"));
    return found;
}

void ProblemWatch::look(Instant now) {
    if (now - looked_at_ < look_every) return;
    looked_at_ = now;
    const std::shared_ptr<const Status> status = status_.get();
    const std::shared_ptr<const Problems> before = published_.get();
    auto found = std::make_shared<Problems>();
    for (const ProxyStatus& proxy : status->proxies)
        judge(proxy, traffic_of(*status, proxy), now, *found);
    std::erase_if(histories_,
                  [&](const auto& entry) { return status->find_proxy(entry.first) == nullptr; });
    log_changes(before ? *before : Problems{}, *found);
    published_.set(std::move(found));
}

void ProblemWatch::judge(const ProxyStatus& proxy, const Traffic& totals, Instant now,
                         Problems& found) {
    History& history = histories_[proxy.number];
    // Counters that went back belong to the next holder of the number.
    const bool is_another =
        history.proxy != proxy.name ||
        (!history.samples.empty() && totals.requests < history.samples.back().totals.requests);
    if (is_another) history = {proxy.name, {}};
    while (!history.samples.empty() && now - history.samples.front().at > window)
        history.samples.pop_front();
    history.samples.push_back({now, totals});
    const Traffic& oldest = history.samples.front().totals;
    // Requests since the look before this one may still be answered.
    const Traffic& earlier =
        history.samples[std::max<std::size_t>(history.samples.size(), 2) - 2].totals;
    const Problems problems =
        problems_of(proxy, growth(totals, oldest), growth(earlier.requests, oldest.requests));
    found.insert(found.end(), problems.begin(), problems.end());
}

void ProblemWatch::log_changes(const Problems& before, const Problems& found) {
    for (const Problem& problem : found) {
        if (!contains(before, problem))
            log_.warn("problem", {{"proxy", problem.proxy},
                                  {"kind", name_of(problem.kind)},
                                  {"text", problem.text}});
    }
    for (const Problem& problem : before) {
        if (!contains(found, problem))
            log_.info("problem_over", {{"proxy", problem.proxy}, {"kind", name_of(problem.kind)}});
    }
}

}  // namespace udpproxy
