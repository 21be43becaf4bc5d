// A writer's death at any instruction: a child writes into a ledger step by step (ptrace(2)), and
// after each instruction the ledger is opened as the next worker would open it.
#include "udpproxy/ledger/ledger.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <functional>
#include <limits>
#include <memory>
#include <optional>

#include "sim/sim_shard.hpp"

namespace {

/// The calls of fallocate() that find memory.
int calls_with_memory = std::numeric_limits<int>::max();

}  // namespace

/// In front of the library's.
extern "C" int fallocate(int descriptor, int mode, off_t offset, off_t bytes) {
    if (calls_with_memory == 0) {
        errno = ENOSPC;
        return -1;
    }
    --calls_with_memory;
    return static_cast<int>(::syscall(SYS_fallocate, descriptor, mode, offset, bytes));
}

namespace udpproxy {
namespace {

using namespace std::chrono_literals;

constexpr LedgerSize small{1, 40, 1};
constexpr std::uint32_t group_written = 7;
constexpr int no_tracing = 77;

/// Runs `write` in a child, and `look` in this process before and after each of its instructions.
/// False: children cannot be traced here.
bool step_through(const std::function<void()>& write, const std::function<void()>& look) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(no_tracing);
        ::raise(SIGSTOP);
        write();
        ::raise(SIGSTOP);
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    if (WIFEXITED(status)) {
        CHECK(WEXITSTATUS(status) == no_tracing);
        return false;
    }
    constexpr int steps_max = 1'000'000;
    int steps = 0;
    do {
        look();
        REQUIRE(::ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) == 0);
        REQUIRE(::waitpid(child, &status, 0) == child);
        REQUIRE(WIFSTOPPED(status));
    } while (WSTOPSIG(status) == SIGTRAP && ++steps < steps_max);
    look();
    CHECK(WSTOPSIG(status) == SIGSTOP);
    CHECK(steps > 10);
    ::kill(child, SIGKILL);
    REQUIRE(::waitpid(child, &status, 0) == child);
    return true;
}

Ledger opened(const Ledger& ledger) {
    Result<Ledger> reader = Ledger::open(ledger.descriptor());
    REQUIRE(reader.has_value());
    return std::move(*reader);
}

GroupRecord group(bool has_session) {
    GroupRecord group;
    group.proxy = 1;
    group.local = parse_endpoint("192.0.2.1:40000").value();
    group.cooling_since = Instant{100s};
    group.members = 3;
    group.descriptors = {5, 6, 7};
    if (!has_session) return group;
    SessionRecord& session = group.session.emplace();
    session.id = 77;
    session.client = parse_endpoint("[2001:db8::1]:5353").value();
    session.admitted_at = Instant{90s};
    return group;
}

/// What was seen, in order; each state once.
using Seen = std::vector<std::optional<GroupRecord>>;  // absent: free
void check_steps(const std::optional<GroupRecord>& before,
                 const std::optional<GroupRecord>& after) {
    Result<Ledger> made = Ledger::create(small);
    REQUIRE(made.has_value());
    Ledger& ledger = *made;
    if (before) ledger.write(0, group_written, *before);
    bool was_torn = false;
    Seen whole;
    const auto write = [&] {
        if (after)
            ledger.write(0, group_written, *after);
        else
            ledger.erase(0, group_written);
    };
    const auto look = [&] {
        GroupRecord record;
        const Ledger::Found found = opened(ledger).read(0, group_written, record);
        if (found == Ledger::Found::torn) {
            was_torn = true;
            REQUIRE(whole == Seen{before});
            return;
        }
        std::optional<GroupRecord> state;
        if (found == Ledger::Found::whole) state = record;
        if (whole.empty() || whole.back() != state) whole.push_back(state);
    };
    if (!step_through(write, look)) {
        MESSAGE("children cannot be traced here");
        return;
    }
    CHECK(whole == Seen{before, after});
    // What was begun is not free, and an end is one store.
    CHECK(was_torn == after.has_value());
}

TEST_CASE("a group's record is what was, then torn, then what is, after each instruction") {
    GroupRecord assured = group(true);
    assured.session->assured = true;
    SUBCASE("a session begins in a new group") { check_steps(std::nullopt, group(true)); }
    SUBCASE("a session begins in a group that has cooled down") {
        check_steps(group(false), group(true));
    }
    SUBCASE("a session is assured") { check_steps(group(true), assured); }
    SUBCASE("a session ends") { check_steps(assured, group(false)); }
    SUBCASE("a group closes") { check_steps(group(true), std::nullopt); }
}

TEST_CASE("the control record is the one before or the new one, after each instruction") {
    Result<Ledger> ledger = Ledger::create(small);
    REQUIRE(ledger.has_value());
    std::vector<ControlRecord> records(4);
    for (std::size_t i = 0; i < records.size(); ++i) {
        records[i].reloads = i;
        records[i].toml.assign(50 - 10 * i, 'x');
    }
    std::optional<ControlRecord> before;
    for (const ControlRecord& after : records) {
        const std::vector<std::byte> bytes = Ledger::encode(after);
        bool is_new = false;
        const auto look = [&] {
            const std::optional<ControlRecord> control = opened(*ledger).control();
            REQUIRE((control == after || (!is_new && control == before)));
            is_new = control == after;
        };
        const bool was_traced = step_through([&] { (void)ledger->put(bytes); }, look);
        if (was_traced) CHECK(is_new);
        // The child has a sequence of its own.
        CHECK(ledger->put(bytes));
        before = after;
    }
}

/// What is done while the kernel has no memory for another page of a file; strict overcommit brings
/// that about, and a store through the mapping would be SIGBUS.
template <class Deed>
auto without_memory(Deed&& deed) {
    struct Shortage {
        Shortage() { calls_with_memory = 0; }
        ~Shortage() { calls_with_memory = std::numeric_limits<int>::max(); }
    } shortage;
    return deed();
}

/// Memory that the file has, in pages.
std::int64_t pages_of(const Ledger& ledger) {
    struct stat status {};
    REQUIRE(::fstat(ledger.descriptor(), &status) == 0);
    return status.st_blocks / 8;
}

TEST_CASE("where there is no memory nothing is written, and what was written stays") {
    const auto failed = without_memory([] { return Ledger::create(small); });
    REQUIRE_FALSE(failed.has_value());
    CHECK(failed.error().message == "fallocate: No space left on device");

    Result<Ledger> ledger = Ledger::create(small);
    REQUIRE(ledger.has_value());
    CHECK(ledger->write(0, 0, group(true)));
    ControlRecord control;
    // Both copies have a page: what a larger record lacks is behind it.
    CHECK(ledger->put(Ledger::encode(control)));
    CHECK(ledger->put(Ledger::encode(control)));
    const std::int64_t pages = pages_of(*ledger);
    without_memory([&] {
        CHECK_FALSE(ledger->write(0, 16, group(true)));  // of another page
        CHECK(ledger->write(0, 15, group(true)));
        ledger->erase(0, 17);
        ledger->rest(0, 1, Instant{1s});
        ControlRecord larger;
        larger.toml.assign(100'000, 'x');
        CHECK_FALSE(ledger->put(Ledger::encode(larger)));
        ledger->close_in_order(Instant{1s});
        return 0;
    });
    CHECK(pages_of(*ledger) == pages);
    Ledger reader = opened(*ledger);
    GroupRecord record;
    CHECK(reader.read(0, 0, record) == Ledger::Found::whole);
    CHECK(reader.read(0, 15, record) == Ledger::Found::whole);
    CHECK(reader.read(0, 16, record) == Ledger::Found::free);
    CHECK(reader.rests_until(0, 1) == Instant::min());
    CHECK(reader.control() == control);
    CHECK(reader.closed_in_order() == Instant{1s});

    CHECK(ledger->write(0, 16, group(true)));
    ledger->rest(0, 1, Instant{1s});
    CHECK(ledger->put(Ledger::encode(control)));
    CHECK(opened(*ledger).read(0, 16, record) == Ledger::Found::whole);
    CHECK(opened(*ledger).rests_until(0, 1) >= Instant{1s});
}

TEST_CASE("a session whose record finds no memory is served all the same, and counted") {
    ShardSetup setup = sim::small_setup();
    setup.ledger = std::make_shared<Ledger>(Ledger::create({1, 400, 4}).value());
    sim::SimShard sim(std::move(setup));
    const Counter& unwritten = sim.shard().counters.records_unwritten;
    without_memory([&] {
        sim.ask(sim::at("10.1.0.2:5000"), "one");
        sim.turns(2);
        return 0;
    });
    CHECK(sim.asked().size() == 1);
    CHECK(unwritten.read() == 1);
    sim.ask(sim::at("10.1.0.2:5001"), "two");
    sim.turns(2);
    CHECK(sim.asked().size() == 1);
    CHECK(unwritten.read() == 1);
}

}  // namespace
}  // namespace udpproxy
