// The unit tests' only main(): doctest's. No test here opens a socket, reads a clock or starts a
// thread.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
