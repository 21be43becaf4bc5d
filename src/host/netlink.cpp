// netlink(7): messages of 4-byte aligned attributes, answered by one message, or by many and a
// closing one.
#include "udpproxy/host/netlink.hpp"

#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>

namespace udpproxy {

namespace {

constexpr std::size_t answer_bytes_max = 64 * 1024;
constexpr std::size_t answers_max =
    1U << 17;  // a ruleset or an address list larger than that is not looked through

constexpr std::size_t aligned(std::size_t bytes) { return (bytes + 3) & ~std::size_t{3}; }

/// One datagram of answers; true when the last one was among them.
Result<bool> take_answers(NetlinkBytes datagram, bool is_dump,
                          std::vector<NetlinkAnswer>& answers) {
    while (datagram.size() >= sizeof(nlmsghdr)) {
        nlmsghdr envelope{};
        std::memcpy(&envelope, datagram.data(), sizeof envelope);
        if (envelope.nlmsg_len < sizeof envelope || envelope.nlmsg_len > datagram.size()) break;
        const NetlinkBytes body =
            datagram.subspan(sizeof envelope, envelope.nlmsg_len - sizeof envelope);
        if (envelope.nlmsg_type == NLMSG_ERROR || envelope.nlmsg_type == NLMSG_DONE) {
            std::int32_t code = 0;
            if (body.size() >= sizeof code) std::memcpy(&code, body.data(), sizeof code);
            if (code < 0) return system_error("netlink", -code);
            return true;
        }
        answers.push_back({envelope.nlmsg_type, {body.begin(), body.end()}});
        if (!is_dump) return true;
        if (answers.size() > answers_max) return system_error("netlink", E2BIG);
        datagram = datagram.subspan(std::min(datagram.size(), aligned(envelope.nlmsg_len)));
    }
    return false;
}

}  // namespace

std::string NetlinkAttribute::text() const {
    const auto end = std::find(value.begin(), value.end(), std::uint8_t{0});
    return {value.begin(), end};
}

std::uint64_t NetlinkAttribute::network_number() const {
    std::uint64_t result = 0;
    if (value.size() != 4 && value.size() != 8) return 0;
    for (const std::uint8_t byte : value) result = result << 8 | byte;
    return result;
}

std::vector<NetlinkAttribute> read_attributes(NetlinkBytes bytes) {
    std::vector<NetlinkAttribute> found;
    while (bytes.size() >= sizeof(nlattr)) {
        nlattr header{};
        std::memcpy(&header, bytes.data(), sizeof header);
        if (header.nla_len < sizeof header || header.nla_len > bytes.size()) break;
        found.push_back({static_cast<std::uint16_t>(header.nla_type & NLA_TYPE_MASK),
                         bytes.subspan(sizeof header, header.nla_len - sizeof header)});
        bytes = bytes.subspan(std::min(bytes.size(), aligned(header.nla_len)));
    }
    return found;
}

std::optional<NetlinkAttribute> find_attribute(NetlinkBytes bytes, std::uint16_t type) {
    for (const NetlinkAttribute& attribute : read_attributes(bytes))
        if (attribute.type == type) return attribute;
    return std::nullopt;
}

void NetlinkRequest::append(const void* data, std::size_t bytes) {
    const auto* begin = static_cast<const std::uint8_t*>(data);
    bytes_.insert(bytes_.end(), begin, begin + bytes);
    bytes_.resize(aligned(bytes_.size()));
}

void NetlinkRequest::add(std::uint16_t type, NetlinkBytes value) {
    nlattr header{};
    header.nla_len = static_cast<std::uint16_t>(sizeof header + value.size());
    header.nla_type = type;
    append(&header, sizeof header);
    append(value.data(), value.size());
}

void NetlinkRequest::add(std::uint16_t type, std::uint32_t number) {
    std::array<std::uint8_t, sizeof number> bytes{};
    std::memcpy(bytes.data(), &number, sizeof number);
    add(type, NetlinkBytes{bytes});
}

void NetlinkRequest::add(std::uint16_t type, std::string_view text) {
    std::vector<std::uint8_t> bytes{text.begin(), text.end()};
    bytes.push_back(0);
    add(type, NetlinkBytes{bytes});
}

NetlinkBytes NetlinkRequest::message() {
    const auto length = static_cast<std::uint32_t>(bytes_.size());
    std::memcpy(bytes_.data(), &length, sizeof length);  // nlmsg_len comes first
    return bytes_;
}

bool NetlinkRequest::is_dump() const {
    nlmsghdr envelope{};
    std::memcpy(&envelope, bytes_.data(), sizeof envelope);
    return (envelope.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
}

NetlinkBytes NetlinkAnswer::attributes(std::size_t header_bytes) const {
    return NetlinkBytes{body}.subspan(std::min(body.size(), aligned(header_bytes)));
}

Result<Netlink> Netlink::open(int protocol) {
    Socket socket{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol)};
    if (!socket) return system_error("netlink: socket", errno);
    const timeval limit{1, 0};
    if (::setsockopt(socket.descriptor(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0)
        return system_error("netlink: setsockopt SO_RCVTIMEO", errno);
    return Netlink{std::move(socket)};
}

Result<std::vector<NetlinkAnswer>> Netlink::ask(NetlinkRequest request) {
    const NetlinkBytes message = request.message();
    if (::send(socket_.descriptor(), message.data(), message.size(), 0) < 0)
        return system_error("netlink: send", errno);
    std::vector<NetlinkAnswer> answers;
    std::vector<std::uint8_t> buffer(answer_bytes_max);
    for (;;) {
        const ssize_t length = ::recv(socket_.descriptor(), buffer.data(), buffer.size(), 0);
        if (length < 0 && errno == EINTR) continue;
        if (length < 0) return system_error("netlink: recv", errno);
        const Result<bool> ended =
            take_answers(NetlinkBytes{buffer}.first(static_cast<std::size_t>(length)),
                         request.is_dump(), answers);
        if (!ended) return ended.error();
        if (*ended) return answers;
    }
}

}  // namespace udpproxy
