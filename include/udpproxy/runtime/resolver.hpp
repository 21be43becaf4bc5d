// Names: resolves the host names of upstreams in a thread of its own. A resolver may take half a
// minute to fail, and neither a shard nor a signal may wait for it. A name without a usable address
// is asked for again, at growing intervals, as long as its proxy is configured.
// config/upstream_choice.hpp decides which address is taken; the reconfigurer tells the shards.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "udpproxy/base/result.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/config/config.hpp"
#include "udpproxy/log/log.hpp"

namespace udpproxy {

/// What --check-config prints about names without a usable address: one line each, with the
/// position in the file.
[[nodiscard]] std::vector<std::string> complaints_of_resolver(const Config& config);

class Names {
public:
    explicit Names(Log& log);
    ~Names();
    Names(const Names&) = delete;
    Names& operator=(const Names&) = delete;

    /// Has the next look() ask for the name of the proxy's upstream, in place of an earlier
    /// question of this proxy. `present` is kept if it is among the answers.
    // Requires: the upstream is a name.
    void ask(std::uint16_t proxy, const ProxyConfig& config,
             const std::optional<Endpoint>& present = std::nullopt);
    void forget(std::uint16_t proxy) { questions_.erase(proxy); }

    struct Found {
        std::uint16_t proxy = 0;
        Endpoint endpoint;
    };
    /// Takes the answers, writes their log lines, and asks again where it is time. `config` tells
    /// which addresses would be a loop.
    [[nodiscard]] std::vector<Found> look(const Config& config, Instant now);
    /// Whether every question has had an answer, usable or not.
    [[nodiscard]] bool all_answered() const;

    struct Question {
        ProxyConfig config;
        std::optional<Endpoint> present;
        std::uint64_t ticket = 0;
        bool asked = false;     // the thread has the question
        bool answered = false;  // at least once
        std::uint32_t failures = 0;
        Instant again_at{};
        std::string logged;  // the latest reason in the log
        Instant logged_at{};
    };
    using Questions = std::map<std::uint16_t, Question>;
    [[nodiscard]] const Questions& questions() const { return questions_; }
    /// Undoes every question asked or forgotten since `earlier` was copied. Requires: no look()
    /// since then.
    void restore(Questions earlier) noexcept { questions_.swap(earlier); }

private:
    struct Answer {
        std::uint64_t ticket = 0;
        Result<std::vector<Endpoint>> found;
    };
    struct Desk;  // shared by this side and the thread

    static void serve(std::shared_ptr<Desk> desk);
    [[nodiscard]] std::string start_thread();
    void post(Question& question);
    [[nodiscard]] std::optional<Endpoint> decide(const Config& config, Question& question,
                                                 const Answer& answer, Instant now);
    void log_refusal(Question& question, const std::string& reason, Instant now);

    Log& log_;
    Questions questions_;
    std::uint64_t tickets_ = 0;
    bool has_thread_ = false;
    std::shared_ptr<Desk> desk_;
};

}  // namespace udpproxy
