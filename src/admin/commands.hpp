// Verbs that the control thread answers: it alone changes what runs, and knows what is in force.
#pragma once

#include "routes.hpp"

namespace udpproxy {

/// Reads the configuration file again, as SIGHUP does.
[[nodiscard]] AdminResponse reload_configuration(const AdminContext& context,
                                                 const AdminRequest& request);
/// Argument: proxy; without it all drain, as SIGQUIT has it.
[[nodiscard]] AdminResponse begin_drain(const AdminContext& context, const AdminRequest& request);
/// Argument: proxy.
[[nodiscard]] AdminResponse end_drain(const AdminContext& context, const AdminRequest& request);
/// Looks from inside the running program. Arguments: probe (hexadecimal; sent to the upstream
/// once), proxy (whose upstream).
[[nodiscard]] AdminResponse examine_program(const AdminContext& context,
                                            const AdminRequest& request);

}  // namespace udpproxy
