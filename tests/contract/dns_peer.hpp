// DnsPeer: a DNS server on loopback that says whatever a test wants, over UDP and TCP. It has no
// thread: the test calls serve() in turn with what it tests. Also a resolv.conf that names it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "udpproxy/host/lookups.hpp"
#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy::contract {

/// Some containers have no /etc/hosts; what is said of it cannot be tried there.
[[nodiscard]] bool hosts_file_has_localhost();

enum class RecordType : std::uint16_t { a = 1, cname = 5, aaaa = 28 };

struct DnsQuestion {
    std::string name;  // as `www.example.test`
    RecordType type = RecordType::a;
    bool is_tcp = false;
    std::string packet;  // as it came
};

struct DnsRecord {
    std::string owner;
    std::string value;  // an address, or the name that a CNAME stands for
    std::uint32_t ttl_s = 60;
};

/// An answer as it goes out.
[[nodiscard]] std::string dns_answer(const DnsQuestion& question,
                                     const std::vector<DnsRecord>& records);
/// No such name.
[[nodiscard]] std::string dns_nxdomain(const DnsQuestion& question);
/// Nothing but the word that the answer is too long for UDP.
[[nodiscard]] std::string dns_truncated(const DnsQuestion& question);

class DnsPeer {
public:
    /// The packet to answer with; absent: silence.
    using Answer = std::function<std::optional<std::string>(const DnsQuestion&)>;

    /// On this address; port 0: one that is free for UDP and TCP.
    explicit DnsPeer(const Address& at, std::uint16_t port = 0);

    [[nodiscard]] std::uint16_t port() const noexcept { return endpoint_.port; }
    /// Answers all that has come.
    void serve();

    Answer answer;                       // silence at first
    std::vector<DnsQuestion> questions;  // all that ever came

private:
    [[nodiscard]] std::optional<std::string> take(const std::string& packet, bool is_tcp);

    Endpoint endpoint_;
    Socket udp_;
    Socket listener_;
    std::map<int, std::string> received_;  // by connection
    std::vector<Socket> connections_;
};

/// Answers from this table of names and addresses, and with NXDOMAIN what is not in it.
[[nodiscard]] DnsPeer::Answer dns_table(std::map<std::string, std::vector<DnsRecord>> table);

/// A resolv.conf that goes with it.
class ResolvConf {
public:
    explicit ResolvConf(const std::string& text);
    ~ResolvConf();
    ResolvConf(const ResolvConf&) = delete;
    ResolvConf& operator=(const ResolvConf&) = delete;

    /// Another file under the same name, as a DHCP client makes it.
    void replace(const std::string& text) const;
    [[nodiscard]] LookupSettings settings(std::uint16_t port) const { return {path_, port}; }

private:
    std::string path_;
};

}  // namespace udpproxy::contract
