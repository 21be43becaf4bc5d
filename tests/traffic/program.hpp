// What every program of the traffic has in common: it reads a command line, ends early when it is
// told to, and turns what went wrong into a sentence and an exit code.
#pragma once

// NOLINTNEXTLINE(readability-identifier-naming): the library's own name
namespace CLI {
class App;
}

namespace udpproxy::traffic {

/// Parses the command line, which runs the callbacks of `app`. Returns the exit code: 1 with a
/// sentence on standard error when a callback threw, CLI11's own for a wrong command line.
[[nodiscard]] int run_program(CLI::App& app, int argc, char** argv);

/// Set by SIGTERM and SIGINT once run_program() was called: finish, and say what was.
[[nodiscard]] bool stop_wanted() noexcept;

/// Tells the starter of the program that it may go on: a line `ready`.
void say_ready();

}  // namespace udpproxy::traffic
