// Operation: the running program as the control thread knows it: which proxy has which place in the shards, and the versions of its upstream. Turns
// what changes (an address of a name, a configuration) into commands to the shards. Called by the supervisor between signals.
#pragma once

#include <memory>
#include <vector>

#include "names.hpp"
#include "roster.hpp"
#include "shard_thread.hpp"
#include "udpproxy/control/config.hpp"

namespace udpproxy {

class Operation {
public:
    /// `roster` has the shards' proxies as they started, and is told what changes.
    Operation(const Config& config, Names& names, Roster& roster, std::vector<std::unique_ptr<ShardThread>>& shards);

    /// Takes the resolver's answers to the shards, and frees what no shard holds any more; a few times a second.
    void look(Instant now);

private:
    void set_upstream(std::uint16_t proxy, const Endpoint& endpoint);

    const Config& config_;
    Names& names_;
    Roster& roster_;
    std::vector<std::unique_ptr<ShardThread>>& shards_;
    std::vector<std::shared_ptr<const Upstream>> present_;   // by proxy
    std::vector<std::shared_ptr<const Upstream>> versions_;  // every one that somebody may hold
};

}  // namespace udpproxy
