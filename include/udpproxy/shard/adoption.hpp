// Adoption: a shard goes on with the sockets, groups and sessions of an earlier process. The
// control thread prepares it from the ledger and has made sure of each descriptor; the shard's
// thread carries it out before its first turn.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "udpproxy/io/sockets.hpp"
#include "udpproxy/ledger/records.hpp"
#include "udpproxy/shard/commands.hpp"

namespace udpproxy {

struct Shard;

/// What one shard adopts, and what became of it.
struct Adoption {
    /// They bring proxies, source bindings and listeners to their numbers, in order.
    std::list<Command> commands;
    std::vector<UpstreamVersion> versions;  // that groups name
    /// Each with descriptors that are what the record says.
    std::vector<GroupRecord> groups;
    /// Tallies and times are those of an orderly end; else idle times begin anew.
    bool keeps_times = false;

    std::uint32_t sessions_adopted = 0;
    std::uint32_t sessions_closed = 0;  // their group is cooling, or closed
    std::uint32_t groups_closed = 0;
    std::vector<int> left;  // descriptors of groups that were not adopted; the caller closes them
};

/// Requires: a shard without proxies and listeners that has not begun to turn; the ports of all
/// `groups` are leased.
void adopt(Shard& shard, Sockets& sockets, Adoption& adoption, Instant now);

}  // namespace udpproxy
