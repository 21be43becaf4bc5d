// What the control thread asks of a shard, and what a shard tells it. Both travel through
// mailboxes; a shard never waits for the other side.
#pragma once

#include <cstdint>
#include <memory>

#include "udpproxy/base/time.hpp"
#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/socket.hpp"
#include "udpproxy/session/known_endpoints.hpp"
#include "udpproxy/session/session.hpp"
#include "udpproxy/session/upstream.hpp"
#include "udpproxy/shard/setup.hpp"

namespace udpproxy {

enum class CommandKind : std::uint8_t {
    hand_over,     // leave the loop with every socket open, for another process
    stop,          // admit no new client, forward what is queued, leave the loop
    drain,         // admit no new client of `proxy`, or of any when that is all_proxies
    resume,        // admit new clients again
    set_upstream,  // new clients of `proxy` go to `upstream` from now on; sessions of versions
                   // below `closes_below` end
    set_settings,  // `settings` hold for `proxy`, its sessions included
    set_source_bindings,  // groups of `proxy` are opened in these source bindings from now on
    set_limits,           // `sessions_max`, `descriptors_max`, `new_sessions`, `pool_min` and
                          // `report_sessions`
    set_known_endpoints,  // no new client has a source that is among `known_endpoints`
    adopt_listener,       // `arrival` is listener number `listener`, of `proxy`
    move_listener,        // new clients at `listener` are those of `proxy` from now on
    retire_listener,      // admit no new client at `listener`
    close_listener,       // end its sessions, then close it
    close_proxy,          // end the sessions of `proxy`, close its groups, release its slot
    look_at_sources,      // routes, addresses or links have changed: look up all sources again, and
                          // end the sessions that routing has another source for
};

inline constexpr std::uint16_t all_proxies = 0xffff;

/// A listener added while the shard runs; the shard takes the socket out.
struct ListenerArrival {
    Socket socket;
    Endpoint endpoint;
};

/// The control thread alone makes and frees the objects that its pointers name.
struct Command {
    CommandKind kind = CommandKind::stop;
    std::uint16_t proxy = 0;
    std::uint16_t listener = 0;
    bool report_sessions = false;
    bool fresh = false;  // with set_settings: the slot belonged to another proxy before
    std::uint32_t closes_below = 0;
    std::uint32_t sessions_max = 0;
    std::uint32_t descriptors_max = 0;
    std::uint32_t pool_min = 0;
    Rate new_sessions;
    ProxySettings settings;
    std::shared_ptr<const Upstream> upstream;
    std::shared_ptr<const KnownEndpoints> known_endpoints;
    std::shared_ptr<SourceBindingChange> bindings;
    std::shared_ptr<ListenerArrival> arrival;
};

enum class EventKind : std::uint8_t { unlisted_reply, session_ended, listener_refused };

enum class SessionEnd : std::uint8_t {
    idle,
    finished,  // it has had what end_after_replies says
    evicted,
    source_changed,
    killed,
    closed,
    stopped,
};

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
    Address local;  // that the client wrote to; unspecified: the listener's own
    Endpoint local_endpoint;
    TrafficCounters requests;
    TrafficCounters replies;
    Duration lasted{};
    bool assured = false;
    // listener_refused: the engine had no slot for an added listener; with `listener`
    int error = 0;
};

}  // namespace udpproxy
