// What a keeper passes on to a service manager that reads late, or is away: a bound socket stands
// in for it. Also the two ends of a channel, and the end of descriptors that nobody owns.
#include "keeper/relay.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <vector>

#include "udpproxy/base/descriptor.hpp"

namespace udpproxy {
namespace {

/// A NOTIFY_SOCKET with an abstract name.
class Manager {
public:
    Manager() {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::copy(name.begin() + 1, name.end(), address.sun_path + 1);
        REQUIRE(::bind(socket_.descriptor(), reinterpret_cast<const sockaddr*>(&address),
                       static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size())) == 0);
    }

    [[nodiscard]] Relay relay() const {
        Result<ManagerSocket> opened = ManagerSocket::open(name);
        REQUIRE(opened);
        return Relay{std::move(*opened)};
    }
    /// Leaves no room for another message.
    void fill() const {
        Result<ManagerSocket> sender = ManagerSocket::open(name);
        REQUIRE(sender);
        int error = 0;
        while ((error = sender->send("full")) == 0) {
        }
        REQUIRE(error == EAGAIN);
    }
    /// What has come since the last call, without what filled it.
    [[nodiscard]] std::vector<std::string> heard() const {
        std::vector<std::string> messages;
        std::array<char, 8192> message{};
        for (ssize_t bytes = 0; (bytes = ::recv(socket_.descriptor(), message.data(),
                                                message.size(), MSG_DONTWAIT)) >= 0;)
            messages.emplace_back(message.data(), static_cast<std::size_t>(bytes));
        std::erase(messages, "full");
        return messages;
    }

    const std::string name = "@udpproxy-relay-" + std::to_string(::getpid());

private:
    Descriptor socket_{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
};

using Heard = std::vector<std::string>;

TEST_CASE("of a worker's lines only those that tell its state are passed on") {
    const Manager manager;
    Relay relay = manager.relay();
    for (const char* line :
         {"MAINPID=1", "FDSTORE=1", "FDSTOREREMOVE=1", "FDNAME=x", "WATCHDOG=trigger",
          "WATCHDOG=1 ", "WATCHDOG_USEC=1", "READY=0", "READY=11", "READY", "NOTIFYACCESS=all",
          "EXTEND_TIMEOUT_USEC=1", "BARRIER=1", "status=x", " STATUS=x", "", "\n\n"})
        CHECK_FALSE(relay.pass_on(line).is_well);
    CHECK(manager.heard().empty());
    CHECK(relay.pass_on("MAINPID=1\nWATCHDOG=1\nSTATUS=a=b\nX").is_well);
    relay.pass_on("RELOADING=1\nMONOTONIC_USEC=7\n");
    relay.pass_on("STOPPING=1\nERRNO=2");
    CHECK(manager.heard() ==
          Heard{"WATCHDOG=1\nSTATUS=a=b", "RELOADING=1\nMONOTONIC_USEC=7", "STOPPING=1\nERRNO=2"});
}

TEST_CASE("lines of the largest message fit") {
    const Manager manager;
    Relay relay = manager.relay();
    const std::string status = "STATUS=" + std::string(Channel::text_bytes_max - 7, 'x');
    relay.pass_on(status);
    CHECK(manager.heard() == Heard{status});
}

TEST_CASE("of what a manager has no room for the newest state and status wait") {
    const Manager manager;
    Relay relay = manager.relay();
    manager.fill();
    CHECK(relay.pass_on("RELOADING=1").error == 0);
    relay.pass_on("STATUS=old");
    relay.pass_on("READY=1\nSTATUS=reloaded");
    relay.pass_on("WATCHDOG=1");
    relay.pass_on("STATUS=older");
    relay.pass_on("STATUS=figures");
    CHECK(relay.has_untold());
    CHECK(manager.heard().empty());
    relay.retry();
    CHECK_FALSE(relay.has_untold());
    CHECK(manager.heard() == Heard{"READY=1\nSTATUS=reloaded", "STATUS=figures"});
}

TEST_CASE("what waits is told before what comes") {
    const Manager manager;
    Relay relay = manager.relay();
    manager.fill();
    relay.pass_on("READY=1");
    (void)manager.heard();
    relay.pass_on("STATUS=figures");
    CHECK(manager.heard() == Heard{"READY=1", "STATUS=figures"});
}

TEST_CASE("a manager that is away is reported once, until it is there again") {
    std::string name;
    {
        const Manager gone;
        name = gone.name;
    }
    Result<ManagerSocket> opened = ManagerSocket::open(name);
    REQUIRE(opened);
    Relay relay{std::move(*opened)};
    CHECK(relay.pass_on("READY=1").error == ECONNREFUSED);
    CHECK(relay.pass_on("STATUS=x").error == 0);
    const Manager manager;
    relay.pass_on("STATUS=y");
    CHECK(manager.heard() == Heard{"READY=1", "STATUS=x", "STATUS=y"});
}

TEST_CASE("a manager that has no room is told again to forget what it has kept") {
    const Manager manager;
    Relay relay = manager.relay();
    manager.fill();
    relay.forget_stored();
    CHECK(relay.has_untold());
    CHECK(manager.heard().empty());
    relay.retry();
    relay.retry();
    CHECK_FALSE(relay.has_untold());
    CHECK(manager.heard() == Heard{"FDSTOREREMOVE=1\nFDNAME=udpproxy-sessions"});
    Relay without_manager{std::nullopt};
    without_manager.forget_stored();
    CHECK_FALSE(without_manager.has_untold());
}

TEST_CASE("a channel takes no message apart or together, and knows when it is broken") {
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
    Descriptor here{ends[0]};
    Descriptor there{ends[1]};
    const Channel sender{here.descriptor()};
    Channel receiver{there.descriptor()};
    const std::string longest(Channel::text_bytes_max, 'x');
    CHECK_FALSE(receiver.receive());
    CHECK_FALSE(receiver.is_broken());
    CHECK(sender.send({MessageKind::manager, 0, longest}));
    CHECK(sender.send({MessageKind::signal, 15, {}}));
    const std::string longer(Channel::text_bytes_max + 3, 'x');
    REQUIRE(::send(here.descriptor(), longer.data(), longer.size(), 0) > 0);
    REQUIRE(::send(here.descriptor(), "x", 1, 0) == 1);
    auto message = receiver.receive();
    REQUIRE(message);
    CHECK(message->text == longest);
    message = receiver.receive();
    REQUIRE(message);
    CHECK(message->kind == MessageKind::signal);
    CHECK(message->number == 15);
    for (int i = 0; i < 2; ++i) {
        message = receiver.receive();
        REQUIRE(message);
        CHECK(message->kind == MessageKind::unknown);
    }
    int sent = 0;
    while (sender.send({MessageKind::ready, 0, {}})) ++sent;
    CHECK(sent > 16);
    here = Descriptor{};
    for (; sent > 0; --sent) CHECK(receiver.receive());
    CHECK_FALSE(receiver.receive());
    CHECK(receiver.is_broken());
    Channel closed{-1};
    CHECK_FALSE(closed.receive());
    CHECK(closed.is_broken());
}

TEST_CASE("every descriptor is closed but those that are kept") {
    const pid_t child = ::fork();  // its table is a copy
    REQUIRE(child >= 0);
    if (child == 0) {
        std::vector<int> opened;
        for (int number = 0; number < 40; ++number)
            opened.push_back(::fcntl(0, F_DUPFD, 3 + number * 7));
        const std::array<int, 4> kept{opened[0], opened[1], opened[20], opened[39]};
        close_all_but(kept);
        int wrong = 0;
        for (std::size_t i = 0; i < opened.size(); ++i) {
            const bool is_open = ::fcntl(opened[i], F_GETFD) >= 0;
            wrong += is_open != (i == 0 || i == 1 || i == 20 || i == 39);
        }
        for (int stream = 0; stream < 3; ++stream) wrong += ::fcntl(stream, F_GETFD) < 0;
        ::_exit(wrong);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

}  // namespace
}  // namespace udpproxy
