// NetworkWatch: tells the control thread when routes, addresses or links of this network namespace
// have changed. There is one watch, for all that depends on them. It says that something has
// changed and never what: those that depend on the network look at it as it is now, so that a lost
// or doubled announcement makes no difference.
#pragma once

#include <optional>

#include "udpproxy/base/result.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy {

/// How long a change may be followed by others before it is reported: a route that is replaced is
/// first deleted.
inline constexpr Duration network_settles_in = std::chrono::milliseconds{250};
/// However fast the network changes, reports are at least this far apart.
inline constexpr Duration network_report_every = std::chrono::seconds{1};
/// While an address is tentative, a report waits at most this long. Duplicate address detection
/// takes one second and a random delay of up to another (RFC 4862, net/ipv6/addrconf.c).
inline constexpr Duration tentative_wait_max = std::chrono::seconds{3};
/// How often changes are assumed where the kernel announces none to this process.
inline constexpr Duration network_look_every = std::chrono::seconds{10};

class NetworkWatch {
public:
    /// Subscribes to the kernel's announcements (rtnetlink(7)). Errors: `netlink: operation:
    /// cause`, where sockets of that family are refused (seccomp, RestrictAddressFamilies); then
    /// has_changed() is true every `network_look_every`.
    [[nodiscard]] Result<void> open();

    /// Whether the network has changed and has settled since this was last true. Called several
    /// times a second; reads the announcements only when a report is due.
    [[nodiscard]] bool has_changed(Instant now);

private:
    [[nodiscard]] bool was_announced();

    Socket socket_;                        // none: nothing is announced
    bool unseen_ = true;                   // what has changed before open() is not known
    std::optional<Instant> announced_at_;  // the first since the last report
    Instant reported_at_{};
};

}  // namespace udpproxy
