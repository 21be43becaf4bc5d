// What a keeper leaves to the program that takes its place by execve(2), in one variable of the
// environment. Both are one process, with the same number and the same children.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "udpproxy/keeper/worker_start.hpp"

namespace udpproxy {

struct Inheritance {
    StartReason reason = StartReason::upgrade;  // or undone
    int ledger = -1;
    int old_program = -1;  // to go back to; -1: there is no way back
    Instant ended_at{};    // when the last worker ended, and what of
    int signal = 0;
    int exit_code = 0;
    std::array<std::uint64_t, start_reasons> starts{};
    std::string version;  // of the program that leaves it
    std::string path;     // of the program for the next upgrade
};

/// The variable's value: numbers and the version, parted by spaces, then the path.
[[nodiscard]] std::string text_of(const Inheritance& inheritance);
/// Empty: it is not written like that, or for a process other than this one.
[[nodiscard]] std::optional<Inheritance> read_inheritance(std::string_view text);

inline constexpr char inheritance_variable[] = "UDPPROXY_KEEPER";

}  // namespace udpproxy
