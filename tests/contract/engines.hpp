// Which engines the contract is tested with, and how a test says that it could not run here. A test
// over an engine begins with `if (!runs_here<Engine>()) return;`: without it an engine that this
// kernel refuses fails the test loudly, in Rig.
#pragma once

#include <string>

#include "udpproxy/io/epoll.hpp"
#include "udpproxy/io/uring.hpp"

// The list of engines, once: TEST_CASE_TEMPLATE("...", Engine, UDPPROXY_ENGINES)
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage): doctest takes the types as macro arguments.
#define UDPPROXY_ENGINES ::udpproxy::UringBackend, ::udpproxy::EpollBackend

namespace udpproxy::contract {

/// Prints one line that names the running test and why it, or a part of it, is skipped; counted for
/// the last line of the run.
void skip(const std::string& reason);
[[nodiscard]] int skipped() noexcept;

/// Asked of the kernel once. False has been said by skip().
[[nodiscard]] bool io_uring_runs_here();

template <class Engine>
[[nodiscard]] bool runs_here() {
    return true;
}
template <>
[[nodiscard]] inline bool runs_here<UringBackend>() {
    return io_uring_runs_here();
}

}  // namespace udpproxy::contract
