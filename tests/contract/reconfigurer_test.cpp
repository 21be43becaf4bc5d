// What the control thread does between reloads, short of memory at each of its allocations in turn:
// a drain, a resume, the end of what was retired, a new address of a name, the lines about events.
#include "contract/runtime_rig.hpp"
#include "udpproxy/runtime/event_log.hpp"

namespace udpproxy::contract {
namespace {

const std::string to_upstream = "upstream = \"127.0.0.9:53\"\nsessions_max = 10\n";

/// Whether `act` ended without an exception. Sets `reached`: it came to the failing allocation.
template <class Act>
bool succeeds(std::size_t failing, bool& reached, Act act) {
    const FailingAllocation failure(failing);
    bool done = false;
    try {
        act();
        done = true;
    } catch (const std::bad_alloc&) {
    }
    reached = failure.has_failed();
    return done;
}

// A drain said that it was under way before it had memory for its commands. Without that memory a
// second request was answered with "done", and the shards went on taking new clients.
TEST_CASE("a drain of all is under way with its commands, or not at all") {
    const std::string text =
        head_text() + proxy_text("one", unused_endpoint(loopback(Family::ipv4)), to_upstream);
    let_each_allocation_fail([&](std::size_t failing) {
        RuntimeRig rig(text);
        bool reached = false;
        const bool done = succeeds(
            failing, reached, [&] { (void)rig.reconfigurer.drain(std::nullopt, monotonic_now()); });
        REQUIRE(rig.reconfigurer.is_ready() != done);
        rig.look();
        REQUIRE(rig.board.get()->ready != done);
        rig.stop();
        for (const auto& shard : rig.bootstrap.shards()) REQUIRE(shard->shard().draining == done);
        return reached;
    });
}

TEST_CASE("a drain or a resume of one proxy is in force with its commands, or not at all") {
    RuntimeRig rig(head_text() +
                   proxy_text("one", unused_endpoint(loopback(Family::ipv4)), to_upstream));
    const auto is_draining = [&] { return rig.reconfigurer.proxies()[0].draining; };
    bool expected = false;
    let_each_allocation_fail([&](std::size_t failing) {
        bool drain_reached = false;
        bool resume_reached = false;
        if (succeeds(failing, drain_reached,
                     [&] { (void)rig.reconfigurer.drain("one", monotonic_now()); }))
            expected = true;
        REQUIRE(is_draining() == expected);
        if (succeeds(failing, resume_reached, [&] { (void)rig.reconfigurer.resume("one"); }))
            expected = false;
        REQUIRE(is_draining() == expected);
        return drain_reached || resume_reached;
    });
    rig.look();
    CHECK_FALSE(rig.board.get()->proxies[0].draining);
    rig.stop();
    for (const auto& shard : rig.bootstrap.shards())
        CHECK_FALSE(shard->shard().proxies[0].draining);
}

// A listener and a proxy were marked as closing before there was memory for the command that closes
// them: they stayed so for ever, with their slots and their sockets.
TEST_CASE("what was retired is closed in the end, however short memory was") {
    const Endpoint first = unused_endpoint(loopback(Family::ipv4));
    const Endpoint second = unused_endpoint(loopback(Family::ipv4));
    const std::string one = head_text() + proxy_text("one", first, to_upstream);
    const std::string two = one + proxy_text("two", second, to_upstream);
    RuntimeRig rig(two);
    let_each_allocation_fail([&](std::size_t failing) {
        REQUIRE(rig.reload(one));
        REQUIRE(rig.state_of(1) == SlotState::retired);
        bool any_reached = false;
        const Instant deadline = monotonic_now() + patience;
        while (rig.state_of(1) != SlotState::vacant && monotonic_now() < deadline) {
            bool reached = false;
            (void)succeeds(failing, reached, [&] { rig.look(); });
            any_reached = any_reached || reached;
            // Memory is there again for the next look.
            rig.look();
            sleep_for(std::chrono::microseconds{200});
        }
        REQUIRE(rig.state_of(1) == SlotState::vacant);
        REQUIRE(rig.reload(two));
        return any_reached;
    });
}

// A change of the network was forgotten when there was no memory to follow it.
TEST_CASE("a change of the network reaches the shards in the end, however short memory was") {
    const std::string text =
        head_text() + proxy_text("one", unused_endpoint(loopback(Family::ipv4)), to_upstream);
    let_each_allocation_fail([&](std::size_t failing) {
        RuntimeRig rig(text);
        rig.stop();  // the test reads in their stead
        // What has changed before the watch began counts as a change, and has settled later.
        const Instant begin = monotonic_now();
        rig.reconfigurer.look(begin);
        bool reached = false;
        (void)succeeds(failing, reached,
                       [&] { rig.reconfigurer.look(begin + tentative_wait_max); });
        rig.reconfigurer.look(begin + tentative_wait_max);
        for (const auto& shard : rig.bootstrap.shards()) {
            bool is_told = false;
            for (Command command; shard->shard().commands.take(command);)
                is_told = is_told || command.kind == CommandKind::look_at_sources;
            REQUIRE(is_told);
        }
        return reached;
    });
}

// An event was taken from its mailbox before there was memory for its line, and was lost.
TEST_CASE("each event gets its line in the end, however short memory was") {
    RuntimeRig rig(head_text() +
                   proxy_text("one", unused_endpoint(loopback(Family::ipv4)), to_upstream));
    rig.stop();  // the test posts in their stead
    Shard& shard = rig.bootstrap.shards()[0]->shard();
    let_each_allocation_fail([&](std::size_t failing) {
        EventLog event_log(rig.reconfigurer, rig.log);
        std::vector<std::string> wanted;
        for (const char* source : {"192.0.2.1", "192.0.2.2", "192.0.2.3"}) {
            Event event;
            event.source = Endpoint{address(source), 0, static_cast<std::uint16_t>(failing)};
            event.datagrams = 7;
            REQUIRE(shard.events.post(event));
            wanted.push_back("source=" + format(event.source) + " datagrams=7 ");
        }
        bool reached = false;
        (void)succeeds(failing, reached, [&] { event_log.look(monotonic_now()); });
        event_log.look(monotonic_now());
        const std::string text = rig.log_text();
        for (const std::string& line : wanted) {
            const std::size_t found = text.find(line);
            REQUIRE(found != std::string::npos);
            REQUIRE(text.find(line, found + 1) == std::string::npos);
        }
        return reached;
    });
}

std::size_t count_of(const std::string& text, const std::string& part) {
    std::size_t count = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
        ++count;
    return count;
}

TEST_CASE("an unlisted source has a line a minute, and sources beyond 32 are summed") {
    RuntimeRig rig(head_text() +
                   proxy_text("one", unused_endpoint(loopback(Family::ipv4)), to_upstream));
    rig.stop();  // the test posts in their stead
    Shard& shard = rig.bootstrap.shards()[0]->shard();
    EventLog event_log(rig.reconfigurer, rig.log);
    const auto post = [&](std::uint16_t port) {
        Event event;
        event.source = Endpoint{address("192.0.2.1"), 0, port};
        event.datagrams = 3;
        REQUIRE(shard.events.post(event));
    };
    const Instant begin = monotonic_now();
    const auto look_at = [&](std::chrono::seconds after) { event_log.look(begin + after); };
    using namespace std::chrono_literals;
    for (const auto after : {0s, 1s, 59s}) {
        post(1);
        look_at(after);
    }
    CHECK(count_of(rig.log_text(), "event=unlisted_reply") == 1);
    post(1);
    look_at(60s);
    CHECK(count_of(rig.log_text(), "event=unlisted_reply") == 2);
    CHECK(count_of(rig.log_text(), "source=192.0.2.1:1 datagrams=9 ") == 1);
    for (std::uint16_t port = 2; port <= 41; ++port) {
        post(port);
        look_at(61s);
    }
    // With the first source's second one there are 32 lines in this minute.
    CHECK(count_of(rig.log_text(), "event=unlisted_reply") == 1 + 32);
    CHECK(count_of(rig.log_text(), "event=unlisted_others") == 0);
    post(1);
    look_at(121s);
    CHECK(count_of(rig.log_text(), "event=unlisted_others datagrams=27 ") == 1);
}

TEST_CASE("a listener that a shard could not take is an error with its address and the reason") {
    const Endpoint listen = unused_endpoint(loopback(Family::ipv4));
    RuntimeRig rig(head_text() + proxy_text("one", listen, to_upstream));
    rig.stop();  // the test posts in their stead
    EventLog event_log(rig.reconfigurer, rig.log);
    Event event;
    event.kind = EventKind::listener_refused;
    event.error = ENOSPC;
    REQUIRE(rig.bootstrap.shards()[0]->shard().events.post(event));
    event_log.look(monotonic_now());
    CHECK(rig.log_text().find("level=error event=listener_refused listen=" + format(listen) +
                              " reason=\"No space left on device\"") != std::string::npos);
}

// The lines of a reload that had no memory for them were lost when the next reload came first.
TEST_CASE(
    "each reload has its lines in the end, however short memory was and however soon the next") {
    const Endpoint listen = unused_endpoint(loopback(Family::ipv4));
    const auto text = [&](int sessions_max) {
        return head_text() + proxy_text("one", listen,
                                        "upstream = \"127.0.0.9:53\"\nsessions_max = " +
                                            std::to_string(sessions_max) + "\n");
    };
    RuntimeRig rig(text(10));
    let_each_allocation_fail([&](std::size_t failing) {
        rig.write(text(11));
        bool reached = false;
        (void)succeeds(failing, reached, [&] { (void)rig.reload(); });
        REQUIRE(rig.reload(text(10)));
        return reached;
    });
    REQUIRE((rig.reconfigurer.reloads() > 10 || !counts_allocations()));
    const std::string log = rig.log_text();
    for (std::uint64_t reload = 1; reload <= rig.reconfigurer.reloads(); ++reload) {
        CAPTURE(reload);
        CHECK(log.find(" reloads=" + std::to_string(reload) + '\n') != std::string::npos);
    }
}

TEST_CASE_TEMPLATE("the line about a session names its listener though the listener has gone",
                   Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    const Endpoint first = unused_endpoint(loopback(Family::ipv4));
    const Endpoint second = unused_endpoint(loopback(Family::ipv4));
    const Peer upstream(loopback(Family::ipv4));
    const Peer client(loopback(Family::ipv4));
    const auto text = [&](const std::string& listen) {
        return head_text(std::is_same_v<Engine, UringBackend> ? "io_uring" : "epoll") +
               "[[proxy]]\nname = \"one\"\nlisten = [" + listen + "]\nupstream = \"" +
               format(upstream.endpoint()) + "\"\nsessions_max = 10\n";
    };
    const std::string only_first = '"' + format(first) + '"';
    RuntimeRig rig(text(only_first + ", \"" + format(second) + '"'), Duration::zero());
    EventLog event_log(rig.reconfigurer, rig.log);
    client.send(second, "question");
    REQUIRE(upstream.receive().has_value());
    REQUIRE(rig.reload(text(only_first)));
    REQUIRE(
        rig.look_until([&] { return rig.reconfigurer.listeners()[1].state == SlotState::vacant; }));
    event_log.look(monotonic_now());
    const std::string line = "event=session_ended proxy=one client=" + format(client.endpoint()) +
                             " local=" + format(second) + ' ';
    CAPTURE(rig.log_text());
    CHECK(rig.log_text().find(line) != std::string::npos);
}

}  // namespace
}  // namespace udpproxy::contract
