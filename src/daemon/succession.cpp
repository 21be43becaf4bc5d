// In which order a worker looks at what it was left: the ledger, the descriptors of the ledger, all
// other descriptors.
#include "succession.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "udpproxy/base/descriptor.hpp"

namespace udpproxy {

namespace {

/// The descriptors of the keeper, and of this worker at its start.
std::vector<int> own_descriptors(const WorkerStart& start) {
    std::vector<int> own = start.keepers;
    if (start.is_kept) own.push_back(start.channel);
    return own;
}

}  // namespace

std::optional<Predecessor> find_predecessor(const WorkerStart& start, HandedSockets& handed,
                                            std::string& why_not) {
    std::vector<int> own = own_descriptors(start);
    std::optional<Predecessor> predecessor;
    if (start.is_kept && !start.without_sessions)
        predecessor = Predecessor::find(start.ledger, why_not);
    handed = take_handed_sockets(start.process, own);
    if (predecessor) {
        // Those that serve are in the ledger.
        for (HandedSocket& each : handed.sockets) (void)each.socket.release();
        handed = {};
        predecessor->claim(own);
    } else if (start.is_kept && start.reason != StartReason::first) {
        for (const HandedSocket& each : handed.sockets) own.push_back(each.socket.descriptor());
        std::sort(own.begin(), own.end());
        close_all_but(own);
    }
    return predecessor;
}

bool commit(const Ledger& ledger, const WorkerStart& start) {
    return ::dup3(ledger.descriptor(), start.ledger, O_CLOEXEC) >= 0;
}

void log_start(Log& log, const WorkerStart& start, const std::string& why_not) {
    if (const std::string end = end_of_last(start); !end.empty())
        log.error("worker_ended", {{"reason", name_of(start.reason)}, {"by", end}});
    if (start.without_sessions)
        log.error("sessions_left", {{"reason", "workers died soon after they had adopted them"},
                                    {"effect", "all sessions begin anew"}});
    if (!why_not.empty())
        log.error("sessions_left", {{"reason", "the ledger is not believed: " + why_not},
                                    {"effect", "all sessions begin anew"}});
}

}  // namespace udpproxy
