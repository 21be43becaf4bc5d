// The signals interrupt a receive that waits (no SA_RESTART).
#include "program.hpp"

#include <CLI/CLI.hpp>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>

namespace udpproxy::traffic {

namespace {

std::atomic<bool> stop{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void listen_for_stop() {
    struct sigaction action {};
    action.sa_handler = [](int) { stop.store(true, std::memory_order_relaxed); };
    sigaction(SIGTERM, &action, nullptr);
    sigaction(SIGINT, &action, nullptr);
}

}  // namespace

int run_program(CLI::App& app, int argc, char** argv) {
    listen_for_stop();
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error);
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "%s: %s\n", program_invocation_short_name, failure.what());
        return 1;
    }
    return 0;
}

bool stop_wanted() noexcept { return stop.load(std::memory_order_relaxed); }

void say_ready() {
    std::puts("ready");
    std::fflush(stdout);
}

}  // namespace udpproxy::traffic
