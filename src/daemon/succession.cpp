// In which order a worker looks at what it was left: the ledger, the descriptors of the ledger, all
// other descriptors.
#include "succession.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "udpproxy/base/descriptor.hpp"
#include "udpproxy/net/parcel.hpp"

namespace udpproxy {

namespace {

/// The descriptors of the keeper, and of this worker at its start.
std::vector<int> own_descriptors(const WorkerStart& start) {
    std::vector<int> own = start.keepers;
    if (start.is_kept) own.push_back(start.channel);
    return own;
}

/// Returns how many sockets.
Result<std::size_t> park(const WorkerStart& start) {
    const Result<Ledger> ledger = Ledger::open(start.ledger);
    if (!ledger) return ledger.error();
    const std::vector<int> sockets = Predecessor::sockets_in(*ledger);
    const Result<Descriptor> parcel = pack(start.ledger, sockets);
    if (!parcel) return parcel.error();
    if (::dup3(parcel->descriptor(), start.ledger, O_CLOEXEC) < 0)
        return system_error("dup3", errno);
    return sockets.size();
}

}  // namespace

std::optional<Predecessor> find_predecessor(const WorkerStart& start,
                                            std::optional<std::uint32_t> shards,
                                            HandedSockets& handed, std::string& why_not) {
    const std::vector<int> own = own_descriptors(start);
    handed = take_handed_sockets(start.process, own, stored_name);
    // What is bound stays bound as long as the manager has it, too.
    if (!start.is_kept)
        for (const int descriptor : handed.stored) discard(Descriptor{descriptor}.descriptor());
    std::vector<int> kept = own;
    for (const HandedSocket& each : handed.sockets) kept.push_back(each.socket.descriptor());
    std::sort(kept.begin(), kept.end());
    const bool is_parcel = start.is_kept && may_be_parcel(start.ledger);
    // A worker that died before it had taken over what is in the parcel has left it open.
    if (is_parcel) close_all_but(kept);
    std::optional<Predecessor> predecessor;
    if (start.is_kept && !start.without_sessions)
        predecessor = Predecessor::find(start.ledger, why_not);
    if (predecessor && is_parcel && shards && shards != predecessor->shards()) {
        why_not = fmt::format("it has {} shards, and the configuration {}", predecessor->shards(),
                              *shards);
        predecessor.reset();
    }
    if (predecessor) {
        // Those that serve are in the ledger.
        for (HandedSocket& each : handed.sockets) (void)each.socket.release();
        handed = {};
        predecessor->claim(own);
    } else if (start.is_kept && start.reason != StartReason::first) {
        close_all_but(kept);
        if (is_parcel) discard(start.ledger);
    }
    return predecessor;
}

bool commit(const Ledger& ledger, const WorkerStart& start) {
    const Descriptor before{::fcntl(start.ledger, F_DUPFD_CLOEXEC, 0)};
    if (::dup3(ledger.descriptor(), start.ledger, O_CLOEXEC) < 0) return false;
    // A socket that was closed here is closed; until now another worker could have gone on.
    if (may_be_parcel(before.descriptor())) discard(before.descriptor());
    return true;
}

void park(const WorkerStart& start, Log& log) {
    const Instant begun = monotonic_now();
    if (const Result<std::size_t> parked = park(start); parked)
        log.info(
            "parked",
            {{"sockets", *parked},
             {"ms", std::chrono::duration<double, std::milli>(monotonic_now() - begun).count()}});
    else
        log.error("not_parked", {{"reason", parked.error().message},
                                 {"effect", "sessions end with this process"}});
}

void log_start(Log& log, const WorkerStart& start, const std::string& why_not,
               std::size_t missing) {
    if (const std::string end = end_of_last(start); !end.empty())
        log.error("worker_ended", {{"reason", name_of(start.reason)}, {"by", end}});
    if (start.without_sessions)
        log.error("sessions_left", {{"reason", "workers died soon after they had adopted them"},
                                    {"effect", "all sessions begin anew"}});
    if (!why_not.empty())
        log.error("sessions_left", {{"reason", "the ledger is not believed: " + why_not},
                                    {"effect", "all sessions begin anew"}});
    if (missing > 0)
        log.error("sockets_left", {{"sockets", missing},
                                   {"reason", "RLIMIT_NOFILE is lower than before"},
                                   {"effect", "their sessions begin anew"}});
}

}  // namespace udpproxy
