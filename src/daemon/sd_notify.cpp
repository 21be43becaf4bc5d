// Sends the messages of sd_notify(3). The library for it, libsystemd, is not used: its send waits
// while the manager reads nothing, and the control thread waits for nobody.
#include "sd_notify.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "udpproxy/base/environment.hpp"
#include "udpproxy/base/printable.hpp"

namespace udpproxy {

namespace {

constexpr Duration figures_every = std::chrono::seconds{5};
constexpr std::size_t problems_told_max = 3;
constexpr std::size_t refusal_bytes_max = 200;

std::optional<std::uint64_t> to_number(const std::string& text) {
    std::uint64_t number = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, number);
    return error == std::errc{} && rest == end ? std::optional{number} : std::nullopt;
}

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

ManagerRequest take_manager_request() {
    ManagerRequest request;
    request.socket = take_variable("NOTIFY_SOCKET");
    const std::string process = take_variable("WATCHDOG_PID");
    const std::string limit = take_variable("WATCHDOG_USEC");
    if (limit.empty() || (!process.empty() && process != std::to_string(::getpid())))
        return request;
    const std::optional<std::uint64_t> microseconds = to_number(limit);
    constexpr auto limit_max =
        std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::hours{24 * 365});
    if (microseconds && *microseconds > 0 &&
        *microseconds <= static_cast<std::uint64_t>(limit_max.count()))
        request.watchdog = std::chrono::microseconds{*microseconds};
    else
        request.mistake = fmt::format("WATCHDOG_USEC={} is no time", printable(limit));
    return request;
}

ServiceManager::ServiceManager(ManagerRequest request, Log& log)
    : log_(log), shown_socket_(printable(request.socket)), feed_every_(request.watchdog / 2) {
    if (request.socket.empty()) return;
    if (!request.mistake.empty()) warn(request.mistake);
    const bool is_abstract = request.socket.front() == '@';
    if ((!is_abstract && request.socket.front() != '/') ||
        request.socket.size() >= sizeof name_.sun_path) {
        warn("NOTIFY_SOCKET is neither a path nor an abstract name of 107 bytes at most");
        return;
    }
    name_.sun_family = AF_UNIX;
    std::memcpy(name_.sun_path, request.socket.data(), request.socket.size());
    if (is_abstract) name_.sun_path[0] = '\0';
    name_length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + request.socket.size() +
                                          (is_abstract ? 0 : 1));
    socket_ = Socket{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!socket_) warn("socket: " + error_text(errno));
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
    if (!socket_) return;
    if (!untold_.empty()) tell_state(std::exchange(untold_, {}));
    tell_figures(status, problems, now);
    feed_watchdog(status.shards, now);
}

/// Of several states that the manager has not taken only the newest counts.
void ServiceManager::tell_state(std::string state) {
    untold_ = send(state) ? std::string{} : std::move(state);
}

/// False: to be sent again.
bool ServiceManager::send(const std::string& message) {
    if (!socket_) return true;
    if (::sendto(socket_.descriptor(), message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&name_), name_length_) >= 0) {
        is_reachable_ = true;
        return true;
    }
    // A manager that is busy, or stands still: it takes what comes later.
    if (errno != EAGAIN && errno != ENOBUFS && std::exchange(is_reachable_, false))
        warn("send: " + error_text(errno));
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
/// after one and a half of its time limits at the latest.
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
