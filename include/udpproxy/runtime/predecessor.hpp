// Predecessor: what a worker before this one has left: its ledger, and its sockets, which are still
// open in the table of descriptors that the keeper shares with its workers, or were opened again
// from a parcel. The daemon looks for it before it opens anything; the bootstrap and the
// reconfigurer go on from it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "udpproxy/config/config.hpp"
#include "udpproxy/ledger/ledger.hpp"
#include "udpproxy/net/parcel.hpp"
#include "udpproxy/session/port_pool.hpp"
#include "udpproxy/session/upstream.hpp"
#include "udpproxy/shard/adoption.hpp"

namespace udpproxy {

class Predecessor {
public:
    /// Reads the ledger behind the descriptor, or in the parcel behind it, whose sockets are open
    /// afterwards. Nothing: there is none (an empty file), or `why_not` says what is wrong with it.
    [[nodiscard]] static std::optional<Predecessor> find(int ledger, std::string& why_not);
    /// The sockets that the records of a ledger name. The record of one that was closed may still
    /// be in force (ledger_full), and its number another file's, which perhaps cannot be packed.
    [[nodiscard]] static std::vector<int> sockets_in(const Ledger& ledger);

    [[nodiscard]] const ControlRecord& control() const { return control_; }
    /// The configuration in force. Settings that need a restart may be taken from a newer one.
    [[nodiscard]] const Config& config() const { return config_; }
    /// By the place of the proxy in the control record.
    [[nodiscard]] const std::vector<ProxyConfig>& proxies() const { return proxies_; }
    [[nodiscard]] std::uint32_t shards() const { return ledger_.size().shards; }
    /// When the process stopped to forward, with the tallies of that moment; nothing: it died.
    [[nodiscard]] std::optional<Instant> ended_in_order() const {
        return ledger_.closed_in_order();
    }
    [[nodiscard]] const std::vector<UpstreamVersion>& versions() const { return versions_; }
    [[nodiscard]] std::shared_ptr<const Upstream> version(std::uint16_t proxy,
                                                          std::uint32_t version) const;

    /// Believes records whose descriptors are what they say, closes every other descriptor but
    /// `kept` and those of close_engines(), and remembers the ports of sockets that it closes.
    // Requires: no other thread opens or closes descriptors meanwhile.
    void claim(const std::vector<int>& kept);
    /// Closes the rings and epoll instances of the process before: once the shards serve, since
    /// that is work for each of their sockets, 3 to 8 ms for 15 000. Nothing comes out of them any
    /// more: what a task has asked of io_uring ends with the task.
    void close_engines();
    /// The sockets of a listener, by shard, once; empty: they are not what the ledger says.
    [[nodiscard]] std::vector<int> take_listener(std::uint16_t number);
    /// The groups of a shard, once.
    [[nodiscard]] std::vector<GroupRecord> take_groups(std::uint32_t shard);
    /// Sockets that are in the parcel, and for which there were no descriptors.
    [[nodiscard]] std::size_t missing() const { return parcel_ ? parcel_->missing : 0; }
    /// Records that were not believed.
    [[nodiscard]] std::uint32_t not_believed() const { return not_believed_; }

    /// Lets the ports of sockets that claim() has closed rest, and hands the times until which
    /// ports rest over to the ledger of this process.
    void rest_ports(Ledger& ledger, Instant now);
    /// This shard's pool of that number, in which claimed ports are leased and others rest.
    [[nodiscard]] PortPool pool(const ControlRecord::Pool& of, std::uint32_t shard,
                                std::uint64_t start, const std::vector<PortRange>& reserved) const;

private:
    explicit Predecessor(Ledger ledger) : ledger_(std::move(ledger)) {}
    [[nodiscard]] std::string read_control();
    void renumber(std::span<int> descriptors) const;
    [[nodiscard]] bool has_sound_numbers() const;
    void claim_listeners();
    /// Those of a shard's records that the kernel confirms; with the number of the others.
    struct Confirmed {
        std::vector<std::pair<std::uint32_t, GroupRecord>> groups;  // with their port pool
        std::vector<Endpoint> unconfirmed;  // where the sockets of whole records should be bound
        std::uint32_t not_believed = 0;
    };
    [[nodiscard]] Confirmed confirm_groups(std::uint32_t shard) const;
    void claim_groups(std::uint32_t shard, const Confirmed& confirmed);
    [[nodiscard]] bool claims(std::span<const int> descriptors);
    [[nodiscard]] const UpstreamVersion* find_version(std::uint16_t proxy,
                                                      std::uint32_t version) const;
    [[nodiscard]] bool is_whole(const GroupRecord& record, std::uint32_t& pool) const;
    void close_unclaimed(std::vector<int> kept);

    Ledger ledger_;
    std::optional<Unpacked> parcel_;  // the records have the numbers of where it was packed
    ControlRecord control_;
    Config config_;
    std::vector<ProxyConfig> proxies_;
    std::vector<UpstreamVersion> versions_;
    std::map<std::uint16_t, std::vector<int>> listeners_;
    std::vector<std::vector<GroupRecord>> groups_;             // by shard
    std::vector<bool> claimed_;                                // by descriptor
    std::map<std::uint32_t, std::vector<bool>> leased_ports_;  // by pool, then by port
    std::vector<int> engines_;                                 // descriptors
    std::vector<Endpoint> unclaimed_;  // where sockets that were closed, or missing, were bound
    std::map<std::uint32_t, std::map<std::uint16_t, Instant>> rests_;  // by pool and port
    std::uint32_t not_believed_ = 0;
};

}  // namespace udpproxy
