// What a service manager (systemd, or another that speaks the protocol of sd_notify(3)) is told:
// that the program is ready, reloads, stops; a line of figures; and that every shard turns. A
// keeper passes it on. The control thread calls it and never waits for the manager.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "udpproxy/keeper/channel.hpp"
#include "udpproxy/keeper/notify_socket.hpp"
#include "udpproxy/log/log.hpp"
#include "udpproxy/runtime/problems.hpp"
#include "udpproxy/runtime/status.hpp"

namespace udpproxy {

/// Takes the variables out of the environment, so that no child speaks in this program's place.
// Requires: no other thread of this process runs.
[[nodiscard]] ManagerRequest take_manager_request(pid_t process);

class ServiceManager {
public:
    /// `keeper` is null where there is none.
    ServiceManager(const ManagerRequest& request, Log& log, const Channel* keeper = nullptr);

    /// Clients are served.
    void ready();
    void reloading(Instant now);
    /// The end of a reload; `refusal` is why nothing was changed, empty if it was carried out.
    void reloaded(const std::string& refusal);
    void stopping();

    /// The keeper could not pass on what it was told; `error` is errno.
    void failed(int error);

    /// Tells the figures when they have changed, feeds the watchdog, and tells again what the
    /// manager had no room for. Called a few times a second.
    void look(const Status& status, const Problems& problems, Instant now);

private:
    struct Totals {
        std::uint64_t datagrams = 0;  // both directions, as they arrived
        std::uint64_t dropped = 0;    // by this program, or by a full receive queue
    };

    void tell_state(std::string state);
    [[nodiscard]] bool is_there() const noexcept { return socket_ || keeper_ != nullptr; }
    [[nodiscard]] bool send(const std::string& message);
    void warn(const std::string& reason);
    void tell_figures(const Status& status, const Problems& problems, Instant now);
    [[nodiscard]] static Totals totals_of(const Status& status);
    void feed_watchdog(const ShardThreads& shards, Instant now);

    Log& log_;
    std::string shown_socket_;
    const Channel* keeper_;
    std::optional<ManagerSocket> socket_;  // without a keeper
    bool is_reachable_ = true;             // as far as the log knows
    std::string untold_;                   // the newest state, while the manager has not taken it
    std::string refusal_;                  // of the latest reload

    Instant figures_at_{};
    std::optional<Totals> totals_;
    std::string figures_;  // as they were told

    Duration feed_every_{};  // 0: no watchdog
    Instant fed_at_{};
    std::vector<std::uint64_t> turns_;  // by shard, when it was fed
    bool has_told_standstill_ = false;
};

}  // namespace udpproxy
