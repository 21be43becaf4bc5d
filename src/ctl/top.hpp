// `udpproxyctl top`: the live view in a terminal. Rates are computed here; the program reports
// counters only.
#pragma once

#include <cstdint>

#include "client.hpp"
#include "screen.hpp"

namespace udpproxy::ctl {

struct TopOptions {
    double interval_s = 1;
    std::uint32_t frames = 0;  // 0: until `q` or SIGINT
    bool json = false;         // one line of JSON a frame
};

/// Errors: those of the program.
[[nodiscard]] Result<void> run_top(const Client& client, const TopOptions& options,
                                   const Screen& screen);

/// One frame from two samples that were taken `seconds` apart, in at most `rows` lines of `width`.
/// Problems and drops stand first.
struct Sample {
    Json status;
    Json proxies;
    Json sessions;
};
[[nodiscard]] std::string view_frame(const Sample& before, const Sample& now, double seconds,
                                     std::size_t rows, std::size_t width);

}  // namespace udpproxy::ctl
