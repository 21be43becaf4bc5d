// `udpproxyctl trace`: shows the datagrams of one client on both legs.
#pragma once

#include <cstdint>
#include <string>

#include "client.hpp"
#include "screen.hpp"

namespace udpproxy::ctl {

struct TraceOptions {
    std::string client;
    std::uint32_t seconds = 10;
    std::uint32_t datagrams = 1000;
    std::string file;  // pcapng; empty: lines on standard output
    bool json = false;
};

/// Runs until the time is over, enough datagrams were seen, or SIGINT. Errors: those of the program
/// and of the capture file.
[[nodiscard]] Result<void> run_trace(const Client& client, const TraceOptions& options,
                                     const Screen& screen);

/// One record as a line, or several where `width` is too small for it. The time is local.
[[nodiscard]] std::string view_record(const Json& record, std::size_t width);

}  // namespace udpproxy::ctl
