// Lookups: the addresses of host names. Many names are asked for at once, without a thread and
// without a wait: the owner polls one descriptor, and a name whose server is silent holds up no
// other. c-ares does the asking: /etc/hosts and the servers and search list of resolv.conf, in the
// order that nsswitch.conf gives to `files` and `dns`; its other services (mdns, myhostname and the
// like) are not known here. What an answer means is decided in config/upstream_choice.hpp, when to
// ask again in runtime/resolver.hpp.
#pragma once

#include <compare>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "udpproxy/base/result.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/socket.hpp"

struct ares_addrinfo;
struct ares_channeldata;

namespace udpproxy {

/// A name, the port that its endpoints get, and the family that is asked for; absent: both.
struct HostName {
    std::string host;
    std::uint16_t port = 0;
    std::optional<Family> family;

    friend bool operator==(const HostName&, const HostName&) = default;
};

struct Addresses {
    std::vector<Endpoint> endpoints;  // at least one; no repetitions; in the order of RFC 6724
    std::optional<Duration> ttl;      // the shortest of the records; absent: from /etc/hosts
};

/// One question, and its answer once there is one.
class Lookup {
public:
    explicit Lookup(HostName name) : name_(std::move(name)) {}

    [[nodiscard]] const HostName& name() const noexcept { return name_; }
    [[nodiscard]] bool is_done() const noexcept { return is_done_; }
    /// Errors, in the words of c-ares: `Domain name not found`, `Timeout while contacting DNS
    /// servers`. Requires: is_done().
    [[nodiscard]] Result<Addresses> addresses() const;

private:
    friend class Lookups;
    struct Freed {
        void operator()(ares_addrinfo* found) const noexcept;
    };

    HostName name_;
    bool is_done_ = false;
    bool is_from_file_ = false;
    int status_ = 0;  // of c-ares
    std::unique_ptr<ares_addrinfo, Freed> found_;
};

/// The defaults are the system's; a test has servers of its own.
struct LookupSettings {
    std::string resolv_conf = "/etc/resolv.conf";
    std::uint16_t port = 53;
};

class Lookups {
public:
    explicit Lookups(LookupSettings settings = {}) : settings_(std::move(settings)) {}
    ~Lookups();
    Lookups(const Lookups&) = delete;
    Lookups& operator=(const Lookups&) = delete;

    /// Puts a question; advance() asks it. One whose result has been dropped before it was asked is
    /// forgotten.
    [[nodiscard]] std::shared_ptr<const Lookup> ask(HostName name);
    /// Asks what waits, reads answers, and repeats questions whose time is over. Never blocks on
    /// the network. Called when the descriptor is readable, and every 100 ms or so for the
    /// time-outs. When resolv.conf has changed, everything under way is asked again.
    void advance() noexcept;
    /// Whether the next advance() has more to ask. It asks a few names at a time, since each of
    /// them reads /etc/hosts.
    [[nodiscard]] bool has_more() const noexcept;
    /// Readable when advance() has something to read; -1: nothing was ever asked.
    [[nodiscard]] int descriptor() const noexcept { return events_.descriptor(); }

private:
    /// Which resolv.conf a file is; all zero: there is none.
    struct FileStamp {
        std::uint64_t device = 0;
        std::uint64_t inode = 0;
        std::int64_t size = 0;
        std::int64_t changed_s = 0;
        std::int64_t changed_ns = 0;

        friend bool operator==(const FileStamp&, const FileStamp&) = default;
    };
    struct Destroyed {
        void operator()(ares_channeldata* channel) const noexcept;
    };
    using List = std::list<std::shared_ptr<Lookup>>;

    // Called by c-ares.
    static void take(void* lookup, int status, int timeouts, ares_addrinfo* found);
    static void watch(void* lookups, int descriptor, int readable, int writable);

    [[nodiscard]] FileStamp stamp() const noexcept;
    [[nodiscard]] int open_channel() noexcept;
    void read() noexcept;
    void begin() noexcept;

    LookupSettings settings_;
    Socket events_;  // an epoll set of the sockets that c-ares has open
    FileStamp read_from_;
    List waiting_;
    List under_way_;
    std::unique_ptr<ares_channeldata, Destroyed> channel_;
};

/// Asks for all of the names at once and waits for the answers, half a minute at most. Blocks: for
/// the command line only.
[[nodiscard]] std::vector<Result<Addresses>> look_up(const std::vector<HostName>& names);

}  // namespace udpproxy
