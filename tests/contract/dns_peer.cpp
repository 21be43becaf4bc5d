// Reads and writes as much of RFC 1035 as the tests need.
#include "contract/dns_peer.hpp"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "contract/peer.hpp"

namespace udpproxy::contract {

namespace {

constexpr std::size_t header_bytes = 12;
constexpr std::uint16_t flags_answer = 0x8180;  // a response; recursion desired and available
constexpr std::uint16_t flag_truncated = 0x0200;
constexpr std::uint16_t code_nxdomain = 3;

void put16(std::string& packet, std::size_t value) {
    packet += static_cast<char>(value >> 8 & 0xff);
    packet += static_cast<char>(value & 0xff);
}

void put_name(std::string& packet, const std::string& name) {
    std::size_t begin = 0;
    while (begin < name.size()) {
        const std::size_t end = std::min(name.find('.', begin), name.size());
        packet += static_cast<char>(end - begin);
        packet += name.substr(begin, end - begin);
        begin = end + 1;
    }
    packet += '\0';
}

std::uint16_t get16(const std::string& packet, std::size_t at) {
    const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(packet.at(i)); };
    return static_cast<std::uint16_t>(byte(at) << 8 | byte(at + 1));
}

DnsQuestion read_question(const std::string& packet, bool is_tcp) {
    DnsQuestion question{{}, RecordType::a, is_tcp, packet};
    std::size_t at = header_bytes;
    while (packet.at(at) != '\0') {
        const auto length = static_cast<std::uint8_t>(packet[at]);
        if (!question.name.empty()) question.name += '.';
        question.name += packet.substr(at + 1, length);
        at += 1U + length;
    }
    question.type = static_cast<RecordType>(get16(packet, at + 1));
    return question;
}

/// The header and the question again.
std::string begin_answer(const DnsQuestion& question, std::uint16_t flags, std::size_t records) {
    std::string packet = question.packet.substr(0, 2);
    put16(packet, flags);
    put16(packet, 1);
    put16(packet, records);
    put16(packet, 0);
    put16(packet, 0);
    put_name(packet, question.name);
    put16(packet, static_cast<std::size_t>(question.type));
    put16(packet, 1);
    return packet;
}

}  // namespace

bool hosts_file_has_localhost() {
    std::ifstream file("/etc/hosts");
    const std::string text{std::istreambuf_iterator<char>{file}, {}};
    return text.find("localhost") != std::string::npos;
}

std::string dns_answer(const DnsQuestion& question, const std::vector<DnsRecord>& records) {
    std::string body;
    std::size_t count = 0;
    for (const DnsRecord& record : records) {
        const Result<Address> address = parse_address(record.value);
        RecordType type = RecordType::cname;
        std::string data;
        if (!address) {
            put_name(data, record.value);
        } else if (address->is_ipv4()) {
            type = RecordType::a;
            data.assign(address->bytes.begin() + 12, address->bytes.end());
        } else {
            type = RecordType::aaaa;
            data.assign(address->bytes.begin(), address->bytes.end());
        }
        if (type != RecordType::cname && type != question.type) continue;
        ++count;
        put_name(body, record.owner);
        put16(body, static_cast<std::size_t>(type));
        put16(body, 1);
        put16(body, record.ttl_s >> 16);
        put16(body, record.ttl_s & 0xffff);
        put16(body, data.size());
        body += data;
    }
    return begin_answer(question, flags_answer, count) + body;
}

std::string dns_nxdomain(const DnsQuestion& question) {
    return begin_answer(question, flags_answer | code_nxdomain, 0);
}

std::string dns_truncated(const DnsQuestion& question) {
    return begin_answer(question, flags_answer | flag_truncated, 0);
}

DnsPeer::Answer dns_table(std::map<std::string, std::vector<DnsRecord>> table) {
    return [table = std::move(table)](const DnsQuestion& question) -> std::optional<std::string> {
        const auto entry = table.find(question.name);
        return entry == table.end() ? dns_nxdomain(question) : dns_answer(question, entry->second);
    };
}

DnsPeer::DnsPeer(const Address& at, std::uint16_t port) {
    const int domain = at.is_ipv4() ? AF_INET : AF_INET6;
    for (int attempt = 0; attempt < 50 && !listener_; ++attempt) {
        endpoint_ = {at, 0, port != 0 ? port : next_port()};
        SocketName name{};
        const socklen_t length = write_socket_name(endpoint_, name);
        const int type_flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
        Socket udp{::socket(domain, SOCK_DGRAM | type_flags, 0)};
        Socket tcp{::socket(domain, SOCK_STREAM | type_flags, 0)};
        const int one = 1;
        ::setsockopt(tcp.descriptor(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (::bind(udp.descriptor(), &name.any, length) != 0 ||
            ::bind(tcp.descriptor(), &name.any, length) != 0 || ::listen(tcp.descriptor(), 16) != 0)
            continue;
        udp_ = std::move(udp);
        listener_ = std::move(tcp);
    }
    REQUIRE(listener_);
}

std::optional<std::string> DnsPeer::take(const std::string& packet, bool is_tcp) {
    questions.push_back(read_question(packet, is_tcp));
    return answer ? answer(questions.back()) : std::nullopt;
}

void DnsPeer::serve() {
    std::array<char, 65536> buffer;
    SocketName from{};
    socklen_t length = sizeof from;
    ssize_t bytes = 0;
    while ((bytes = ::recvfrom(udp_.descriptor(), buffer.data(), buffer.size(), 0, &from.any,
                               &length)) >= 0) {
        if (const auto reply = take({buffer.data(), static_cast<std::size_t>(bytes)}, false))
            (void)::sendto(udp_.descriptor(), reply->data(), reply->size(), 0, &from.any, length);
        length = sizeof from;
    }
    while (true) {
        Socket accepted{
            ::accept4(listener_.descriptor(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
        if (!accepted) break;
        received_[accepted.descriptor()].clear();
        connections_.push_back(std::move(accepted));
    }
    for (const Socket& connection : connections_) {
        std::string& received = received_[connection.descriptor()];
        while ((bytes = ::recv(connection.descriptor(), buffer.data(), buffer.size(), 0)) > 0)
            received.append(buffer.data(), static_cast<std::size_t>(bytes));
        while (received.size() >= 2 && received.size() >= 2U + get16(received, 0)) {
            const std::size_t packet_bytes = get16(received, 0);
            if (const auto reply = take(received.substr(2, packet_bytes), true)) {
                std::string framed;
                put16(framed, reply->size());
                framed += *reply;
                (void)::send(connection.descriptor(), framed.data(), framed.size(), MSG_NOSIGNAL);
            }
            received.erase(0, 2 + packet_bytes);
        }
    }
}

ResolvConf::ResolvConf(const std::string& text)
    : path_("/tmp/udpproxy_resolv_conf." + std::to_string(::getpid())) {
    replace(text);
}

ResolvConf::~ResolvConf() { (void)std::remove(path_.c_str()); }

void ResolvConf::replace(const std::string& text) const {
    const std::string fresh = path_ + ".new";
    std::ofstream(fresh) << text;
    REQUIRE(std::rename(fresh.c_str(), path_.c_str()) == 0);
}

}  // namespace udpproxy::contract
