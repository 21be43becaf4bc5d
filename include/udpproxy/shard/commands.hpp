// What the control thread asks of a shard, and what a shard tells it. Both travel through mailboxes; a shard never waits for the other side.
#pragma once

#include <cstdint>
#include <memory>

#include "udpproxy/base/time.hpp"
#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/session/session.hpp"
#include "udpproxy/session/upstream.hpp"

namespace udpproxy {

enum class CommandKind : std::uint8_t {
    stop,          // admit nobody, forward what is queued, leave the loop
    set_upstream,  // newcomers of `proxy` go to `upstream` from now on
};

struct Command {
    CommandKind kind = CommandKind::stop;
    std::uint16_t proxy = 0;
    std::shared_ptr<const Upstream> upstream;
};

enum class EventKind : std::uint8_t { unlisted_reply, session_ended };

enum class SessionEnd : std::uint8_t { idle, evicted, source_changed, killed };

struct Event {
    EventKind kind = EventKind::unlisted_reply;
    std::uint16_t proxy = 0;
    // unlisted_reply
    Endpoint source;
    std::uint64_t datagrams = 0;  // since the last event of this source
    // session_ended
    SessionEnd end = SessionEnd::idle;
    std::uint16_t listener = 0;
    Endpoint client;
    Address local;  // the client wrote to; unspecified: the listener's own
    Endpoint upstream_side;
    Tally requests;
    Tally replies;
    Duration lasted{};
    bool assured = false;
};

}  // namespace udpproxy
