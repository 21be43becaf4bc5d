// Problems: what is wrong with the traffic of the proxies now, judged by the last minute of their
// counters. The control thread looks and logs; operators see the list first in the status, on the
// page, in the metrics and in the running program's doctor.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "udpproxy/base/published.hpp"
#include "udpproxy/log/log.hpp"
#include "udpproxy/runtime/status.hpp"

namespace udpproxy {

/// In the order in which they are shown. Of the kinds about missing replies a proxy has at most
/// one, that which says most about the cause.
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage)
#define UDPPROXY_PROBLEM_KINDS(X)                                                             \
    X(upstream_unresolved, "the upstream's host name has no address, so no client is served") \
    X(upstream_refuses,                                                                       \
      "requests are answered by ICMP errors alone: the port is closed, or a "                 \
      "firewall rejects them")                                                                \
    X(replies_unlisted,                                                                       \
      "a quarter of the replies or more come from sources that are not "                      \
      "listed, and are dropped")                                                              \
    X(replies_missing, "ten requests or more, and no reply at all")                           \
    X(clients_refused, "a limit is met, and new clients are refused")                         \
    X(queue_drops, "the kernel drops datagrams before they are read")

enum class ProblemKind : std::uint8_t {
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage)
#define UDPPROXY_ENUMERATE(name, help) name,
    UDPPROXY_PROBLEM_KINDS(UDPPROXY_ENUMERATE)
#undef UDPPROXY_ENUMERATE
};

struct ProblemText {
    std::string_view name;
    std::string_view help;
};
inline constexpr auto problem_texts = std::to_array<ProblemText>({
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage)
#define UDPPROXY_TEXT(name, help) {#name, help},
    UDPPROXY_PROBLEM_KINDS(UDPPROXY_TEXT)
#undef UDPPROXY_TEXT
});
[[nodiscard]] constexpr std::string_view name_of(ProblemKind kind) {
    return problem_texts[static_cast<std::size_t>(kind)].name;
}

struct Problem {
    ProblemKind kind{};
    std::string proxy;  // its name
    std::string text;   // with the figures of the last minute
};
using Problems = std::vector<Problem>;

/// The counters of a proxy that problems are judged by: totals, or what a time added to them. All
/// are datagrams, `icmp_errors` errors read.
struct Traffic {
    std::uint64_t requests = 0;  // sent
    std::uint64_t replies = 0;   // from listed sources
    std::uint64_t unlisted = 0;  // replies from other sources
    std::uint64_t icmp_errors = 0;
    std::uint64_t queue_drops = 0;
    std::array<std::uint64_t, drop_reasons.size()> limits{};  // by reason; 0 where it is no limit
};
[[nodiscard]] Traffic traffic_of(const Status& status, const ProxyStatus& proxy);

/// `lately` is what the last minute brought. `asked` are its requests that have had time to be
/// answered.
[[nodiscard]] Problems problems_of(const ProxyStatus& proxy, const Traffic& lately,
                                   std::uint64_t asked);

class ProblemWatch {
public:
    ProblemWatch(const StatusBoard& status, Published<Problems>& published, Log& log)
        : status_(status), published_(published), log_(log) {}

    /// Judges anew every five seconds; the other calls do nothing. Logs what begins and what is
    /// over.
    void look(Instant now);

private:
    struct Sample {
        Instant at{};
        Traffic totals;
    };
    /// Newest last, at most a minute's; starts anew when the number has gone to another proxy.
    struct History {
        std::string proxy;
        std::deque<Sample> samples;
    };

    void judge(const ProxyStatus& proxy, const Traffic& totals, Instant now, Problems& found);
    void log_changes(const Problems& before, const Problems& found);

    const StatusBoard& status_;
    Published<Problems>& published_;
    Log& log_;
    std::map<std::uint16_t, History> histories_;  // by the proxy's number
    Instant looked_at_{};
};

}  // namespace udpproxy
