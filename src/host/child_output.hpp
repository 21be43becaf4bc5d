// Reads the standard output of a child process, bounded in time and size. Called by the reader of
// the packet filter.
#pragma once

#include <string>
#include <vector>

#include "udpproxy/base/result.hpp"
#include "udpproxy/base/time.hpp"

namespace udpproxy {

struct ChildLimits {
    Duration timeout{};
    std::size_t bytes_max = 0;
};

/// Starts `command` with standard input and error at /dev/null, and waits for its end. `command` is
/// a program and its arguments; a name without a slash is looked up in the PATH. A child beyond a
/// limit is killed. Errors: the operation that failed, the limit, the child's signal or exit code.
[[nodiscard]] Result<std::string> child_output(const std::vector<std::string>& command,
                                               const ChildLimits& limits);

}  // namespace udpproxy
