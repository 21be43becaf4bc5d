// The book of a load: which question was asked when, which reply came to whom, and what is wrong
// with it. `ask` and `churn` keep one.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "traffic/mark.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/net/endpoint.hpp"

namespace udpproxy::traffic {

/// One client socket's pages.
struct ClientBook {
    std::uint64_t nonce = 0;
    std::vector<std::uint8_t> replies;    // by sequence: how many came
    std::vector<std::uint32_t> asked_at;  // by sequence: milliseconds since the ledger's beginning
    std::size_t counted_from = 0;  // what was asked before is of an earlier ledger (warming up)
};

class Ledger {
public:
    Ledger(Instant beginning, std::uint32_t replies_wanted)
        : beginning_(beginning), replies_wanted_(replies_wanted) {}

    /// A question goes out; its sequence number is returned.
    std::uint64_t ask(ClientBook& client, Instant now);
    /// It did not: the kernel refused it.
    void take_back(ClientBook& client);
    /// A datagram came to `client`. Returns whether it is the first reply to one of its questions.
    bool take(ClientBook& client, std::span<const std::byte> payload, const Endpoint& from,
              const Endpoint& asked, Instant now);
    /// The client will hear no more: what is unanswered is lost.
    void close(const ClientBook& client);

    [[nodiscard]] std::uint64_t unanswered() const { return sent_ - answered_; }
    [[nodiscard]] nlohmann::ordered_json report() const;

private:
    struct Gap {
        std::uint32_t first_ms = 0;
        std::uint32_t last_ms = 0;
        std::uint64_t lost = 0;
    };
    [[nodiscard]] std::vector<Gap> gaps() const;
    [[nodiscard]] double at(std::uint32_t milliseconds) const;

    Instant beginning_;
    std::uint32_t replies_wanted_;
    std::uint64_t sent_ = 0, answered_ = 0, refused_ = 0, replies_ = 0, missing_ = 0;
    std::uint64_t foreign_ = 0, corrupt_ = 0, wrong_source_ = 0, duplicate_ = 0;
    std::uint64_t empties_ = 0;
    std::vector<std::uint32_t> latencies_us_;
    std::vector<std::uint32_t> lost_at_ms_;
};

}  // namespace udpproxy::traffic
