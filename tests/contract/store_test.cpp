// What a keeper leaves with a service manager over a restart, and gets back: a bound socket stands
// in for the manager.
#include "keeper/store.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "udpproxy/base/time.hpp"

namespace udpproxy {
namespace {

/// A NOTIFY_SOCKET with an abstract name, and what has been sent to it.
class Keeping {
public:
    Keeping() {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::copy(name_.begin() + 1, name_.end(), address.sun_path + 1);
        const timeval patience{10, 0};
        REQUIRE(::setsockopt(socket_.descriptor(), SOL_SOCKET, SO_RCVTIMEO, &patience,
                             sizeof patience) == 0);
        REQUIRE(::bind(socket_.descriptor(), reinterpret_cast<const sockaddr*>(&address),
                       static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name_.size())) ==
                0);
    }
    struct Sent {
        std::string text;
        Descriptor descriptor;
    };
    /// The next message, at once or within ten seconds. Without one the text is empty.
    [[nodiscard]] Sent next(int flags = MSG_DONTWAIT) const {
        std::array<char, 256> text{};
        alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
        iovec part{text.data(), text.size()};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        const ssize_t length = ::recvmsg(socket_.descriptor(), &message, flags);
        if (length < 0) return {};
        Sent sent{{text.data(), static_cast<std::size_t>(length)}, {}};
        if (const cmsghdr* const head = CMSG_FIRSTHDR(&message); head != nullptr) {
            int descriptor = -1;
            std::memcpy(&descriptor, CMSG_DATA(head), sizeof descriptor);
            sent.descriptor = Descriptor{descriptor};
        }
        return sent;
    }
    [[nodiscard]] ManagerSocket socket() const {
        Result<ManagerSocket> opened = ManagerSocket::open(name_);
        REQUIRE(opened);
        return std::move(*opened);
    }

private:
    const std::string name_ = "@udpproxy-store-" + std::to_string(::getpid());
    Descriptor socket_{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
};

ino_t inode_of(int descriptor) {
    struct stat file {};
    REQUIRE(::fstat(descriptor, &file) == 0);
    return file.st_ino;
}

struct Variables {
    explicit Variables(std::map<const char*, std::string> values) : values_(std::move(values)) {
        for (const auto& [name, value] : values_) ::setenv(name, value.c_str(), 1);
    }
    Variables(const Variables&) = delete;
    ~Variables() {
        for (const auto& [name, value] : values_) ::unsetenv(name);
    }

private:
    std::map<const char*, std::string> values_;
};

const std::string to_forget = "FDSTOREREMOVE=1\nFDNAME=udpproxy-sessions";
const std::string to_store = "FDSTORE=1\nFDNAME=udpproxy-sessions";

TEST_CASE("a descriptor is stored in the place of an earlier one, and the manager is waited for") {
    const Keeping manager;
    const Descriptor file{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
    std::vector<Keeping::Sent> sent;
    std::thread taking([&] {
        for (int message = 0; message < 3; ++message) sent.push_back(manager.next(0));
        sent.back().descriptor = Descriptor{};  // the answer to a barrier
    });
    CHECK(store(manager.socket(), file.descriptor()) == "");
    taking.join();
    REQUIRE(sent.size() == 3);
    CHECK(sent[0].text == to_forget);
    CHECK(sent[1].text == to_store);
    CHECK(sent[2].text == "BARRIER=1");
    CHECK(inode_of(sent[1].descriptor.descriptor()) == inode_of(file.descriptor()));
}

TEST_CASE("a manager that answers nothing, or has no room, is waited for two seconds at most") {
    const Keeping manager;
    const ManagerSocket socket = manager.socket();
    bool is_full = false;
    SUBCASE("answers nothing") {}
    SUBCASE("has no room") { is_full = true; }
    if (is_full)
        while (socket.send("full") == 0) continue;
    const Instant begun = monotonic_now();
    const std::string reason = store(socket, 0);
    CHECK(reason == (is_full ? "the service manager: Resource temporarily unavailable"
                             : "the service manager: no answer within 2 s"));
    CHECK(monotonic_now() - begun >= std::chrono::milliseconds{1900});
    CHECK(monotonic_now() - begun < std::chrono::seconds{60});
}

TEST_CASE("what a manager has kept is found by its name") {
    // Others may have these numbers here.
    const int first = ::fcntl(0, F_DUPFD, 3);
    ::close(first);
    REQUIRE(first >= 3);
    const std::string self = std::to_string(::getpid());
    std::string names;
    for (int i = 3; i < first; ++i) names += "other:";
    const Descriptor held{::open("/dev/null", O_RDONLY)};
    REQUIRE(held.descriptor() == first);
    const auto found = [&](const std::string& process, int count, const std::string& all) {
        const Variables variables({{"LISTEN_PID", process},
                                   {"LISTEN_FDS", std::to_string(count)},
                                   {"LISTEN_FDNAMES", all}});
        Descriptor stored = take_stored(::getpid());
        return stored.release();
    };
    CHECK(found(self, first - 2, names + "udpproxy-sessions") == first);
    CHECK((::fcntl(first, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(found(self, first - 2, names + "udpproxy-session") == -1);
    CHECK(found(self, first - 3, names + "udpproxy-sessions") == -1);
    CHECK(found(std::to_string(::getppid()), first - 2, names + "udpproxy-sessions") == -1);
    CHECK(found(self, 2'000'000'000, names + "x") == -1);
    CHECK(found(self, first - 1, names + "x:udpproxy-sessions") == -1);
    CHECK(take_stored(::getpid()).descriptor() == -1);
}

TEST_CASE("a manager has a store if the environment says so") {
    const auto has_store = [] { return read_manager_request(::getpid()).has_store; };
    CHECK_FALSE(has_store());
    for (const auto& [value, expected] :
         std::map<std::string, bool>{{"1", true}, {"64", true}, {"0", false}, {"", false}}) {
        const Variables variables({{"FDSTORE", value}});
        CHECK(has_store() == expected);
    }
}

}  // namespace
}  // namespace udpproxy
