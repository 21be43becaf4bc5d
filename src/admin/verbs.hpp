// Every verb: its arguments, and whether it only reads. The table of access is in routes.cpp. The
// reports are made in reports.cpp, changes in changes.cpp, the trace in trace.cpp.
#pragma once

#include <string_view>

#include "routes.hpp"

namespace udpproxy {

// Verbs that only read.

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
/// 200 when every shard turns, else 503 and the shard that does not.
[[nodiscard]] AdminResponse report_live(const AdminContext& context, const AdminRequest& request);
/// 200 while new clients are taken, else 503.
[[nodiscard]] AdminResponse report_ready(const AdminContext& context, const AdminRequest& request);

// Verbs that change the program. Each is logged with the operator that asked for it.

/// Logs a change: what was changed, and by which operator.
void note_change(const AdminContext& context, const AdminRequest& request, std::string_view verb,
                 std::vector<LogField> fields);

/// `"starts": {"first": 1, …}`: how many workers have started until now, by reason.
void write_worker_starts(JsonText& json, const Succession& succession);

/// Argument: id.
[[nodiscard]] AdminResponse kill_session(const AdminContext& context, const AdminRequest& request);
/// Argument: level.
[[nodiscard]] AdminResponse set_log_level(const AdminContext& context, const AdminRequest& request);

/// Reads the configuration file again, as SIGHUP does.
[[nodiscard]] AdminResponse reload_configuration(const AdminContext& context,
                                                 const AdminRequest& request);
/// Argument: proxy; without it all proxies drain, as with SIGQUIT.
[[nodiscard]] AdminResponse begin_drain(const AdminContext& context, const AdminRequest& request);
/// Argument: proxy.
[[nodiscard]] AdminResponse end_drain(const AdminContext& context, const AdminRequest& request);
/// Asks for an upgrade, as SIGUSR2 does, and answers before it begins: with the version, the pid,
/// the workers' starts and the refusals until now. What comes of it is in the status of whichever
/// worker serves then.
[[nodiscard]] AdminResponse begin_upgrade(const AdminContext& context, const AdminRequest& request);
/// Runs the doctor inside the running program. Arguments: probe (hexadecimal; sent to the upstream
/// once), proxy (whose upstream).
[[nodiscard]] AdminResponse examine_program(const AdminContext& context,
                                            const AdminRequest& request);

// The trace: one at a time. It ends by itself when its time is over, even if the operator's
// connection has gone. Its verbs need the access of a change, since they show payloads.

/// Arguments: client (address or address:port), seconds (1 to 600, default 60).
[[nodiscard]] AdminResponse begin_trace(const AdminContext& context, const AdminRequest& request);
/// The records since the last call.
[[nodiscard]] AdminResponse take_trace(const AdminContext& context, const AdminRequest& request);
[[nodiscard]] AdminResponse end_trace(const AdminContext& context, const AdminRequest& request);

}  // namespace udpproxy
