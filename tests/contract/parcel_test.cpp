// Descriptors in the queue of a socket: packed, opened again, discarded; and what the next process
// makes of a parcel that somebody else has made.
#include "udpproxy/net/parcel.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "contract/peer.hpp"
#include "udpproxy/net/found_socket.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy::contract {
namespace {

constexpr unsigned spared = 64;

ino_t inode_of(int descriptor) {
    struct stat file {};
    REQUIRE(::fstat(descriptor, &file) == 0);
    return file.st_ino;
}

/// The lowest number that is free: the same before and after, nothing was left open.
int lowest_free() {
    const int lowest = ::fcntl(0, F_DUPFD, 3);
    ::close(lowest);
    return lowest;
}

class Files {
public:
    int open() {
        const int file = ::memfd_create("parcel", 0);
        REQUIRE(file >= 0);
        files_.emplace_back(file);
        return file;
    }

private:
    std::vector<Descriptor> files_;
};

void close_all(const Unpacked& unpacked) {
    for (const auto& [had, has] : unpacked.others) ::close(has);
}

/// One end of a pair of sockets, to be sent to; the other one reads.
struct Pair {
    Pair() {
        std::array<int, 2> ends{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
        read = Descriptor{ends[0]};
        write = Descriptor{ends[1]};
    }
    void send(std::string_view payload, std::vector<int> descriptors) const {
        std::array<char, CMSG_SPACE(253 * sizeof(int))> control{};
        iovec part{const_cast<char*>(payload.data()), payload.size()};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        const std::size_t bytes = descriptors.size() * sizeof(int);
        if (bytes > 0) {
            message.msg_control = control.data();
            message.msg_controllen = CMSG_SPACE(bytes);
            cmsghdr* const head = CMSG_FIRSTHDR(&message);
            head->cmsg_level = SOL_SOCKET;
            head->cmsg_type = SCM_RIGHTS;
            head->cmsg_len = CMSG_LEN(bytes);
            std::memcpy(CMSG_DATA(head), descriptors.data(), bytes);
        }
        REQUIRE(::sendmsg(write.descriptor(), &message, 0) >= 0);
    }

    Descriptor read;
    Descriptor write;
};

std::string words(std::vector<std::uint32_t> numbers) {
    return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof numbers[0]};
}
std::string label(std::uint32_t form, std::uint32_t others) {
    return "udpproxy" + words({form, others});
}

}  // namespace

TEST_CASE("what was packed is opened again, as often as wanted, until it is discarded") {
    Files files;
    std::vector<int> packed;
    for (int i = 0; i < 600; ++i) packed.push_back(files.open());
    const int file = files.open();
    const Result<Descriptor> parcel = pack(file, packed);
    REQUIRE(parcel.has_value());
    const int lowest = lowest_free();
    for (int time = 0; time < 2; ++time) {
        const Result<Unpacked> unpacked = unpack(parcel->descriptor(), spared);
        REQUIRE(unpacked.has_value());
        CHECK(inode_of(unpacked->file.descriptor()) == inode_of(file));
        CHECK(unpacked->missing == 0);
        REQUIRE(unpacked->others.size() == packed.size());
        for (const int had : packed) {
            const int has = unpacked->number_of(had);
            CHECK(has != had);
            CHECK(inode_of(has) == inode_of(had));
            CHECK(::fcntl(has, F_GETFD) == 0);
        }
        CHECK(unpacked->number_of(file) == -1);
        CHECK(unpacked->number_of(-1) == -1);
        close_all(*unpacked);
    }
    CHECK(lowest_free() == lowest);
    discard(parcel->descriptor());
    CHECK(unpack(parcel->descriptor(), spared).error().message == "it is empty");
}

/// Raised to what is allowed, and as it was afterwards.
class DescriptorLimit {
public:
    DescriptorLimit() {
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
        const rlimit raised = hard();
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &raised) == 0);
    }
    DescriptorLimit(const DescriptorLimit&) = delete;
    DescriptorLimit& operator=(const DescriptorLimit&) = delete;
    ~DescriptorLimit() { ::setrlimit(RLIMIT_NOFILE, &before_); }

    [[nodiscard]] rlimit hard() const { return {before_.rlim_max, before_.rlim_max}; }

private:
    rlimit before_{};
};

TEST_CASE("more than a queue holds are packed, and as many opened as the limit allows") {
    // Without rights no more may be on their way than the limit allows (unix(7), ETOOMANYREFS).
    const DescriptorLimit limits;
    const rlimit limit = limits.hard();
    const std::vector<int>::size_type count = 16'500;
    if (limit.rlim_max < count) return;
    Files files;
    const std::vector<int> packed(count, files.open());
    const Result<Descriptor> parcel = pack(packed.front(), packed);
    REQUIRE(parcel.has_value());
    const int lowest = lowest_free();
    if (limit.rlim_max > packed.size() + 500) {
        const rlimit higher{limit.rlim_max, limit.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &higher) == 0);
        const Result<Unpacked> unpacked = unpack(parcel->descriptor(), spared);
        REQUIRE(unpacked.has_value());
        CHECK(unpacked->missing == 0);
        CHECK(unpacked->others.size() == packed.size());
        close_all(*unpacked);
    }
    const rlimit lower{1024, limit.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &lower) == 0);
    const Result<Unpacked> unpacked = unpack(parcel->descriptor(), spared);
    REQUIRE(unpacked.has_value());
    CHECK(unpacked->others.size() >= 500);
    CHECK(unpacked->missing + unpacked->others.size() == packed.size());
    std::vector<Descriptor> others;
    for (unsigned i = 0; i < spared; ++i) others.emplace_back(::fcntl(0, F_DUPFD, 3));
    CHECK(others.back().descriptor() >= 0);
    others.clear();
    close_all(*unpacked);
    CHECK(lowest_free() == lowest + 1);  // the file
}

TEST_CASE("what is discarded is closed, though somebody else has the parcel") {
    const Family family = Family::ipv4;
    const Endpoint at{loopback(family), 0, next_port()};
    const auto bind_there = [&] {
        Socket socket{::socket(AF_INET, SOCK_DGRAM, 0)};
        SocketName name{};
        const socklen_t length = write_socket_name(at, name);
        return ::bind(socket.descriptor(), &name.any, length) == 0 ? std::move(socket) : Socket{};
    };
    Descriptor parcel;
    {
        const Socket socket = bind_there();
        REQUIRE(socket);
        const std::array packed{socket.descriptor()};
        parcel = std::move(*pack(socket.descriptor(), packed));
    }
    const Descriptor of_somebody_else{::fcntl(parcel.descriptor(), F_DUPFD_CLOEXEC, 3)};
    CHECK_FALSE(bind_there());
    discard(parcel.descriptor());
    CHECK(bind_there());
}

TEST_CASE("of a parcel that somebody else has made nothing is believed that is not so") {
    Files files;
    const int file = files.open();
    Pair parcel;
    Pair queue;
    std::string why_not;
    std::size_t believed = 0;
    const auto send = [&](const std::string& payload, std::vector<int> descriptors) {
        parcel.send(payload, std::move(descriptors));
    };
    const int in_queue = queue.read.descriptor();
    SUBCASE("nothing") { why_not = "it is empty"; }
    SUBCASE("other bytes") {
        send("udpproxz" + words({1, 0}), {file});
        why_not = "it is no parcel of udpproxy";
    }
    SUBCASE("too few bytes") {
        send(label(1, 0).substr(1), {file});
        why_not = "it is no parcel of udpproxy";
    }
    SUBCASE("too many bytes") {
        send(label(1, 0) + std::string(2000, 'x'), {file});
        why_not = "it is no parcel of udpproxy";
    }
    SUBCASE("no bytes") {
        send("", {file});
        why_not = "it is no parcel of udpproxy";
    }
    SUBCASE("another form") {
        send(label(2, 0), {file});
        why_not = "its form is 2, and this program knows 1";
    }
    SUBCASE("no file") {
        send(label(1, 0), {});
        why_not = "it is not whole";
    }
    SUBCASE("a file in the place of a queue") { send(label(1, 7), {file, file, 2}); }
    SUBCASE("itself in the place of a queue") {
        send(label(1, 7), {file, parcel.read.descriptor()});
    }
    SUBCASE("a queue of other bytes") {
        queue.send("x", {file});
        queue.send(words({5}), {file});
        send(label(1, 7), {file, in_queue});
    }
    SUBCASE("fewer numbers than descriptors") {
        queue.send(words({5}), {file, file});
        send(label(1, 7), {file, in_queue});
    }
    SUBCASE("more numbers than descriptors") {
        queue.send(words(std::vector<std::uint32_t>(254, 5)), std::vector<int>(253, file));
        send(label(1, 7), {file, in_queue});
    }
    SUBCASE("numbers without descriptors") {
        queue.send(words({5}), {});
        send(label(1, 7), {file, in_queue});
    }
    SUBCASE("a number twice, and one that is none") {
        queue.send(words({5, 5, 0xffff'ffff}), {file, file, file});
        send(label(1, 2), {file, in_queue});
        believed = 3;
    }
    const int lowest = lowest_free();
    const Result<Unpacked> unpacked = unpack(parcel.read.descriptor(), spared);
    if (!why_not.empty()) {
        REQUIRE_FALSE(unpacked.has_value());
        CHECK(unpacked.error().message == why_not);
    } else {
        REQUIRE(unpacked.has_value());
        CHECK(unpacked->others.size() == believed);
        CHECK(unpacked->missing == (believed == 0 ? 7 : 0));
        if (believed > 0) CHECK(inode_of(unpacked->number_of(5)) == inode_of(file));
        close_all(*unpacked);
    }
    CHECK(lowest_free() == lowest + (unpacked.has_value() ? 1 : 0));  // the file
}

TEST_CASE("what is no socket is no parcel") {
    Files files;
    const Pair pair;
    CHECK(may_be_parcel(pair.read.descriptor()));
    CHECK_FALSE(may_be_parcel(files.open()));
    CHECK_FALSE(may_be_parcel(-1));
    CHECK_FALSE(unpack(files.open(), spared).has_value());
    CHECK_FALSE(pack(-1, {}).has_value());
}

}  // namespace udpproxy::contract
