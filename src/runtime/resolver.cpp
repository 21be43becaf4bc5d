// Runs the resolver's thread, and decides what becomes of each answer.
#include "udpproxy/runtime/resolver.hpp"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "udpproxy/config/upstream_choice.hpp"
#include "udpproxy/host/resolve.hpp"

namespace udpproxy {

namespace {

constexpr Duration again_first = std::chrono::seconds{1};
constexpr Duration again_at_most = std::chrono::minutes{1};
// Interval at which an unchanged reason is logged again: longer than one attempt, shorter than a
// week.
constexpr Duration repeat_every = std::chrono::minutes{10};

std::string sentence_of_failure(const ProxyConfig& proxy, const Error& error) {
    return fmt::format("upstream \"{}\": resolve: {}", proxy.upstream.text, error.message);
}

Duration pause_after(std::uint32_t failures) {
    return std::min(again_at_most, again_first * (1U << std::min(failures - 1, 6U)));
}

}  // namespace

std::vector<std::string> complaints_of_resolver(const Config& config) {
    std::vector<std::string> complaints;
    for (const ProxyConfig& proxy : config.proxies) {
        if (proxy.upstream.endpoint) continue;
        const auto found =
            resolve(proxy.upstream.host, proxy.upstream.port, upstream_family(proxy));
        const UpstreamChoice choice =
            found ? choose_upstream(config, proxy, *found) : UpstreamChoice{};
        if (choice.endpoint) continue;
        complaints.push_back(
            fmt::format("{}: proxy \"{}\": {}", proxy.upstream.position, proxy.name,
                        found ? choice.refused : sentence_of_failure(proxy, found.error())));
    }
    return complaints;
}

struct Names::Desk {
    struct Job {
        std::uint64_t ticket = 0;
        std::string host;
        std::uint16_t port = 0;
        std::optional<Family> family;
    };
    std::mutex mutex;
    std::condition_variable news;
    std::deque<Job> jobs;
    std::deque<Answer> answers;
    bool closed = false;
};

Names::Names(Log& log) : log_(log), desk_(std::make_shared<Desk>()) {}

Names::~Names() {
    const std::lock_guard lock(desk_->mutex);
    desk_->closed = true;
    desk_->news.notify_all();
}

void Names::serve(std::shared_ptr<Desk> desk) {
    ::pthread_setname_np(::pthread_self(), "names");
    std::unique_lock lock(desk->mutex);
    while (true) {
        desk->news.wait(lock, [&] { return desk->closed || !desk->jobs.empty(); });
        if (desk->closed) return;
        try {
            const Desk::Job job = desk->jobs.front();
            lock.unlock();
            Answer answer{job.ticket, resolve(job.host, job.port, job.family)};
            lock.lock();
            desk->answers.push_back(std::move(answer));
            desk->jobs.pop_front();
        } catch (const std::bad_alloc&) {  // the job stays queued and is tried again
            if (lock.owns_lock()) lock.unlock();
            sleep_for(again_first);
            lock.lock();
        }
    }
}

void Names::ask(std::uint16_t proxy, const ProxyConfig& config,
                const std::optional<Endpoint>& present) {
    Question& question = questions_[proxy];
    const bool is_under_way = question.asked &&
                              question.config.upstream.host == config.upstream.host &&
                              question.config.upstream.port == config.upstream.port &&
                              upstream_family(question.config) == upstream_family(config);
    const std::uint64_t ticket = question.ticket;
    question = Question{};
    question.config = config;
    question.present = present;
    if (is_under_way) {
        // A repeated question is not queued again: the thread already has it.
        question.asked = true;
        question.ticket = ticket;
    }
}

/// Starts a thread that is never joined: at the end it may be in the C library for as long as the
/// resolver's time-outs last. Returns an empty string, or why there is no thread.
std::string Names::start_thread() {
    if (has_thread_) return {};
    try {
        std::thread(serve, desk_).detach();
        has_thread_ = true;
        return {};
    } catch (const std::system_error& failure) {
        return failure.what();
    }
}

void Names::post(Question& question) {
    if (const std::string failure = start_thread(); !failure.empty()) {
        const Instant now = monotonic_now();
        question.answered = true;
        question.again_at = now + pause_after(++question.failures);
        log_refusal(question, sentence_of_failure(question.config, Error{"no thread: " + failure}),
                    now);
        return;
    }
    question.ticket = ++tickets_;
    question.asked = true;
    const UpstreamAddress& upstream = question.config.upstream;
    const std::lock_guard lock(desk_->mutex);
    desk_->jobs.push_back(
        {question.ticket, upstream.host, upstream.port, upstream_family(question.config)});
    desk_->news.notify_one();
}

std::vector<Names::Found> Names::look(const Config& config, Instant now) {
    std::deque<Answer> answers;
    {
        const std::lock_guard lock(desk_->mutex);
        answers.swap(desk_->answers);
    }
    std::vector<Found> found;
    for (const Answer& answer : answers) {
        for (auto entry = questions_.begin(); entry != questions_.end(); ++entry) {
            Question& question = entry->second;
            if (!question.asked || question.ticket != answer.ticket) continue;
            question.asked = false;
            question.answered = true;
            if (const std::optional<Endpoint> endpoint = decide(config, question, answer, now)) {
                found.push_back({entry->first, *endpoint});
                questions_.erase(entry);
            }
            break;
        }
    }
    for (auto& [proxy, question] : questions_) {
        if (!question.asked && now >= question.again_at) post(question);
    }
    return found;
}

std::optional<Endpoint> Names::decide(const Config& config, Question& question,
                                      const Answer& answer, Instant now) {
    const ProxyConfig& proxy = question.config;
    UpstreamChoice choice;
    if (answer.found) choice = choose_upstream(config, proxy, *answer.found, question.present);
    if (!choice.endpoint) {
        question.again_at = now + pause_after(++question.failures);
        log_refusal(
            question,
            answer.found ? choice.refused : sentence_of_failure(proxy, answer.found.error()), now);
        return std::nullopt;
    }
    std::vector<LogField> fields{{"proxy", proxy.name},
                                 {"upstream", proxy.upstream.text},
                                 {"endpoint", format(*choice.endpoint)},
                                 {"addresses", answer.found->size()}};
    if (!choice.refused.empty()) fields.emplace_back("passed_over", choice.refused);
    log_.info("resolved", fields);
    return choice.endpoint;
}

void Names::log_refusal(Question& question, const std::string& reason, Instant now) {
    if (reason == question.logged && now - question.logged_at < repeat_every) return;
    question.logged = reason;
    question.logged_at = now;
    log_.warn("unresolved",
              {{"proxy", question.config.name},
               {"reason", reason},
               {"attempts", question.failures},
               {"effect", question.present ? "goes on with the address it has"
                                           : "its clients are dropped until there is an address"},
               {"next", "asked again every second to every minute"}});
}

bool Names::all_answered() const {
    return std::all_of(questions_.begin(), questions_.end(),
                       [](const auto& entry) { return entry.second.answered; });
}

}  // namespace udpproxy
