// Trace: the datagrams of one client, copied while an operator watches. The shard copies forwarded
// and dropped datagrams into a mailbox of fixed size that the admin thread empties. A record that
// does not fit is counted, never waited for. A trace that is off costs a known client's datagram
// one test of a flag.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "udpproxy/base/mailbox.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/io/traffic.hpp"
#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/shard/counters.hpp"

namespace udpproxy {

/// Payload bytes kept of a datagram: enough for any that fits an Ethernet frame.
inline constexpr std::size_t trace_payload_max = 1500;

struct TraceRecord {
    Instant at{};  // the turn
    Leg leg = Leg::request;
    // Absent: it was handed on to be sent. If the send fails, another record of it says why.
    std::optional<Drop> dropped;
    std::uint16_t proxy = 0;
    Endpoint listen;  // of the listener
    Endpoint client;
    Address local;            // that the client writes to; unspecified: the listener's own
    Endpoint local_endpoint;  // port 0: the client has no session
    Endpoint service;         // the upstream, or where the reply came from
    std::uint8_t tos = 0;
    std::uint32_t bytes = 0;
    std::uint32_t kept = 0;
    std::array<std::byte, trace_payload_max> payload{};
};

class Trace {
public:
    /// Called by the shard: from now on, until `until`, the datagrams of this client (port 0: of
    /// every port of the address) are kept.
    void begin(const Address& address, std::uint16_t port, Instant until) noexcept {
        address_ = address;
        port_ = port;
        until_ = until;
        on_ = true;
    }
    void end() noexcept { on_ = false; }

    /// May still be true after `until`: the end is checked only when a datagram comes.
    [[nodiscard]] bool is_on() const noexcept { return on_; }
    [[nodiscard]] bool is_on(Instant now) noexcept { return on_ = on_ && now < until_; }
    [[nodiscard]] bool follows(const Endpoint& client, Instant now) noexcept {
        return is_on(now) && client.address == address_ && (port_ == 0 || port_ == client.port);
    }
    void keep(const TraceRecord& record) {
        if (!records_.post(record)) missed_.fetch_add(1, std::memory_order_relaxed);
    }

    /// Called by the admin thread. False: no record is left.
    [[nodiscard]] bool take(TraceRecord& record) { return records_.take(record); }
    /// Records that did not fit since the last call.
    [[nodiscard]] std::uint64_t take_missed() noexcept {
        return missed_.exchange(0, std::memory_order_relaxed);
    }

private:
    bool on_ = false;
    std::uint16_t port_ = 0;
    Address address_;
    Instant until_{};
    std::atomic<std::uint64_t> missed_{0};
    Mailbox<TraceRecord> records_{256};
};

}  // namespace udpproxy
