// Reads the outcome from the status of the worker that serves. The worker that was asked ends in
// the course of it, so that nobody may answer for a moment.
#include "upgrade.hpp"

#include <fmt/format.h>

#include <chrono>
#include <string_view>
#include <thread>

#include "table.hpp"
#include "udpproxy/base/printable.hpp"
#include "udpproxy/base/time.hpp"
#include "views.hpp"

namespace udpproxy::ctl {

namespace {

constexpr Duration look_every = std::chrono::milliseconds{50};
constexpr Duration quiet_for = std::chrono::seconds{1};
// The keeper gives the new program 5 s to answer, the worker 5 s to hand over, and the new worker 5
// s to come up.
constexpr Duration outcome_limit = std::chrono::seconds{20};
constexpr std::chrono::seconds answer_limit{2};  // a worker that stands still is replaced

std::uint64_t sum_of(const Json& starts) {
    std::uint64_t sum = 0;
    for (const auto& [reason, count] : starts.items()) sum += count.get<std::uint64_t>();
    return sum;
}

/// Tells how it stands, when that has changed, but for the first second.
class Progress {
public:
    void tell(Duration passed, const char* how) {
        if (passed < quiet_for || told_ == how) return;
        told_ = how;
        print_error(fmt::format("{}\n", how));
    }

private:
    std::string_view told_;
};

}  // namespace

Result<Json> ask_for_upgrade(const std::string& socket) {
    const Result<Json> asked = Client{socket}.json("POST", "/v1/upgrade");
    if (!asked) return asked.error();
    const Client client{socket, answer_limit};
    const Instant begun = monotonic_now();
    Progress progress;
    std::string last_error;
    for (Duration passed{}; passed < outcome_limit; passed = monotonic_now() - begun) {
        std::this_thread::sleep_for(look_every);
        const Result<Json> status = client.json("GET", "/v1/status");
        if (status) {
            if (std::optional<Json> outcome = outcome_of_upgrade(*asked, *status)) return *outcome;
            progress.tell(passed, "the program in place of this one is asked whether it can go on");
        } else {
            progress.tell(passed, "one worker has handed over, the next one does not answer yet");
        }
        last_error = status ? "the same worker serves as before" : status.error().message;
    }
    return Error{fmt::format("the outcome is not known after {} s ({}); the log has it",
                             outcome_limit / std::chrono::seconds{1}, last_error)};
}

std::optional<Json> outcome_of_upgrade(const Json& asked, const Json& status) {
    const Json& worker = status.at("worker");
    const Json& before = asked.at("starts");
    const Json& starts = worker.at("starts");
    const std::string reason = text(worker, "reason");
    const bool is_other = sum_of(starts) != sum_of(before);
    // Each worker counts its own.
    const bool is_refused =
        number(worker, "upgrades_refused") > (is_other ? 0 : number(asked, "upgrades_refused"));
    const char* outcome = nullptr;
    std::string why;
    if (number(status, "pid") != number(asked, "pid")) {
        outcome = "restarted";
    } else if (is_other && reason == "upgrade") {
        outcome = "upgraded";
    } else if (is_other && reason == "undone") {
        outcome = "undone";
        why = text(worker, is_refused ? "last_refusal" : "last_end");
    } else if (is_refused) {
        outcome = "refused";
        why = text(worker, "last_refusal");
    } else if (number(starts, "upgrade") > number(before, "upgrade")) {
        outcome = "crashed";
        why = text(worker, "last_end");
    } else {
        return std::nullopt;  // a worker that died before is followed by one that is asked again
    }
    return Json{{"outcome", outcome},
                {"from_version", asked.at("version")},
                {"version", status.at("version")},
                {"sessions_adopted", worker.at("sessions_adopted")},
                {"sessions_closed", worker.at("sessions_closed")},
                {"pause_ms", worker.at("pause_ms")},
                {"reason", why.empty() ? Json() : Json(why)}};
}

bool is_upgraded(const Json& outcome) { return text(outcome, "outcome") == "upgraded"; }

std::string view_upgrade(const Json& outcome, std::size_t width) {
    const std::string kind = text(outcome, "outcome");
    const std::string version = text(outcome, "version");
    const std::string why = text(outcome, "reason");
    const Json& pause = outcome.at("pause_ms");
    const std::string adopted = fmt::format(
        "{} adopted, {} closed, pause {:.1f} ms",
        as_number_of(number(outcome, "sessions_adopted"), "session"),
        as_count(number(outcome, "sessions_closed")), pause.is_null() ? 0.0 : pause.get<double>());
    const std::string because = why.empty() ? "" : " (" + why + ')';
    std::string line;
    if (kind == "upgraded")
        line =
            fmt::format("upgraded: {} -> {}, {}", text(outcome, "from_version"), version, adopted);
    else if (kind == "undone")
        line = fmt::format("not upgraded: the new program did not come up{}, {} goes on: {}",
                           because, version, adopted);
    else if (kind == "crashed")
        line = fmt::format("upgraded to {}, whose worker then ended{}; the next one goes on: {}",
                           version, because, adopted);
    else if (kind == "restarted")
        line = fmt::format("not upgraded: the program was restarted meanwhile, {} serves", version);
    else
        line = fmt::format("not upgraded, {} goes on: {}", version, why);
    return wrapped(line, 2, width) + '\n';
}

}  // namespace udpproxy::ctl
