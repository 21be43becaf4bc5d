// EventLog: turns the events and counters of shards into log lines, summed and rate-limited. Called
// by the daemon between signals.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "udpproxy/config/config.hpp"
#include "udpproxy/log/log.hpp"
#include "udpproxy/runtime/reconfigurer.hpp"
#include "udpproxy/runtime/shard_thread.hpp"

namespace udpproxy {

class EventLog {
public:
    EventLog(Reconfigurer& reconfigurer, Log& log)
        : reconfigurer_(reconfigurer), log_(log), shards_(reconfigurer.shards()) {}

    /// Takes the shards' events and checks their limit counters. Called a few times a second.
    void look(Instant now);
    /// Logs the final counters: one line per proxy, one for all shards together.
    void write_counters();

private:
    struct Unlisted {
        Instant logged_at{};
        std::uint64_t unlogged = 0;
        bool ever_logged = false;
    };
    struct LimitMet {
        std::uint64_t logged = 0;
        Instant logged_at{};
        bool ever_logged = false;
    };

    void take_events(Instant now);
    void write(const Event& event, Instant now);
    void write_unlisted(const Event& event, Instant now);
    void begin_unlisted_minute(Instant now);
    void write_session(const Event& event);
    void check_limits(Instant now);
    void check_limit(std::uint16_t proxy, std::string_view reason, std::uint64_t count,
                     Instant now);

    Reconfigurer& reconfigurer_;
    Log& log_;
    const ShardThreads& shards_;
    Event event_;  // the latest that was taken
    bool is_unwritten_ = false;
    std::map<std::pair<std::uint16_t, Endpoint>, Unlisted> unlisted_;
    std::uint32_t unlisted_lines_ = 0;  // since the minute began
    std::uint64_t unlisted_others_ = 0;
    Instant unlisted_minute_{};
    std::map<std::pair<std::uint16_t, std::string_view>, LimitMet> limits_;
    Instant limits_looked_at_{};
};

}  // namespace udpproxy
