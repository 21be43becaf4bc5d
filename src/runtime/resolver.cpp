// Decides when a name is asked for again, and what the log says of it. Whatever may throw comes
// before the change of a question: an exception leaves the answer where it is, for the next look().
#include "udpproxy/runtime/resolver.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "udpproxy/config/upstream_choice.hpp"

namespace udpproxy {

namespace {

constexpr Duration again_first = std::chrono::seconds{1};
constexpr Duration again_at_most = std::chrono::minutes{1};
// A name in /etc/hosts has no TTL.
constexpr Duration file_again = std::chrono::minutes{1};
constexpr Duration ttl_least = std::chrono::seconds{1};
constexpr Duration ttl_most = std::chrono::hours{1};
// Interval at which an unchanged reason is logged again: longer than one attempt, shorter than a
// week.
constexpr Duration failure_log_every = std::chrono::minutes{10};

std::string sentence_of_failure(const ProxyConfig& proxy, const Error& error) {
    return fmt::format("upstream \"{}\": resolve: {}", proxy.upstream.text, error.message);
}

Duration pause_after(std::uint32_t failures) {
    return std::min(again_at_most, again_first * (1U << std::min(failures - 1, 6U)));
}

HostName host_name_of(const ProxyConfig& proxy) {
    return {proxy.upstream.host, proxy.upstream.port, upstream_family(proxy)};
}

}  // namespace

std::vector<std::string> complaints_of_resolver(const Config& config) {
    std::vector<HostName> names;
    for (const ProxyConfig& proxy : config.proxies)
        if (!proxy.upstream.endpoint) names.push_back(host_name_of(proxy));
    const std::vector<Result<Addresses>> answers = look_up(names);
    std::vector<std::string> complaints;
    auto answer = answers.begin();
    for (const ProxyConfig& proxy : config.proxies) {
        if (proxy.upstream.endpoint) continue;
        const Result<Addresses>& found = *answer++;
        const UpstreamChoice choice =
            found ? choose_upstream(config, proxy, found->endpoints) : UpstreamChoice{};
        if (choice.endpoint) continue;
        complaints.push_back(
            fmt::format("{}: proxy \"{}\": {}", proxy.upstream.position, proxy.name,
                        found ? choice.refused : sentence_of_failure(proxy, found.error())));
    }
    return complaints;
}

void Names::ask(std::uint16_t proxy, const ProxyConfig& config,
                const std::optional<Endpoint>& present) {
    Question question;
    question.config = config;
    question.present = present;
    // A name that is asked for already is not asked for twice.
    if (const auto known = questions_.find(proxy);
        known != questions_.end() && known->second.lookup &&
        known->second.lookup->name() == host_name_of(config))
        question.lookup = known->second.lookup;
    questions_.insert_or_assign(proxy, std::move(question));
}

std::vector<Names::Found> Names::look(const Config& config, Instant now) {
    for (auto& [proxy, question] : questions_)
        if (!question.lookup && now >= question.again_at)
            question.lookup = lookups_.ask(host_name_of(question.config));
    lookups_.advance();
    std::vector<Found> found;
    for (auto& [proxy, question] : questions_) {
        if (!question.lookup || !question.lookup->is_done()) continue;
        std::optional<Found> usable = decide(config, proxy, question, now);
        if (!usable) continue;
        if (question.settled && usable->endpoint == question.present)
            settle(std::move(*usable), now);
        else
            found.push_back(std::move(*usable));
    }
    return found;
}

std::optional<Names::Found> Names::decide(const Config& config, std::uint16_t proxy,
                                          Question& question, Instant now) {
    const Result<Addresses> addresses = question.lookup->addresses();
    if (!addresses) {
        fail(question, sentence_of_failure(question.config, addresses.error()), now);
        return std::nullopt;
    }
    UpstreamChoice choice =
        choose_upstream(config, question.config, addresses->endpoints, question.present);
    if (!choice.endpoint) {
        fail(question, choice.refused, now);
        return std::nullopt;
    }
    return Found{proxy,
                 *choice.endpoint,
                 !question.settled,
                 addresses->endpoints.size(),
                 std::move(choice.refused),
                 addresses->ttl};
}

void Names::settle(Found found, Instant now) noexcept {
    Question& question = questions_.find(found.proxy)->second;
    const bool is_news =
        found.is_first || found.endpoint != question.present || !question.logged.empty();
    question.present = found.endpoint;
    question.lookup.reset();
    question.answered = true;
    question.settled = true;
    question.failures = 0;
    question.again_at =
        now + (found.ttl ? std::clamp(*found.ttl, ttl_least, ttl_most) : file_again);
    question.logged.clear();
    if (is_news) question.unlogged = std::move(found);
}

void Names::put_off(const Found& found, const std::string& reason, Instant now) {
    Question& question = questions_.find(found.proxy)->second;
    fail(question,
         fmt::format("upstream \"{}\" is {} now: {}", question.config.upstream.text,
                     format(found.endpoint), reason),
         now);
}

void Names::fail(Question& question, const std::string& reason, Instant now) {
    if (reason != question.logged || now - question.logged_at >= failure_log_every) {
        std::string logged = reason;
        log_.warn(
            "unresolved",
            {{"proxy", question.config.name},
             {"reason", reason},
             {"attempts", question.failures + 1},
             {"effect", question.present ? "goes on with the address it has"
                                         : "its clients are dropped until there is an address"},
             {"next", "asked again every second to every minute"}});
        question.logged = std::move(logged);
        question.logged_at = now;
    }
    question.lookup.reset();
    question.answered = true;
    question.again_at = now + pause_after(++question.failures);
}

void Names::log_settled() {
    for (auto& [proxy, question] : questions_) {
        if (!question.unlogged) continue;
        const Found& found = *question.unlogged;
        std::vector<LogField> fields{{"proxy", question.config.name},
                                     {"upstream", question.config.upstream.text},
                                     {"endpoint", format(found.endpoint)},
                                     {"addresses", found.addresses}};
        if (!found.passed_over.empty()) fields.emplace_back("passed_over", found.passed_over);
        log_.info("resolved", fields);
        question.unlogged.reset();
    }
}

bool Names::all_answered() const {
    return std::all_of(questions_.begin(), questions_.end(),
                       [](const auto& entry) { return entry.second.answered; });
}

}  // namespace udpproxy
