// The contract tests' main(): doctest's, and a last line that says what could not be tested here.
// These tests use real sockets on loopback, the same ones for every engine; what a shard makes of
// them is tested in tests/sim and tests/unit, real daemons in tests/e2e.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "contract/engines.hpp"

int main(int argc, char** argv) {
    doctest::Context context(argc, argv);
    const int outcome = context.run();
    if (const int count = udpproxy::contract::skipped(); count > 0)
        std::printf("[contract] %d SKIPPED, each named above with its reason\n", count);
    return outcome;
}
