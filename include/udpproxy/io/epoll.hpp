// The epoll engine: level-triggered epoll, recvmmsg and sendmmsg. It meets the contract in
// backend.hpp on every kernel, and under every seccomp profile that allows a program sockets.
#pragma once

#include <memory>

#include "udpproxy/io/engine_base.hpp"

namespace udpproxy {

class EpollBackend final : public EngineBase {
public:
    /// Errors, each as a sentence: epoll_create1, eventfd, mmap.
    [[nodiscard]] static Result<EpollBackend> open(const EngineSetup& setup);

    [[nodiscard]] Result<void> start(std::vector<ListenerSocket> listeners);
    const Completions& wait(std::optional<Instant> deadline);
    std::span<const Fault> send(std::span<const Departure> departures, Instant now);
    void discard(Buffer buffer);

private:
    struct State;  // in src/io/epoll_state.hpp

    explicit EpollBackend(std::unique_ptr<State> state);
    [[nodiscard]] inline State& state() noexcept;
};

}  // namespace udpproxy
