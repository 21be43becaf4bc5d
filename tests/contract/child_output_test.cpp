// A child process whose output is wanted, and every way in which it may not come.
#include "host/child_output.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <chrono>
#include <csignal>

namespace udpproxy {
namespace {

constexpr ChildLimits usual{std::chrono::seconds{10}, 100000};

Result<std::string> shell(const std::string& command, const ChildLimits& limits = usual) {
    return child_output({"/bin/sh", "-c", command}, limits);
}

TEST_CASE("the output comes whole, without what went to standard error") {
    const auto text =
        shell("echo one; echo wrong >&2; cat; head -c 50000 /dev/zero; echo; echo two");
    REQUIRE(text);
    CHECK(text->size() == 50000 + 9);
    CHECK(text->starts_with("one\n"));
    CHECK(text->ends_with("\ntwo\n"));
}

TEST_CASE("a child that takes too long, or says too much, is killed") {
    const auto late = shell("echo one; exec sleep 60", {std::chrono::milliseconds{50}, 100});
    REQUIRE_FALSE(late);
    CHECK(late.error().code == ETIMEDOUT);
    const auto large = shell("exec yes", {std::chrono::seconds{10}, 1000});
    REQUIRE_FALSE(large);
    CHECK(large.error().message == "/bin/sh: more than 1000 bytes");
}

TEST_CASE("a child that ends in another way than wanted is an error that says how") {
    const auto killed = shell("echo '{'; kill -SEGV $$");
    REQUIRE_FALSE(killed);
    CHECK(killed.error().message == "/bin/sh: ended by signal 11");
    const auto failed = shell("echo one; exit 3");
    REQUIRE_FALSE(failed);
    CHECK(failed.error().message == "/bin/sh: exit code 3");
    for (const char* const program : {"no-such-program", "/nowhere/at/all"}) {
        const auto absent = child_output({program}, usual);
        REQUIRE_FALSE(absent);
        CHECK(absent.error().code == ENOENT);
    }
}

// The program blocks signals and ignores SIGPIPE; nft inherited both.
TEST_CASE("a child has its signals unblocked and a broken pipe ends it") {
    sigset_t blocked;
    sigset_t before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGHUP);
    sigaddset(&blocked, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
    const auto handler = std::signal(SIGPIPE, SIG_IGN);
    const auto text = child_output({"grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"}, usual);
    std::signal(SIGPIPE, handler);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    REQUIRE(text);
    CHECK(text->starts_with("SigBlk:\t0000000000000000\n"));
    // Whoever started the tests may ignore signals of its own.
    const std::size_t ignored = text->find("SigIgn:\t");
    REQUIRE(ignored != std::string::npos);
    CHECK((std::stoull(text->substr(ignored + 8), nullptr, 16) & 1ULL << (SIGPIPE - 1)) == 0);
}

}  // namespace
}  // namespace udpproxy
