// Session: one client at one listener, as the legs and the expiry see it.
#pragma once

#include <cstdint>

#include "udpproxy/base/index_list.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/net/slot.hpp"
#include "udpproxy/session/client_key.hpp"

namespace udpproxy {

/// Traffic of one direction of one session.
struct TrafficCounters {
    std::uint64_t datagrams = 0;
    std::uint64_t bytes = 0;
};

struct Session {
    /// Whether each request has had its reply, as far as numbers tell.
    [[nodiscard]] bool is_answered() const noexcept {
        return replies.datagrams >= requests.datagrams;
    }

    ClientKey key;
    /// The last datagram in either direction; the hot path writes only this for expiry.
    Instant last_active_at;
    Slot primary = no_slot;   // where requests go
    std::uint32_t group = 0;  // in the group pool
    /// The interface that the client's datagrams arrive on, where the listener reports it.
    std::uint32_t interface_index = 0;
    std::uint16_t proxy = 0;
    bool replied = false;        // the service has answered
    bool assured = false;        // the client has written again after a reply
    bool has_successor = false;  // what the client writes now belongs to another session
    TrafficCounters requests;
    TrafficCounters replies;

    std::uint64_t id = 0;  // stable, never used again; id % shards is the shard
    Instant admitted_at;
    ListLinks wheel;           // in the expiry wheel's bucket
    ListLinks unassured;       // in the proxy's order of eviction
    std::uint32_t bucket = 0;  // of the wheel
    Instant listed_at;         // last_active_at when last put into the order of eviction
};

}  // namespace udpproxy
