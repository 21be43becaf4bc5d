// When the kernel refuses a train: its datagrams are sent singly, in order, and the path is
// remembered. The refusals are real ones where loopback can be brought to give them (a small MTU in
// a network namespace, a socket without checksums), else made (send_errors.hpp).
#include <net/if.h>
#include <netinet/udp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "contract/rig.hpp"
#include "contract/send_errors.hpp"

namespace udpproxy::contract {
namespace {

constexpr std::uint32_t segment_bytes = 100;

std::string numbered(std::size_t datagrams, std::size_t bytes = segment_bytes) {
    std::string payload;
    for (std::size_t i = 0; i < datagrams; ++i)
        payload += std::string(bytes, static_cast<char>('0' + i));
    return payload;
}

/// What a peer got, one character for each datagram.
std::string initials(const std::vector<Letter>& letters) {
    std::string made;
    for (const Letter& letter : letters) made += letter.payload.empty() ? '-' : letter.payload[0];
    return made;
}

/// Long enough for the io_uring engine to send by sendmmsg, where send_errors.hpp sees it: every
/// other departure has another TOS.
template <class Engine>
std::vector<Departure> batch_of_trains(Rig<Engine>& rig, Slot slot, std::size_t trains) {
    std::vector<Departure> departures;
    for (std::size_t i = 0; i < trains; ++i) {
        const std::vector<Arrival> arrivals = rig.feed_train(numbered(3), segment_bytes);
        REQUIRE(arrivals.size() == 1);
        departures.push_back(towards(arrivals[0], slot));
        departures.back().tos = i % 2 == 0 ? 0 : 0x04;
    }
    return departures;
}

/// Runs `body` in a thread in a network namespace of its own whose loopback has this MTU.
template <class Body>
void with_loopback_mtu(int mtu, Body body) {
    std::string problem;
    std::thread thread([&] {
        if (::unshare(CLONE_NEWNET) != 0) {
            problem = std::string{"unshare: "} + error_text(errno);
            return;
        }
        const Socket control{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
        ifreq request{};
        std::strcpy(request.ifr_name, "lo");
        request.ifr_mtu = mtu;
        REQUIRE(::ioctl(control.descriptor(), SIOCSIFMTU, &request) == 0);
        request.ifr_flags = IFF_UP;
        REQUIRE(::ioctl(control.descriptor(), SIOCSIFFLAGS, &request) == 0);
        body();
    });
    thread.join();
    if (!problem.empty()) skip("a small MTU needs a network namespace; " + problem);
}

/// The descriptor of this process that is bound to `local`, connected if `connected`.
int descriptor_of(const Endpoint& local, bool connected) {
    for (int descriptor = 3; descriptor < 1024; ++descriptor) {
        SocketName name{};
        socklen_t length = sizeof name;
        if (::getsockname(descriptor, &name.any, &length) != 0 || read_socket_name(name) != local)
            continue;
        length = sizeof name;
        if ((::getpeername(descriptor, &name.any, &length) == 0) == connected) return descriptor;
    }
    return -1;
}

TEST_CASE_TEMPLATE(
    "trains with segments over the MTU leave singly, and are not tried again in that size", Engine,
    UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    with_loopback_mtu(1300, [] {
        for (const Family family : families()) {
            GroupRig<Engine> rig(family);
            const EngineCounters& counters = rig.engine().counters();
            const std::string expected = "012345";
            for (const bool to_client : {false, true}) {
                const std::uint64_t fallbacks = counters.gso_fallbacks;
                // Fragments are put together by the receiver; a train of them never arrives, so
                // they are fed singly.
                const auto send_six = [&](std::size_t bytes) {
                    std::vector<std::string> payloads;
                    for (char digit : expected) payloads.emplace_back(bytes, digit);
                    std::vector<Departure> departures;
                    for (const Arrival& arrival : rig.feed(payloads)) {
                        departures.push_back(
                            to_client ? back_to(arrival, Slot{0}, rig.client().endpoint())
                                      : towards(arrival, rig.group.slots[0]));
                    }
                    CHECK(rig.send(departures).empty());
                    CHECK(initials((to_client ? rig.client() : rig.upstream).receive_all(6)) ==
                          expected);
                };
                send_six(1400);
                CHECK(counters.gso_fallbacks == fallbacks + 1);
                const std::uint64_t trains = counters.trains_sent;
                send_six(1400);
                send_six(1500);
                CHECK(counters.gso_fallbacks == fallbacks + 1);
                CHECK(counters.trains_sent == trains);
                send_six(1200);
                CHECK(counters.gso_fallbacks == fallbacks + 1);
                CHECK(counters.trains_sent == trains + 1);
            }
        }
    });
}

TEST_CASE_TEMPLATE("a path's refusal does not touch the other sockets that send there", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.listen = {loopback(Family::ipv4), loopback(Family::ipv4)};
    Rig<Engine> rig(setup);
    const Peer client{address("127.0.0.2")};
    const OpenedGroup first = rig.open_group(client.endpoint());
    const OpenedGroup second = rig.open_group(client.endpoint());
    const EngineCounters& counters = rig.engine().counters();
    const auto trains_on = [&](Slot slot, bool is_listener) {
        std::vector<Departure> departures = batch_of_trains(rig, slot, 6);
        for (Departure& departure : departures) {
            if (!is_listener) continue;
            departure.to = client.endpoint();
            departure.leg = Leg::reply;
        }
        const std::uint64_t before = counters.trains_sent;
        CHECK(rig.send(departures).empty());
        CHECK(initials(client.receive_all(18)) == "012012012012012012");
        return counters.trains_sent - before;
    };
    {
        SendErrors errors;
        errors.of_trains = EMSGSIZE;
        CHECK(trains_on(Slot{0}, true) == 0);
        CHECK(trains_on(first.slots[0], false) == 0);
    }
    CHECK(trains_on(Slot{0}, true) == 0);
    CHECK(trains_on(first.slots[0], false) == 0);
    CHECK(trains_on(Slot{1}, true) == 6);
    CHECK(trains_on(second.slots[0], false) == 6);
}

TEST_CASE_TEMPLATE("a path's refusal does not touch the other clients of a listener", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    const Peer near{address("127.0.0.2")};
    const Peer far{address("127.0.0.3")};
    const auto reply_to = [&](const Peer& client) {
        std::vector<Departure> departures = batch_of_trains(rig, Slot{0}, 6);
        for (Departure& departure : departures) {
            departure.to = client.endpoint();
            departure.leg = Leg::reply;
        }
        CHECK(rig.send(departures).empty());
        CHECK(initials(client.receive_all(18)) == "012012012012012012");
    };
    {
        SendErrors errors;
        errors.of_trains = EMSGSIZE;
        reply_to(near);
        CHECK(errors.trains_refused == 6);  // they were made before the first was refused
    }
    CHECK(rig.engine().counters().gso_fallbacks == 6);
    CHECK(rig.engine().counters().trains_sent == 0);  // each left singly
    const std::uint64_t trains = rig.engine().counters().trains_sent;
    reply_to(near);
    CHECK(rig.engine().counters().trains_sent == trains);
    reply_to(far);
    CHECK(rig.engine().counters().trains_sent == trains + 6);
    CHECK(rig.engine().counters().gso_fallbacks == 6);
}

TEST_CASE_TEMPLATE(
    "a socket that sends no checksums refuses trains with EINVAL, and they leave singly", Engine,
    UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    GroupRig<Engine> rig;
    const int one = 1;
    REQUIRE(::setsockopt(descriptor_of(rig.group.local, true), SOL_SOCKET, SO_NO_CHECK, &one,
                         sizeof one) == 0);
    for (int round = 0; round < 3; ++round) {
        std::vector<Departure> departures = batch_of_trains(rig, rig.group.slots[0], 1);
        CHECK(rig.send(departures).empty());
        CHECK(initials(rig.upstream.receive_all(3)) == "012");
        CHECK(rig.engine().counters().gso_fallbacks == 1);
    }
}

TEST_CASE_TEMPLATE(
    "EIO and EOPNOTSUPP send a socket's trains singly from then on, EINVAL those of the size",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const int error : {EIO, EOPNOTSUPP, EINVAL, EMSGSIZE}) {
        CAPTURE(error_text(error));
        GroupRig<Engine> rig;
        {
            SendErrors errors;
            errors.of_trains = error;
            CHECK(rig.send(batch_of_trains(rig, rig.group.slots[0], 6)).empty());
            CHECK(initials(rig.upstream.receive_all(18)) == "012012012012012012");
        }
        CHECK(rig.engine().counters().gso_fallbacks == 6);
        const std::uint64_t trains = rig.engine().counters().trains_sent;
        CHECK(rig.send(batch_of_trains(rig, rig.group.slots[0], 6)).empty());
        CHECK(initials(rig.upstream.receive_all(18)) == "012012012012012012");
        CHECK(rig.engine().counters().trains_sent == trains);
        // Shorter segments: only where the whole socket is off they leave singly too.
        const std::vector<Arrival> shorter = rig.feed_train(numbered(3, 50), 50);
        CHECK(rig.send({towards(shorter[0], rig.group.slots[0])}).empty());
        CHECK(initials(rig.upstream.receive_all(3)) == "012");
        CHECK(rig.engine().counters().trains_sent ==
              trains + (error == EIO || error == EOPNOTSUPP ? 0 : 1));
    }
}

TEST_CASE_TEMPLATE(
    "other errors of a train are its own: it is lost whole, counted in datagrams, and not resent",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    GroupRig<Engine> rig;
    SendErrors errors;
    errors.of_trains = EPERM;
    const std::vector<Fault> faults = rig.send(batch_of_trains(rig, rig.group.slots[0], 6));
    REQUIRE(faults.size() == 6);
    for (const Fault& fault : faults) {
        CHECK(fault.kind == FaultKind::send);
        CHECK(fault.error == EPERM);
        CHECK(fault.datagrams == 3);
        CHECK(fault.bytes == 3 * segment_bytes);
    }
    CHECK_FALSE(rig.upstream.receive(moment).has_value());
    CHECK(rig.engine().counters().gso_fallbacks == 0);
}

TEST_CASE_TEMPLATE(
    "of a train that is sent singly, each datagram that cannot leave is counted, with its bytes "
    "and its place",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    GroupRig<Engine> rig;
    SendErrors errors;
    errors.of_trains = EINVAL;
    // Train 0: the second is lost. Train 1: each for a reason of its own. Train 2: all. Train 3:
    // the first and the last.
    errors.of_singles = {0,      EPERM,  0,      EPERM, ENOMEM, EFAULT,
                         EINVAL, EINVAL, EINVAL, EPERM, 0,      EPERM};
    std::vector<Departure> departures = batch_of_trains(rig, rig.group.slots[0], 6);
    departures[0].bytes -= 40;  // a short tail
    const std::vector<Fault> faults = rig.send(departures);
    CHECK(initials(rig.upstream.receive_all(9)) == "021012012");
    struct Lost {
        std::uint32_t departure;
        std::uint32_t offset;
        std::uint32_t datagrams;
        int error;
    };
    const std::vector<Lost> lost{{0, 100, 1, EPERM},  {1, 0, 1, EPERM},  {1, 100, 1, ENOMEM},
                                 {1, 200, 1, EFAULT}, {2, 0, 3, EINVAL}, {3, 0, 1, EPERM},
                                 {3, 200, 1, EPERM}};
    REQUIRE(faults.size() == lost.size());
    for (std::size_t i = 0; i < lost.size(); ++i) {
        CAPTURE(i);
        CHECK(faults[i].kind == FaultKind::send);
        CHECK(faults[i].departure == lost[i].departure);
        CHECK(faults[i].offset == lost[i].offset);
        CHECK(faults[i].datagrams == lost[i].datagrams);
        CHECK(faults[i].bytes == lost[i].datagrams * segment_bytes);
        CHECK(faults[i].error == lost[i].error);
    }
}

TEST_CASE_TEMPLATE("of a train that loses many stretches, a few faults count every datagram",
                   Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    GroupRig<Engine> rig;
    const std::vector<Arrival> arrivals = rig.feed_train(numbered(10, 10), 10);
    REQUIRE(arrivals.size() == 1);
    // With another departure on its slot, so that the io_uring engine sends by sendmmsg.
    std::vector<Departure> departures = batch_of_trains(rig, rig.group.slots[0], 1);
    departures.push_back(towards(arrivals[0], rig.group.slots[0]));
    departures.back().tos = 0x04;
    SendErrors errors;
    errors.of_trains = EINVAL;
    errors.of_singles = {0, 0, 0, EPERM, 0, EPERM, 0, EPERM, 0, ENOMEM, 0, EFAULT, EPERM};
    const std::vector<Fault> faults = rig.send(departures);
    CHECK(initials(rig.upstream.receive_all(7)) == "0121357");
    REQUIRE(faults.size() == 4);
    std::uint32_t datagrams = 0;
    for (const Fault& fault : faults) {
        CHECK(fault.departure == 1);
        CHECK(fault.bytes == fault.datagrams * 10);
        CHECK(fault.offset + fault.bytes <= 100);
        datagrams += fault.datagrams;
    }
    CHECK(datagrams == 6);
    CHECK(faults[3].error == ENOMEM);
}

TEST_CASE_TEMPLATE(
    "when the kernel's queue is full, what is left of a train that is sent singly stays with the "
    "caller, in order",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const int error : {EAGAIN, ENOBUFS}) {
        CAPTURE(error_text(error));
        GroupRig<Engine> rig;
        std::vector<Departure> departures = batch_of_trains(rig, rig.group.slots[0], 6);
        std::vector<Departure> again;
        {
            SendErrors errors;
            errors.of_trains = EINVAL;
            errors.of_singles = {0, error};
            for (const Fault& fault : rig.send(departures)) {
                CHECK(fault.kind == FaultKind::send_no_space);
                CHECK(fault.error == error);
                CHECK(fault.offset == (again.empty() ? segment_bytes : 0));
                CHECK(fault.bytes == 3 * segment_bytes - fault.offset);
                CHECK(fault.datagrams == fault.bytes / segment_bytes);
                again.push_back(departures[fault.departure]);
                again.back().payload += fault.offset;
                again.back().bytes = fault.bytes;
            }
        }
        // What is behind goes to the same endpoint: it waits as well.
        CHECK(again.size() == 6);
        CHECK(initials(rig.upstream.receive_all(1)) == "0");
        CHECK(rig.send(again).empty());
        CHECK(initials(rig.upstream.receive_all(17)) == "12012012012012012");
        // Every buffer is available again.
        rig.seen.clear();
        for (int i = 0; i < 256; ++i) rig.client().send(rig.listener(), "again");
        CHECK(rig.collect(256));
        CHECK(rig.engine().counters().buffers_exhausted == 0);
    }
}

TEST_CASE_TEMPLATE("of a long train that has no room no part counts as sent", Engine,
                   UDPPROXY_ENGINES) {
    // The parts behind the first one that had no room were counted.
    if (!runs_here<Engine>()) return;
    if (!trains_supported()) return;
    for (const int error : {EAGAIN, ENOBUFS}) {
        CAPTURE(error_text(error));
        Rig<Engine> rig;
        const Peer upstream{address("127.0.0.2")};
        const OpenedGroup group = rig.open_group(upstream.endpoint());
        std::vector<Departure> departures{
            towards(rig.feed({std::string(3000, 'x')})[0], group.slots[0])};
        departures[0].segment_bytes = 20;  // 150 datagrams: three sends
        {
            SendErrors errors;
            errors.of_trains = error;
            const std::vector<Fault> faults = rig.send(departures);
            REQUIRE(faults.size() == 1);
            CHECK(faults[0].kind == FaultKind::send_no_space);
            CHECK(faults[0].datagrams == 150);
        }
        CHECK(rig.engine().counters().trains_sent == 0);
        CHECK(rig.send(departures).empty());
        CHECK(upstream.receive_all(150).size() == 150);
        CHECK(rig.engine().counters().trains_sent == 3);
    }
}

TEST_CASE_TEMPLATE("where nothing leaves either way, trains are not to blame and are tried again",
                   Engine, UDPPROXY_ENGINES) {
    // A blackhole route says EINVAL to trains and datagrams alike.
    if (!runs_here<Engine>()) return;
    GroupRig<Engine> rig;
    {
        SendErrors errors;
        errors.of_trains = EINVAL;
        errors.of_singles.assign(18, EINVAL);
        CHECK(rig.send(batch_of_trains(rig, rig.group.slots[0], 6)).size() == 6);
        CHECK(errors.singles_seen == 18);
    }
    const std::uint64_t trains = rig.engine().counters().trains_sent;
    CHECK(rig.send(batch_of_trains(rig, rig.group.slots[0], 1)).empty());
    CHECK(rig.engine().counters().trains_sent == trains + 1);
}

TEST_CASE_TEMPLATE(
    "one retry after a pending error delivers a whole train, and says how many datagrams it was",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        Rig<Engine> rig(family);
        const Endpoint at = unused_endpoint(loopback(family));
        const OpenedGroup group = rig.open_group(at);
        // A receive would take the error out: everything is fed before.
        const std::vector<Arrival> lost = rig.feed({"lost"});
        const std::vector<Arrival> train = rig.feed_train(numbered(9) + "tail", segment_bytes);
        CHECK(rig.send({towards(lost[0], group.slots[0])}).empty());
        const Peer upstream{at};
        const std::vector<Fault> faults = rig.send({towards(train[0], group.slots[0])});
        REQUIRE(faults.size() == 1);
        CHECK(faults[0].kind == FaultKind::send_retry);
        CHECK(faults[0].datagrams == 10);
        CHECK(initials(upstream.receive_all_there_are(10)) == "012345678t");
        CHECK(rig.engine().counters().gso_fallbacks == 0);
    }
}

TEST_CASE_TEMPLATE("a pending error before coalesced datagrams costs one retry and none of them",
                   Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    const Endpoint at = unused_endpoint(address("127.0.0.2"));
    const OpenedGroup group = rig.open_group(at);
    std::vector<Arrival> arrivals = rig.feed({"lost", "1", "2", "3", "4", "5"});
    CHECK(rig.send({towards(arrivals[0], group.slots[0])}).empty());
    const Peer upstream{at};
    std::vector<Departure> departures;
    for (std::size_t i = 1; i < arrivals.size(); ++i)
        departures.push_back(towards(arrivals[i], group.slots[0]));
    const std::vector<Fault> faults = rig.send(departures);
    REQUIRE(faults.size() == 5);
    for (const Fault& fault : faults) {
        CHECK(fault.kind == FaultKind::send_retry);
        CHECK(fault.datagrams == 1);
    }
    CHECK(initials(upstream.receive_all_there_are(5)) == "12345");
}

}  // namespace
}  // namespace udpproxy::contract
