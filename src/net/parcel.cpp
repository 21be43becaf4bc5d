// Sends descriptors to a socket that nobody reads yet, and receives them. What is received is taken
// for hostile: each message is looked at before it is believed, and how many there are is bounded
// by the limit on descriptors.
#include "udpproxy/net/parcel.hpp"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>

namespace udpproxy {

namespace {

constexpr std::array<char, 8> parcel_magic{'u', 'd', 'p', 'p', 'r', 'o', 'x', 'y'};
constexpr std::uint32_t parcel_form = 1;
constexpr std::size_t of_message_max = 253;  // SCM_MAX_FD (include/net/scm.h)
// The kernel looks for the next message from the first one on, so a queue is short. So many fit
// into 208 KiB (net.core.wmem_default), too; with a smaller buffer the next queue begins earlier.
constexpr int messages_of_queue_max = 64;

struct Label {
    std::array<char, 8> magic;
    std::uint32_t form;
    std::uint32_t others;

    friend bool operator==(const Label&, const Label&) = default;
};

struct alignas(cmsghdr) Control {
    std::array<char, CMSG_SPACE(of_message_max * sizeof(int))> bytes{};
};

/// Returns 0 or errno: EAGAIN where the queue is full.
int send(int queue, std::span<const std::byte> payload, std::span<const int> descriptors) {
    Control control;
    iovec part{const_cast<std::byte*>(payload.data()), payload.size()};  // sendmsg(2) reads only
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* const head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(head), descriptors.data(), descriptors.size_bytes());
    return ::sendmsg(queue, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ? 0 : errno;
}

struct Queue {
    Descriptor read;
    Descriptor write;
};

Result<Queue> open_queue() {
    std::array<int, 2> ends{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
        return system_error("socketpair", errno);
    return Queue{Descriptor{ends[0]}, Descriptor{ends[1]}};
}

/// Puts as many messages into a new queue as fit. `others` begins behind them then.
Result<Descriptor> fill_queue(std::span<const int>& others) {
    Result<Queue> queue = open_queue();
    if (!queue) return queue.error();
    for (int messages = 0; messages < messages_of_queue_max && !others.empty(); ++messages) {
        const std::span<const int> part = others.first(std::min(others.size(), of_message_max));
        // The numbers are those of the descriptors.
        const int error = send(queue->write.descriptor(), std::as_bytes(part), part);
        if (error == EAGAIN && messages > 0) break;
        if (error != 0) return system_error("sendmsg", error);
        others = others.subspan(part.size());
    }
    return std::move(queue->read);
}

struct Received {
    std::array<int, of_message_max> numbers{};  // the payload
    std::size_t bytes = 0;                      // of it
    std::vector<int> descriptors;
    bool is_whole = false;  // no part was lost
};

/// Looks at the next message, and opens its descriptors. False: there is none.
bool peek(int queue, int flags, Received& received) {
    Control control;
    iovec part{received.numbers.data(), sizeof received.numbers};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.data();
    message.msg_controllen = control.bytes.size();
    const ssize_t length = ::recvmsg(queue, &message, MSG_PEEK | MSG_DONTWAIT | flags);
    if (length < 0) return false;
    received.bytes = static_cast<std::size_t>(length);
    received.is_whole = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
    received.descriptors.clear();
    for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr;
         each = CMSG_NXTHDR(&message, each)) {
        if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
        received.descriptors.resize((each->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        std::memcpy(received.descriptors.data(), CMSG_DATA(each),
                    received.descriptors.size() * sizeof(int));
    }
    return true;
}

/// The next look is at the first message, and each after it at the one that follows.
bool begin_to_peek(int queue) {
    constexpr int first = 0;
    return ::setsockopt(queue, SOL_SOCKET, SO_PEEK_OFF, &first, sizeof first) == 0;
}

/// Up to the first message that is not one of a parcel, or for which there are no descriptors.
void unpack_queue(int queue, std::vector<std::pair<int, int>>& others) {
    Received received;
    if (!begin_to_peek(queue)) return;
    while (peek(queue, 0, received)) {
        const std::size_t count = received.descriptors.size();
        const bool is_good =
            received.is_whole && count > 0 && received.bytes == count * sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            if (is_good)
                others.emplace_back(received.numbers[i], received.descriptors[i]);
            else
                ::close(received.descriptors[i]);
        }
        if (!is_good) return;
    }
}

/// Lowers the limit on descriptors for a while.
class Spared {
public:
    explicit Spared(unsigned spared) noexcept {
        if (::getrlimit(RLIMIT_NOFILE, &limit_) != 0) return;
        const rlimit lower{limit_.rlim_cur - std::min<rlim_t>(limit_.rlim_cur / 2, spared),
                           limit_.rlim_max};
        is_lower_ = ::setrlimit(RLIMIT_NOFILE, &lower) == 0;
    }
    Spared(const Spared&) = delete;
    Spared& operator=(const Spared&) = delete;
    ~Spared() {
        if (is_lower_) ::setrlimit(RLIMIT_NOFILE, &limit_);
    }

private:
    rlimit limit_{};
    bool is_lower_ = false;
};

}  // namespace

Result<Descriptor> pack(int file, std::span<const int> others) {
    const Label label{parcel_magic, parcel_form, static_cast<std::uint32_t>(others.size())};
    std::vector<Descriptor> queues;
    while (!others.empty()) {
        Result<Descriptor> queue = fill_queue(others);
        if (!queue) return queue.error();
        queues.push_back(std::move(*queue));
    }
    if (queues.size() >= of_message_max) return system_error("sendmsg", ETOOMANYREFS);
    std::vector<int> first{file};
    for (const Descriptor& queue : queues) first.push_back(queue.descriptor());
    Result<Queue> parcel = open_queue();
    if (!parcel) return parcel.error();
    if (const int error =
            send(parcel->write.descriptor(), std::as_bytes(std::span{&label, 1}), first);
        error != 0)
        return system_error("sendmsg", error);
    return std::move(parcel->read);
}

int Unpacked::number_of(int had) const noexcept {
    const auto found = std::lower_bound(others.begin(), others.end(), std::pair{had, -1});
    return found != others.end() && found->first == had ? found->second : -1;
}

Result<Unpacked> unpack(int parcel, unsigned spared) {
    const Spared limit(spared);
    Received received;
    if (!begin_to_peek(parcel) || !peek(parcel, MSG_CMSG_CLOEXEC, received))
        return Error{errno == EAGAIN ? "it is empty" : error_text(errno)};
    std::vector<Descriptor> descriptors;
    for (const int descriptor : received.descriptors) descriptors.emplace_back(descriptor);
    Label label{};
    if (received.bytes == sizeof label) std::memcpy(&label, received.numbers.data(), sizeof label);
    if (received.bytes != sizeof label || label != Label{parcel_magic, label.form, label.others})
        return Error{"it is no parcel of udpproxy"};
    if (label.form != parcel_form)
        return Error{"its form is " + std::to_string(label.form) + ", and this program knows " +
                     std::to_string(parcel_form)};
    if (!received.is_whole || descriptors.empty()) return Error{"it is not whole"};
    Unpacked unpacked;
    unpacked.file = std::move(descriptors.front());
    for (auto queue = descriptors.begin() + 1; queue != descriptors.end(); ++queue)
        unpack_queue(queue->descriptor(), unpacked.others);
    std::sort(unpacked.others.begin(), unpacked.others.end());
    unpacked.missing = label.others - std::min<std::size_t>(label.others, unpacked.others.size());
    return unpacked;
}

bool may_be_parcel(int descriptor) noexcept {
    struct stat file {};
    return ::fstat(descriptor, &file) == 0 && S_ISSOCK(file.st_mode);
}

void discard(int parcel) noexcept {
    // Received without room for descriptors: these are closed.
    constexpr int messages_max = 64;
    std::array<char, sizeof(Label)> payload{};
    for (int i = 0; i < messages_max; ++i)
        if (::recv(parcel, payload.data(), payload.size(), MSG_DONTWAIT) < 0) return;
}

}  // namespace udpproxy
