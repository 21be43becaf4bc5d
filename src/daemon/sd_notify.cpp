// Makes the messages of sd_notify(3), from what the control thread knows.
#include "sd_notify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "udpproxy/base/environment.hpp"
#include "udpproxy/base/printable.hpp"

namespace udpproxy {

namespace {

constexpr Duration figures_every = std::chrono::seconds{5};
constexpr std::size_t problems_told_max = 3;
constexpr std::size_t refusal_bytes_max = 200;

std::string text_of(const Problems& problems) {
    if (problems.empty()) return "no problem";
    std::string text = "problems: ";
    const std::size_t told = std::min(problems.size(), problems_told_max);
    for (std::size_t i = 0; i < told; ++i)
        text += fmt::format("{}{} ({})", i == 0 ? "" : ", ", name_of(problems[i].kind),
                            problems[i].proxy);
    return told == problems.size() ? text
                                   : text + fmt::format(" and {} more", problems.size() - told);
}

/// A status is one line, and short: the log has the whole.
std::string shortened(const std::string& text) {
    std::size_t length = 0;
    while (length < std::min(text.size(), refusal_bytes_max))
        length += std::max<std::size_t>(utf8_length(std::string_view{text}.substr(length)), 1);
    return printable(text.substr(0, length)) + (length < text.size() ? "…" : "");
}

}  // namespace

ManagerRequest take_manager_request(pid_t process) {
    ManagerRequest request = read_manager_request(process);
    for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "FDSTORE"})
        (void)take_variable(name);
    return request;
}

ServiceManager::ServiceManager(const ManagerRequest& request, Log& log, const Channel* keeper)
    : log_(log),
      shown_socket_(printable(request.socket)),
      keeper_(nullptr),
      feed_every_(request.watchdog / (keeper != nullptr ? 4 : 2)) {
    if (request.socket.empty()) return;
    if (!request.mistake.empty()) warn(request.mistake);
    // The keeper's socket has been opened in the same way.
    Result<ManagerSocket> opened = ManagerSocket::open(request.socket);
    if (!opened)
        warn(opened.error().message);
    else if (keeper != nullptr)
        keeper_ = keeper;
    else
        socket_ = std::move(*opened);
}

void ServiceManager::ready() { tell_state("READY=1"); }

void ServiceManager::reloading(Instant now) {
    const auto at =
        std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()).count();
    tell_state(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", at));
}

void ServiceManager::reloaded(const std::string& refusal) {
    refusal_ = refusal.empty() ? "" : "the last reload was refused: " + shortened(refusal);
    figures_.clear();  // the next look tells them beside the refusal, or without it
    tell_state(refusal_.empty() ? "READY=1\nSTATUS=reloaded" : "READY=1\nSTATUS=" + refusal_);
}

void ServiceManager::stopping() { tell_state("STOPPING=1\nSTATUS=stopping"); }

void ServiceManager::look(const Status& status, const Problems& problems, Instant now) {
    if (!is_there()) return;
    if (!untold_.empty()) tell_state(std::exchange(untold_, {}));
    tell_figures(status, problems, now);
    feed_watchdog(status.shards, now);
}

/// Of several states that the manager has not taken only the newest counts.
void ServiceManager::tell_state(std::string state) {
    untold_ = send(state) ? std::string{} : std::move(state);
}

void ServiceManager::failed(int error) { warn("send: " + error_text(error)); }

/// False: to be sent again.
bool ServiceManager::send(const std::string& message) {
    if (keeper_ != nullptr)
        return keeper_->send({MessageKind::manager, 0,
                              std::string_view{message}.substr(0, Channel::text_bytes_max)});
    if (!socket_) return true;
    const int error = socket_->send(message);
    if (error == 0) {
        is_reachable_ = true;
        return true;
    }
    // A manager that is busy, or stands still: it takes what comes later.
    if (error != EAGAIN && error != ENOBUFS && std::exchange(is_reachable_, false)) failed(error);
    return false;
}

void ServiceManager::warn(const std::string& reason) {
    log_.warn("manager_unreachable", {{"socket", shown_socket_},
                                      {"reason", reason},
                                      {"effect",
                                       "the service manager is not told; all else goes "
                                       "on"}});
}

void ServiceManager::tell_figures(const Status& status, const Problems& problems, Instant now) {
    if (now - figures_at_ < figures_every) return;
    const Totals totals = totals_of(status);
    const Totals before = totals_.value_or(totals);
    const double seconds = std::chrono::duration<double>(now - figures_at_).count();
    const auto lately = [](std::uint64_t count, std::uint64_t earlier) {
        return count > earlier ? count - earlier : 0;  // a listener that went took its share along
    };
    std::string figures = fmt::format(
        "{}{} of {} sessions, {:.0f} datagrams/s, {} dropped in the last 5 s, {}",
        status.ready ? "" : "draining: ", status.use->sessions.read(), status.sessions_max,
        static_cast<double>(lately(totals.datagrams, before.datagrams)) / seconds,
        lately(totals.dropped, before.dropped), text_of(problems));
    if (!refusal_.empty()) figures += "; " + refusal_;
    figures_at_ = now;
    totals_ = totals;
    if (figures == figures_ || !send("STATUS=" + printable(figures))) return;
    figures_ = std::move(figures);
}

ServiceManager::Totals ServiceManager::totals_of(const Status& status) {
    Totals totals;
    for (const ProxyStatus& proxy : status.proxies) {
        for (const auto& shard : status.shards) {
            const ProxyCounters& counters = shard->shard().counters.proxies[proxy.number];
            totals.datagrams += counters.arrivals_request.read() + counters.arrivals_reply.read();
            for (const auto& reason : counters.drops) totals.dropped += reason.read();
        }
    }
    for (const ListenerStatus& listener : status.listeners)
        if (listener.queues) totals.dropped += listener.queues->read().drops;
    return totals;
}

/// An idle shard sleeps as long as it likes. So all are woken when the watchdog is fed, and each
/// must have turned before it is fed again: a shard that stands still is noticed by the manager
/// after one and a half of its time limits at the latest. A keeper has half of the manager's limit
/// and ends its worker then, so the worker feeds twice as often.
void ServiceManager::feed_watchdog(const ShardThreads& shards, Instant now) {
    if (feed_every_ == Duration::zero() || now - fed_at_ < feed_every_) return;
    std::vector<std::uint64_t> turns;
    for (const auto& shard : shards) turns.push_back(shard->shard().counters.turns.read());
    for (std::size_t shard = 0; shard < turns_.size(); ++shard) {
        if (turns[shard] != turns_[shard]) continue;
        if (!std::exchange(has_told_standstill_, true))
            log_.error("shard_stands_still",
                       {{"shard", shard},
                        {"seconds", std::chrono::duration<double>(now - fed_at_).count()},
                        {"effect", "the watchdog of the service manager is not fed"}});
        return;
    }
    if (!send("WATCHDOG=1")) return;
    has_told_standstill_ = false;
    fed_at_ = now;
    turns_ = std::move(turns);
    for (const auto& shard : shards) shard->wake();
}

}  // namespace udpproxy
