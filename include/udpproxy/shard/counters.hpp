// What a shard counts. The lists are written once, here; log lines, metrics, documents and tests
// derive from them. A shard's thread alone writes its counters (plain stores); any thread may read
// them (relaxed loads).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "udpproxy/base/time.hpp"

namespace udpproxy {

/// Every reason to drop a datagram: X(name, help). A dropped datagram is counted under exactly one
/// of them.
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage)
#define UDPPROXY_DROP_REASONS(X)                                                                 \
    X(truncated, "arrived longer than a receive buffer; never forwarded cut")                    \
    X(datagram_limit, "longer than datagram_max")                                                \
    X(bad_source, "a new client with port 0, or a multicast, broadcast or unspecified source")   \
    X(broadcast_copy, "a copy of a broadcast or multicast datagram that another shard serves")   \
    X(forwarding_loop,                                                                           \
      "a new client whose source is an endpoint of a listener, upstream, alias or session")      \
    X(client_limit, "sessions_per_client_max met")                                               \
    X(session_rate, "new_sessions_per_second met, of the proxy or of all")                       \
    X(source_rate, "too many new clients of one source while capacity is short")                 \
    X(admission_queue_full, "more new clients in one moment than may wait for admission")        \
    X(session_limit, "sessions_max met, and no session could be evicted")                        \
    X(descriptor_limit, "no descriptors left for another group, and no session could be ended")  \
    X(ports_exhausted, "every local port of the source addresses is in use or cools down")       \
    X(source_unavailable, "no source address towards the upstream is on this host now")          \
    X(upstream_unroutable, "the kernel refused to connect a group to the upstream or an alias")  \
    X(draining, "a new client, while the program, its proxy or its listener drains")             \
    X(upstream_unresolved, "a new client, while the upstream's host name has no usable address") \
    X(group_failed, "a group could not be opened for another reason")                            \
    X(stopping, "came while the program was stopping: a new client, or anybody at the very end") \
    X(unlisted_source, "a reply from an address that is neither the upstream nor an alias")      \
    X(late_reply, "a reply to a session that had ended")                                         \
    X(amplification, "a reply beyond amplification_limit to a client that is not assured")       \
    X(reply_limit, "a reply beyond replies_max for what the client has sent")                    \
    X(send_would_block, "EAGAIN: the socket's send buffer was full")                             \
    X(send_no_buffers, "ENOBUFS: the kernel had no memory for it")                               \
    X(send_too_big, "EMSGSIZE: larger than the path or the protocol takes")                      \
    X(send_refused, "ECONNREFUSED twice: the upstream's port is closed")                         \
    X(send_net_unreachable, "ENETUNREACH: source address or route is gone, or the link is down") \
    X(send_host_unreachable, "EHOSTUNREACH: no way to the host")                                 \
    X(send_not_permitted, "EPERM: a packet filter of this host refused it")                      \
    X(send_prohibited, "EACCES: a prohibiting route, or a broadcast address")                    \
    X(send_invalid, "EINVAL: a blackhole route")                                                 \
    X(send_failed, "any other error of a send")

enum class Drop : std::uint8_t {
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage)
#define UDPPROXY_ENUMERATE(name, help) name,
    UDPPROXY_DROP_REASONS(UDPPROXY_ENUMERATE)
#undef UDPPROXY_ENUMERATE
};

struct ReasonText {
    std::string_view name;
    std::string_view help;
};

inline constexpr auto drop_reasons = std::to_array<ReasonText>({
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage)
#define UDPPROXY_TEXT(name, help) {#name, help},
    UDPPROXY_DROP_REASONS(UDPPROXY_TEXT)
#undef UDPPROXY_TEXT
});

/// The reason under which a failed send is counted. `error` is an errno value.
[[nodiscard]] Drop drop_of_send_error(int error) noexcept;

/// Whether a drop means that a limit was met: such drops get a (summed) log line.
[[nodiscard]] bool is_limit(Drop reason) noexcept;

/// What is counted by proxy: X(name, unit, help).
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage)
#define UDPPROXY_PROXY_COUNTERS(X)                                                              \
    X(arrivals_request, "datagrams", "read from listeners")                                     \
    X(arrivals_reply, "datagrams", "read from members of reply groups")                         \
    X(departures_request, "datagrams", "sent to the upstream")                                  \
    X(departures_reply, "datagrams", "sent to clients")                                         \
    X(bytes_request, "bytes", "payload sent to the upstream")                                   \
    X(bytes_reply, "bytes", "payload sent to clients")                                          \
    X(sessions_admitted, "sessions", "begun")                                                   \
    X(sessions_assured, "sessions", "whose client wrote again after a reply")                   \
    X(sessions_expired, "sessions", "ended for want of traffic")                                \
    X(sessions_finished, "sessions", "ended by end_after_replies or end_after_requests")        \
    X(sessions_evicted, "sessions", "ended early in favour of a new client")                    \
    X(sessions_moved, "sessions", "ended because their source address has changed")             \
    X(sessions_killed, "sessions", "ended by an operator")                                      \
    X(sessions_closed, "sessions", "ended by a reload, or at the end of a drain")               \
    X(sessions_stopped, "sessions", "that were there when the program stopped")                 \
    X(groups_opened, "groups", "reply groups opened by system calls")                           \
    X(groups_reused, "groups", "cooled-down reply groups used again")                           \
    X(groups_closed, "groups", "reply groups closed")                                           \
    X(members_joined, "members", "added to groups in use, for aliases that came by a reload")   \
    X(joins_failed, "members", "that could not be added yet; tried again each second")          \
    X(ports_taken, "ports", "found in use by another program and skipped")                      \
    X(send_retries, "datagrams", "sent at the second attempt, after an older datagram's error") \
    X(sends_deferred, "datagrams", "kept for want of room in the kernel, to be sent again")     \
    X(receive_errors, "errors", "read from members: ICMP messages about earlier datagrams")

/// What is counted by shard.
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage)
#define UDPPROXY_SHARD_COUNTERS(X)                                                                \
    X(turns, "turns", "passes of the loop")                                                       \
    X(longest_turn_cpu_ns, "nanoseconds", "processor time of the longest turn")                   \
    X(longest_turn_wall_ns, "nanoseconds", "wall time of the longest turn, its wait left out")    \
    X(receives_rearmed, "receives",                                                               \
      "io_uring: multishot receives that ended and were armed again")                             \
    X(buffers_exhausted, "receives", "found no buffer and waited in the socket's queue")          \
    X(stale_completions, "completions", "io_uring: of an earlier holder of a slot, ignored")      \
    X(trains_received, "trains", "of two datagrams and more, received in one pass of the kernel") \
    X(trains_sent, "trains", "of two datagrams and more, sent in one pass of the kernel")         \
    X(gso_fallbacks, "trains", "refused by the kernel and sent singly")                           \
    X(events_lost, "events", "log events dropped because the control thread was behind")          \
    X(records_unwritten, "records",                                                               \
      "of reply groups that the ledger had no memory for; their sessions end with the worker")

/// State of a shard at the end of a turn.
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage)
#define UDPPROXY_SHARD_GAUGES(X)                                                    \
    X(sessions, "sessions", "in this shard's table")                                \
    X(groups, "groups", "reply groups in any state")                                \
    X(groups_cooling, "groups",                                                     \
      "reply groups that cool down, still bound, before they are used again")       \
    X(ports_leased, "ports", "local ports in use or cooling down with their group") \
    X(longest_probe, "cells", "longest search in the session table ever")

/// Name, unit and help of a counter or gauge, in the order of its list.
struct CounterText {
    std::string_view name;
    std::string_view unit;
    std::string_view help;
};
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage)
#define UDPPROXY_COUNTER_TEXT(name, unit, help) {#name, unit, help},
inline constexpr auto proxy_counter_texts =
    std::to_array<CounterText>({UDPPROXY_PROXY_COUNTERS(UDPPROXY_COUNTER_TEXT)});
inline constexpr auto shard_counter_texts =
    std::to_array<CounterText>({UDPPROXY_SHARD_COUNTERS(UDPPROXY_COUNTER_TEXT)});
inline constexpr auto shard_gauge_texts =
    std::to_array<CounterText>({UDPPROXY_SHARD_GAUGES(UDPPROXY_COUNTER_TEXT)});
#undef UDPPROXY_COUNTER_TEXT

/// One writer, any readers.
class Counter {
public:
    void add(std::uint64_t count) noexcept {
        value_.store(value_.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
    }
    void raise_to(std::uint64_t value) noexcept {
        if (value > read()) set(value);
    }
    void set(std::uint64_t value) noexcept { value_.store(value, std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t read() const noexcept {
        return value_.load(std::memory_order_relaxed);
    }

private:
    std::atomic<std::uint64_t> value_{0};
};

/// Durations of ended sessions: each is counted in the first bucket whose bound it does not pass.
struct DurationHistogram {
    /// Upper bounds, inclusive; the last bucket has none.
    static constexpr auto bounds =
        std::to_array<std::chrono::seconds::rep>({1, 5, 15, 30, 60, 300, 900, 3600, 14400, 86400});

    void note(Duration lasted) noexcept {
        std::size_t bucket = 0;
        while (bucket < bounds.size() && lasted > std::chrono::seconds{bounds[bucket]}) ++bucket;
        buckets[bucket].add(1);
        milliseconds.add(static_cast<std::uint64_t>(
            std::chrono::duration_cast<std::chrono::milliseconds>(lasted).count()));
    }

    std::array<Counter, bounds.size() + 1> buckets;
    Counter milliseconds;  // sum of all durations
};

/// Replies of a proxy by where they came from: its upstream, or one of its aliases.
inline constexpr std::size_t reply_sources_max = 1 + 64;

// NOLINTNEXTLINE(cppcoreguidelines-macro-usage)
#define UDPPROXY_MEMBER(name, unit, help) Counter name;
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage)
#define UDPPROXY_RESET(name, unit, help) name.set(0);

struct alignas(64) ProxyCounters {
    UDPPROXY_PROXY_COUNTERS(UDPPROXY_MEMBER)
    std::array<Counter, drop_reasons.size()> drops;
    /// Replies received, sent on or not, by Upstream::find(): 0 is the upstream.
    std::array<Counter, reply_sources_max> replies_from;
    DurationHistogram session_durations;

    /// Clears the counters for the next proxy in this slot.
    void reset() noexcept {
        UDPPROXY_PROXY_COUNTERS(UDPPROXY_RESET)
        for (Counter& counter : drops) counter.set(0);
        for (Counter& counter : replies_from) counter.set(0);
        for (Counter& counter : session_durations.buckets) counter.set(0);
        session_durations.milliseconds.set(0);
    }
    void drop(Drop reason, std::uint64_t count = 1) noexcept {
        drops[static_cast<std::size_t>(reason)].add(count);
    }
    [[nodiscard]] std::uint64_t dropped(Drop reason) const noexcept {
        return drops[static_cast<std::size_t>(reason)].read();
    }
};

struct alignas(64) ShardCounters {
    explicit ShardCounters(std::size_t proxy_count) : proxies(proxy_count) {}
    UDPPROXY_SHARD_COUNTERS(UDPPROXY_MEMBER)
    std::vector<ProxyCounters> proxies;
};

/// Written at the end of each turn.
struct alignas(64) ShardGauges {
    UDPPROXY_SHARD_GAUGES(UDPPROXY_MEMBER)
};
#undef UDPPROXY_MEMBER
#undef UDPPROXY_RESET

/// Calls `use(name, value)` for every counter of a proxy except the drops.
template <class Use>
void for_each_counter(const ProxyCounters& counters, Use&& use) {
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage)
#define UDPPROXY_VISIT(name, unit, help) use(std::string_view{#name}, counters.name.read());
    UDPPROXY_PROXY_COUNTERS(UDPPROXY_VISIT)
#undef UDPPROXY_VISIT
}

/// The same for the counters of a shard.
template <class Use>
void for_each_counter(const ShardCounters& counters, Use&& use) {
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage)
#define UDPPROXY_VISIT(name, unit, help) use(std::string_view{#name}, counters.name.read());
    UDPPROXY_SHARD_COUNTERS(UDPPROXY_VISIT)
#undef UDPPROXY_VISIT
}

template <class Use>
void for_each_counter(const ShardGauges& gauges, Use&& use) {
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage)
#define UDPPROXY_VISIT(name, unit, help) use(std::string_view{#name}, gauges.name.read());
    UDPPROXY_SHARD_GAUGES(UDPPROXY_VISIT)
#undef UDPPROXY_VISIT
}

}  // namespace udpproxy
