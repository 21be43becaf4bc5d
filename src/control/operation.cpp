// What changes while the program runs.
#include "operation.hpp"

#include "room.hpp"

namespace udpproxy {

Operation::Operation(const Config& config, Names& names, Roster& roster, std::vector<std::unique_ptr<ShardThread>>& shards)
    : config_(config), names_(names), roster_(roster), shards_(shards) {
    const std::lock_guard lock(roster_.mutex);
    for (const ProxySetup& proxy : roster_.proxies) present_.push_back(proxy.upstream);
    versions_ = present_;
}

void Operation::look(Instant now) {
    for (const Names::Found& found : names_.look(config_, now)) set_upstream(found.proxy, found.endpoint);
    for (const auto& shard : shards_) shard->post_waiting();
    // One holder is this list: nobody else can come by another.
    std::erase_if(versions_, [](const std::shared_ptr<const Upstream>& version) { return version.use_count() == 1; });
}

void Operation::set_upstream(std::uint16_t proxy, const Endpoint& endpoint) {
    present_[proxy] = upstream_of(config_.proxies[proxy], endpoint, present_[proxy]->version() + 1);
    versions_.push_back(present_[proxy]);
    {
        const std::lock_guard lock(roster_.mutex);
        roster_.proxies[proxy].upstream = present_[proxy];
    }
    for (const auto& shard : shards_) {
        Command command;
        command.kind = CommandKind::set_upstream;
        command.proxy = proxy;
        command.upstream = present_[proxy];
        shard->tell(std::move(command));
    }
}

}  // namespace udpproxy
