// What goes on, live in the terminal: `udpproxyctl top`.
#pragma once

#include <cstdint>

#include "client.hpp"

namespace udpproxy::ctl {

struct TopOptions {
    double interval_s = 1;
    std::uint32_t frames = 0;  // 0: until `q` or SIGINT
    bool json = false;         // one line of JSON a frame
};

/// Errors: the program's.
[[nodiscard]] Result<void> run_top(const Client& client, const TopOptions& options);

/// One frame out of two looks at the program, `seconds` apart; lines as they fit `width`. For tests
/// as well.
struct Look {
    Json status;
    Json proxies;
    Json sessions;
};
[[nodiscard]] std::string view_frame(const Look& before, const Look& now, double seconds,
                                     std::size_t rows, std::size_t width);

}  // namespace udpproxy::ctl
