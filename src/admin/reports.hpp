// Verbs that only look: the page, status, proxies, sessions, unlisted sources, drops, probes.
#pragma once

#include "routes.hpp"

namespace udpproxy {

/// The status page.
[[nodiscard]] AdminResponse show_page(const AdminContext& context, const AdminRequest& request);
[[nodiscard]] AdminResponse report_status(const AdminContext& context, const AdminRequest& request);
[[nodiscard]] AdminResponse report_proxies(const AdminContext& context,
                                           const AdminRequest& request);
/// Arguments: client (address, address:port or prefix), proxy, sort (bytes, age, idle), limit (1 to
/// 100000, default 100).
[[nodiscard]] AdminResponse report_sessions(const AdminContext& context,
                                            const AdminRequest& request);
[[nodiscard]] AdminResponse report_unlisted(const AdminContext& context,
                                            const AdminRequest& request);
[[nodiscard]] AdminResponse report_drops(const AdminContext& context, const AdminRequest& request);
[[nodiscard]] AdminResponse report_log(const AdminContext& context, const AdminRequest& request);
[[nodiscard]] AdminResponse report_metrics(const AdminContext& context,
                                           const AdminRequest& request);
/// 200 when every shard turns, 503 and which one does not.
[[nodiscard]] AdminResponse report_live(const AdminContext& context, const AdminRequest& request);
/// 200 while new clients are taken, else 503.
[[nodiscard]] AdminResponse report_ready(const AdminContext& context, const AdminRequest& request);

}  // namespace udpproxy
