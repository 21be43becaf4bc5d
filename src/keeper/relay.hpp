// Relay: passes what a worker says on to the service manager, which listens to the main process
// only (NotifyAccess=main). Of the protocol (sd_notify(3)) it lets through what tells of the
// program's state; a worker that asks for more, as for another main process, is not heard.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>
#include <utility>

#include "udpproxy/keeper/channel.hpp"
#include "udpproxy/keeper/notify_socket.hpp"

namespace udpproxy {

class Relay {
public:
    /// `socket` is absent where there is no manager, or none that can be reached: the worker says
    /// why.
    explicit Relay(std::optional<ManagerSocket> socket) : socket_(std::move(socket)) {}

    struct Outcome {
        bool is_well = false;  // the lines say WATCHDOG=1
        int error = 0;         // errno of the first message that a manager did not get, else 0
    };
    Outcome pass_on(std::string_view lines) noexcept;
    /// The manager closes what it has kept over the restart.
    void forget_stored() noexcept;
    /// Tells again what the manager had no room for.
    void retry() noexcept;
    [[nodiscard]] bool has_untold() const noexcept {
        return forgets_ || state_.size > 0 || status_.size > 0;
    }
    /// Null: there is no manager.
    [[nodiscard]] const ManagerSocket* manager() const noexcept {
        return socket_ ? &*socket_ : nullptr;
    }
    /// -1: there is no manager.
    [[nodiscard]] int descriptor() const noexcept { return socket_ ? socket_->descriptor() : -1; }

private:
    struct Lines {
        std::array<char, Channel::text_bytes_max> bytes{};
        std::size_t size = 0;

        [[nodiscard]] std::string_view text() const noexcept { return {bytes.data(), size}; }
    };

    std::optional<ManagerSocket> socket_;
    bool is_reachable_ = true;  // as far as the worker knows
    bool forgets_ = false;
    // While the manager has no room, the newest counts: of what says ready, reloading or stopping,
    // and of what has a status only.
    Lines state_;
    Lines status_;
};

}  // namespace udpproxy
