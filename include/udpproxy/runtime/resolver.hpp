// Names: the host names of upstreams: which are asked for, when again, and what becomes of each
// answer. A name is asked for as long as its proxy is configured: at growing intervals while it has
// no usable address, and when the TTL of its answer has ended. host/lookups.hpp does the asking, in
// the control thread; config/upstream_choice.hpp decides which address is taken; the reconfigurer
// tells the shards.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "udpproxy/base/time.hpp"
#include "udpproxy/config/config.hpp"
#include "udpproxy/host/lookups.hpp"
#include "udpproxy/log/log.hpp"

namespace udpproxy {

/// What --check-config prints about names without a usable address: one line each, with the
/// position in the file.
[[nodiscard]] std::vector<std::string> complaints_of_resolver(const Config& config);

class Names {
public:
    explicit Names(Log& log, LookupSettings settings = {})
        : log_(log), lookups_(std::move(settings)) {}

    /// Has the next look() ask for the name of the proxy's upstream, in place of an earlier
    /// question of this proxy. `present` is kept if it is among the answers.
    // Requires: the upstream is a name.
    void ask(std::uint16_t proxy, const ProxyConfig& config,
             const std::optional<Endpoint>& present = std::nullopt);
    void forget(std::uint16_t proxy) { questions_.erase(proxy); }

    /// The address of a name, for the first time since ask() or another one than before.
    struct Found {
        std::uint16_t proxy = 0;
        Endpoint endpoint;
        bool is_first = false;      // since ask()
        std::size_t addresses = 0;  // in the answer
        std::string passed_over;    // a sentence about the first unusable address; may be empty
        std::optional<Duration> ttl;
    };
    /// Asks where it is time, and returns what is found. `config` tells which addresses would be a
    /// loop. An answer is returned by every look() until it is settled or put off, so a caller that
    /// runs out of memory between them loses nothing.
    [[nodiscard]] std::vector<Found> look(const Config& config, Instant now);
    /// The address is in force.
    void settle(Found found, Instant now) noexcept;
    /// The address cannot be in force now. The name is asked for again.
    void put_off(const Found& found, const std::string& reason, Instant now);
    /// Logs what was settled. If memory is short, a later call logs it.
    void log_settled();

    /// Whether every question has had an answer, usable or not.
    [[nodiscard]] bool all_answered() const;
    /// Readable when a look() is due; -1: no name was ever asked for.
    [[nodiscard]] int descriptor() const noexcept { return lookups_.descriptor(); }
    /// Whether a look() is due at once, since the last one did not ask for everything.
    [[nodiscard]] bool has_more() const noexcept { return lookups_.has_more(); }

    struct Question {
        ProxyConfig config;
        std::optional<Endpoint> present;
        std::shared_ptr<const Lookup> lookup;  // null: nothing is asked now
        bool answered = false;                 // at least once since ask()
        bool settled = false;                  // at least once since ask()
        std::uint32_t failures = 0;            // in a row
        Instant again_at{};
        std::string logged;  // the latest complaint in the log; empty: none since it was settled
        Instant logged_at{};
        std::optional<Found> unlogged;
    };
    using Questions = std::map<std::uint16_t, Question>;
    [[nodiscard]] const Questions& questions() const { return questions_; }
    /// Undoes every question asked or forgotten since `earlier` was copied. Requires: no look()
    /// since then.
    void restore(Questions earlier) noexcept { questions_.swap(earlier); }

private:
    [[nodiscard]] std::optional<Found> decide(const Config& config, std::uint16_t proxy,
                                              Question& question, Instant now);
    void fail(Question& question, const std::string& reason, Instant now);

    Log& log_;
    Lookups lookups_;
    Questions questions_;
};

}  // namespace udpproxy
