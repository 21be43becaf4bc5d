// What a service manager is told when it reads late: a bound socket stands in for it.
#include "daemon/sd_notify.hpp"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace udpproxy {
namespace {

/// A NOTIFY_SOCKET with an abstract name.
class Manager {
public:
    Manager() : name("@udpproxy-manager-" + std::to_string(::getpid())) {
        address_.sun_family = AF_UNIX;
        std::memcpy(address_.sun_path + 1, name.data() + 1, name.size() - 1);
        length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
        REQUIRE(socket_);
        REQUIRE(::bind(socket_.descriptor(), reinterpret_cast<const sockaddr*>(&address_),
                       length_) == 0);
    }

    /// Leaves no room for another message.
    void fill() const {
        const Socket sender{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
        REQUIRE(sender);
        while (::sendto(sender.descriptor(), "", 0, MSG_DONTWAIT,
                        reinterpret_cast<const sockaddr*>(&address_), length_) == 0) {
        }
        REQUIRE(errno == EAGAIN);
    }

    /// What has come since the last call.
    [[nodiscard]] std::vector<std::string> heard() const {
        std::vector<std::string> messages;
        std::array<char, 4096> message{};
        for (ssize_t bytes = 0; (bytes = ::recv(socket_.descriptor(), message.data(),
                                                message.size(), MSG_DONTWAIT)) >= 0;)
            messages.emplace_back(message.data(), static_cast<std::size_t>(bytes));
        return messages;
    }

    const std::string name;

private:
    sockaddr_un address_{};
    socklen_t length_ = 0;
    Socket socket_{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
};

using Told = std::function<void(ServiceManager&)>;

/// What a manager hears after it has read all there was, when it had no room for what it was told
/// before and had room for what it was told `after`.
std::vector<std::string> heard_by_a_late_reader(const Told& before, const Told& after) {
    const Manager manager;
    Result<Log> log = Log::open({});
    REQUIRE(log);
    ServiceManager service({manager.name, {}, {}}, *log);
    manager.fill();
    before(service);
    (void)manager.heard();
    after(service);
    service.look(Status{}, {}, Instant{});
    return manager.heard();
}

const std::vector<std::string> ready{"READY=1\nSTATUS=reloaded"};

// RELOADING was kept for the next look although READY had reached the manager after it: told then,
// it left the manager with a reload that had no end.
TEST_CASE("a state that the manager had no room for is not told after a newer one") {
    CHECK(heard_by_a_late_reader([](ServiceManager& service) { service.reloading(Instant{}); },
                                 [](ServiceManager& service) { service.reloaded(""); }) == ready);
}

TEST_CASE("of states that the manager had no room for the newest is told when there is room") {
    const Told all = [](ServiceManager& service) {
        service.reloading(Instant{});
        service.reloaded("");
    };
    CHECK(heard_by_a_late_reader(all, [](ServiceManager&) {}) == ready);
}

}  // namespace
}  // namespace udpproxy
