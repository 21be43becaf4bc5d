// How a worker follows the one before: what it finds, when its own ledger comes into force, and
// what the log says of it. The steps between are the daemon's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "udpproxy/base/result.hpp"
#include "udpproxy/host/handed_sockets.hpp"
#include "udpproxy/keeper/worker_start.hpp"
#include "udpproxy/ledger/ledger.hpp"
#include "udpproxy/log/log.hpp"
#include "udpproxy/runtime/predecessor.hpp"

namespace udpproxy {

/// What the last worker has left, its open descriptors closed but for those of the ledger. Nothing:
/// this worker starts anew, with the sockets in `handed`; `why_not` says what is wrong with a
/// ledger. `shards` is the number that is configured: a restart may change it, other starts go on
/// with what there is.
// Requires: nothing has been opened yet, no other thread of this process runs.
[[nodiscard]] std::optional<Predecessor> find_predecessor(const WorkerStart& start,
                                                          std::optional<std::uint32_t> shards,
                                                          HandedSockets& handed,
                                                          std::string& why_not);

/// The ledger of this process comes into force: the next worker goes on from it. One system call,
/// so that a death comes before or after it. False: errno says why.
[[nodiscard]] bool commit(const Ledger& ledger, const WorkerStart& start);

/// Puts a parcel of the ledger in force and of the sockets that it names in the ledger's place,
/// from where the keeper leaves it with the service manager. One system call likewise. The log says
/// how many sockets, or why none.
void park(const WorkerStart& start, Log& log);

/// Why this worker was started, if not as the first, and why it does not go on where it does not,
/// or not with all: `missing` sockets could not be opened.
void log_start(Log& log, const WorkerStart& start, const std::string& why_not, std::size_t missing);

}  // namespace udpproxy
