// Files whose names come from outside: a name may lead to a pipe without a writer, to a device, or
// to a file system whose server is away. Called by the readers of configurations and by main.
#pragma once

#include <cstddef>
#include <string>

#include "udpproxy/base/result.hpp"
#include "udpproxy/base/time.hpp"

namespace udpproxy {

/// The content of a regular file or of a pipe (`/dev/stdin`, `<(…)`), read within the limit. At
/// most `bytes_max` + 1 bytes are read, so that a caller sees that there are more. Errors: what
/// else the name leads to; the operation and its cause; the limit was reached (ETIMEDOUT).
[[nodiscard]] Result<std::string> read_file(const std::string& path, std::size_t bytes_max,
                                            Duration limit);

/// Opens /dev/null on each of the descriptors 0 to 2 that is closed. Otherwise the first sockets
/// get these numbers, and what is meant for standard error is sent to a peer. Errors: open.
[[nodiscard]] Result<void> open_standard_streams();

}  // namespace udpproxy
