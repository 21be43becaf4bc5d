// Names: the host names of upstreams, resolved in a thread of their own, since a resolver may take
// half a minute to say nothing: neither a shard nor a signal ever waits for it. A name without a
// usable address is asked for again, at growing intervals, for as long as its proxy stands there.
// Which address is taken is decided in config/upstream_choice.hpp; telling the shards is the
// reconfigurer's affair.
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

/// What --check-config says about names that have no usable address now: one line for each, with
/// the file's position.
[[nodiscard]] std::vector<std::string> complaints_of_resolver(const Config& config);

class Names {
public:
    explicit Names(Log& log);
    ~Names();
    Names(const Names&) = delete;
    Names& operator=(const Names&) = delete;

    /// The name of the proxy's upstream is asked for by the next look(); takes the place of an
    /// earlier question of this proxy. `present` is kept if it is still an answer.
    // Requires: the upstream is a name.
    void ask(std::uint16_t proxy, const ProxyConfig& config,
             const std::optional<Endpoint>& present = std::nullopt);
    void forget(std::uint16_t proxy) { questions_.erase(proxy); }

    struct Found {
        std::uint16_t proxy = 0;
        Endpoint endpoint;
    };
    /// Takes the answers that are there, writes their log lines, and asks again where it is time.
    /// `config` tells what would be a loop.
    [[nodiscard]] std::vector<Found> look(const Config& config, Instant now);
    /// Every question has had an answer, of use or not.
    [[nodiscard]] bool all_answered() const;

    struct Question {
        ProxyConfig config;
        std::optional<Endpoint> present;
        std::uint64_t ticket = 0;
        bool asked = false;     // the thread has it
        bool answered = false;  // at least once
        std::uint32_t failures = 0;
        Instant again_at{};
        std::string logged;  // the last reason written
        Instant logged_at{};
    };
    using Questions = std::map<std::uint16_t, Question>;
    [[nodiscard]] const Questions& questions() const { return questions_; }
    /// What was asked and forgotten since `earlier` was copied is as if it had not been; no look()
    /// since then.
    void restore(Questions earlier) noexcept { questions_.swap(earlier); }

private:
    struct Answer {
        std::uint64_t ticket = 0;
        Result<std::vector<Endpoint>> found;
    };
    struct Desk;  // what this side and the thread share

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
