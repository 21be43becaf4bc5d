// Asking once what runs here, and saying what does not.
#include "contract/engines.hpp"

#include <doctest/doctest.h>

#include <cstdio>

#include "udpproxy/io/probe.hpp"

namespace udpproxy::contract {

namespace {

int skipped_count = 0;

}  // namespace

void skip(const std::string& reason) {
    ++skipped_count;
    const auto* test = doctest::getContextOptions()->currentTest;
    std::printf("[contract] SKIPPED \"%s\": %s\n", test != nullptr ? test->m_name : "",
                reason.c_str());
}

int skipped() noexcept { return skipped_count; }

bool io_uring_runs_here() {
    static const UringProbe probe = probe_io_uring();
    if (!probe.usable) skip("io_uring is not usable here: " + probe.reason);
    return probe.usable;
}

}  // namespace udpproxy::contract
