// Booking questions and replies, and the sums at the end.
#include "ledger.hpp"

#include <algorithm>

namespace udpproxy::traffic {

namespace {

constexpr std::uint32_t gap_joins_ms = 50;
constexpr std::size_t gaps_told_max = 1000;

std::uint32_t quantile(std::vector<std::uint32_t>& sorted, double part) {
    if (sorted.empty()) return 0;
    return sorted[static_cast<std::size_t>(part * static_cast<double>(sorted.size() - 1))];
}

}  // namespace

std::uint64_t Ledger::ask(ClientBook& client, Instant now) {
    client.replies.push_back(0);
    client.asked_at.push_back(
        static_cast<std::uint32_t>((now - beginning_) / std::chrono::milliseconds{1}));
    ++sent_;
    return client.replies.size() - 1;
}

void Ledger::take_back(ClientBook& client) {
    client.replies.pop_back();
    client.asked_at.pop_back();
    --sent_;
    ++refused_;
}

bool Ledger::take(ClientBook& client, std::span<const std::byte> payload, const Endpoint& from,
                  const Endpoint& asked, Instant now) {
    if (from != asked) {
        ++wrong_source_;
        return false;
    }
    if (payload.empty()) {
        ++empties_;
        return false;
    }
    const std::optional<Mark> mark = read_mark(payload);
    if (!mark || mark->kind != Kind::reply) {
        ++corrupt_;
        return false;
    }
    if (mark->client != client.nonce) {
        ++foreign_;
        return false;
    }
    if (mark->sequence >= client.replies.size()) {
        ++corrupt_;
        return false;
    }
    if (mark->sequence < client.counted_from) return false;
    std::uint8_t& count = client.replies[mark->sequence];
    if (count == replies_wanted_) {
        ++duplicate_;
        return false;
    }
    ++replies_;
    if (++count != 1) return false;
    ++answered_;
    const auto waited = static_cast<std::uint64_t>(now.time_since_epoch().count()) - mark->sent_at;
    latencies_us_.push_back(
        static_cast<std::uint32_t>(std::min<std::uint64_t>(waited / 1000, ~0U)));
    return true;
}

void Ledger::close(const ClientBook& client) {
    for (std::size_t i = client.counted_from; i < client.replies.size(); ++i) {
        if (client.replies[i] == 0)
            lost_at_ms_.push_back(client.asked_at[i]);
        else
            missing_ += replies_wanted_ - client.replies[i];
    }
}

std::vector<Ledger::Gap> Ledger::gaps() const {
    std::vector<std::uint32_t> lost = lost_at_ms_;
    std::sort(lost.begin(), lost.end());
    std::vector<Gap> found;
    for (const std::uint32_t at : lost) {
        if (found.empty() || at - found.back().last_ms > gap_joins_ms) {
            if (found.size() == gaps_told_max) break;
            found.push_back(Gap{at, at, 0});
        }
        found.back().last_ms = at;
        ++found.back().lost;
    }
    return found;
}

/// Seconds of CLOCK_MONOTONIC: what Python's time.monotonic() says.
double Ledger::at(std::uint32_t milliseconds) const {
    return std::chrono::duration<double>(beginning_.time_since_epoch()).count() +
           milliseconds / 1000.0;
}

nlohmann::ordered_json Ledger::report() const {
    std::vector<std::uint32_t> sorted = latencies_us_;
    std::sort(sorted.begin(), sorted.end());
    nlohmann::ordered_json gaps_told = nlohmann::ordered_json::array();
    for (const Gap& gap : gaps())
        gaps_told.push_back(
            {{"first", at(gap.first_ms)}, {"last", at(gap.last_ms)}, {"lost", gap.lost}});
    return {{"sent", sent_},
            {"refused", refused_},
            {"answered", answered_},
            {"lost", unanswered()},
            {"replies", replies_},
            {"replies_missing", missing_},
            {"foreign", foreign_},
            {"corrupt", corrupt_},
            {"wrong_source", wrong_source_},
            {"duplicate", duplicate_},
            {"empties_answered", empties_},
            {"latency_p50_us", quantile(sorted, 0.5)},
            {"latency_p99_us", quantile(sorted, 0.99)},
            {"latency_max_us", quantile(sorted, 1.0)},
            {"gaps", gaps_told}};
}

}  // namespace udpproxy::traffic
