// Lines to standard output, and the wish to end.
#include "outcome.hpp"

#include <atomic>
#include <csignal>
#include <cstdio>

namespace udpproxy::traffic {

namespace {

std::atomic<bool> stop{false};
static_assert(std::atomic<bool>::is_always_lock_free);

}  // namespace

void say(const nlohmann::ordered_json& line) {
    const std::string text = line.dump() + '\n';
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
}

bool stop_wanted() noexcept { return stop.load(std::memory_order_relaxed); }

void listen_for_stop() {
    struct sigaction action {};
    action.sa_handler = [](int) { stop.store(true, std::memory_order_relaxed); };
    sigaction(SIGTERM, &action, nullptr);
    sigaction(SIGINT, &action, nullptr);
}

}  // namespace udpproxy::traffic
