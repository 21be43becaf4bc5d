// Channel: what keeper and worker say to each other, over a pair of sockets (SOCK_SEQPACKET) that
// is new for each worker. Neither waits for the other. The keeper takes the worker for hostile:
// whatever comes is a message, or none.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace udpproxy {

enum class MessageKind : std::uint8_t {
    unknown,
    // From the worker:
    ready,           // clients are served
    manager,         // text: lines for the service manager, as sd_notify(3) has them
    upgrade_wanted,  // the program's file shall take this one's place
    // From the keeper:
    signal,           // number: the keeper got this signal, and passes it on
    manager_failed,   // number: errno of a message that could not be sent to the service manager
    upgrade_refused,  // text: why all stays as it was
};

struct Message {
    MessageKind kind = MessageKind::unknown;
    std::uint8_t number = 0;
    std::string_view text;
};

class Channel {
public:
    static constexpr std::size_t text_bytes_max = 4096;

    /// `descriptor` is one end; it is not closed.
    explicit Channel(int descriptor) noexcept : descriptor_(descriptor) {}

    [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
    /// False: there is no room at the moment, or nobody at the other end.
    // Requires: message.text has text_bytes_max bytes at most.
    [[nodiscard]] bool send(const Message& message) const noexcept;
    /// The next message; its text lives until the next call. Empty: there is none at the moment, or
    /// never again (is_broken()).
    [[nodiscard]] std::optional<Message> receive() noexcept;
    /// The other end is closed, or the descriptor is not what it was.
    [[nodiscard]] bool is_broken() const noexcept { return is_broken_; }

private:
    int descriptor_;
    bool is_broken_ = false;
    std::array<char, 2 + text_bytes_max> bytes_{};  // kind, number, text
};

}  // namespace udpproxy
