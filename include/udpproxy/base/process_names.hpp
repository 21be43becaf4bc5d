// The names by which ps, top and the doctor tell the program's two processes apart.
#pragma once

namespace udpproxy {

/// PR_SET_NAME takes 15 bytes.
inline constexpr char keeper_name[] = "udpproxy";
inline constexpr char worker_name[] = "udpproxy worker";
static_assert(sizeof worker_name <= 16);

}  // namespace udpproxy
