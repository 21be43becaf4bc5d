// Inspection: what the admin thread may ask of a shard, one question at a time. The shard answers
// within its next turn, into memory allocated at start, and scans a bounded number of sessions. A
// reader that wants all sessions asks again from where the last answer ended.
#pragma once

#include <cstdint>
#include <optional>

#include "udpproxy/base/batch.hpp"
#include "udpproxy/base/index_list.hpp"
#include "udpproxy/base/query_slot.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/session/session.hpp"
#include "udpproxy/shard/unlisted.hpp"

namespace udpproxy {

/// Sessions that one answer scans, and so the most that it holds. The scan takes about 20 us of a
/// turn.
inline constexpr std::uint32_t scanned_per_answer = 256;

/// A session as an operator sees it: values only, nothing that ends with the session.
struct SessionView {
    std::uint64_t id = 0;
    std::uint32_t index = 0;  // in the shard's table: where to find it again
    std::uint16_t proxy = 0;
    std::uint16_t listener = 0;
    Endpoint client;
    Address local;  // that the client wrote to; unspecified: the listener's own
    Endpoint local_endpoint;
    TrafficCounters requests;
    TrafficCounters replies;
    Duration age{};
    Duration idle{};
    bool replied = false;
    bool assured = false;
};

struct UnlistedView {
    std::uint16_t proxy = 0;
    Endpoint source;
    std::uint64_t datagrams = 0;
    Duration seen_ago{};
};

enum class QuestionKind : std::uint8_t {
    liveness,  // an empty answer: the shard is alive
    sessions,  // matching sessions from index `from` on
    end_session,
    unlisted,  // unlisted sources that sent replies
    begin_trace,
    end_trace,
};

struct Question {
    QuestionKind kind = QuestionKind::liveness;
    // sessions
    std::uint32_t from = 0;
    std::optional<std::uint16_t> proxy;
    std::optional<Prefix> client;
    std::uint16_t client_port = 0;  // 0: any
    // begin_trace: of `client` and `client_port`
    Instant until{};
    // end_session: it ends only if the session at `index` still has this id
    std::uint32_t index = 0;
    std::uint64_t id = 0;
};

struct Answer {
    std::uint32_t next = no_index;  // where to continue with sessions; no_index: no more
    bool ended = false;             // the session was found and ended
    bool trace_begun = false;       // no other trace was on
    Batch<SessionView> sessions{scanned_per_answer};
    Batch<UnlistedView> unlisted{UnlistedSources::sources_max};
};

using InspectionSlot = QuerySlot<Question, Answer>;

}  // namespace udpproxy
