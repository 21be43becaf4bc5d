// The io_uring engine: multishot recvmsg into rings of provided buffers (one per leg), fixed files,
// sends without completions, one submission of sends and one wait per turn. It meets the contract
// in backend.hpp. Only src/io/uring*.cpp see liburing. The engine needs Linux 6.1 (DEFER_TASKRUN);
// probe.hpp tells whether this kernel allows it.
#pragma once

#include <memory>

#include "udpproxy/io/engine_base.hpp"

namespace udpproxy {

class UringBackend final : public EngineBase {
public:
    /// Sets up ring, buffers and tables. Errors name the call: `io_uring_setup: Operation not
    /// permitted`, `io_uring_register(PBUF_RING): …`.
    [[nodiscard]] static Result<UringBackend> open(const EngineSetup& setup);

    [[nodiscard]] Result<void> start(std::vector<ListenerSocket> listeners);
    const Completions& wait(std::optional<Instant> deadline);
    std::span<const Fault> send(std::span<const Departure> departures, Instant now);
    void discard(Buffer buffer);

private:
    struct State;  // in src/io/uring_state.hpp

    explicit UringBackend(std::unique_ptr<State> state);
    [[nodiscard]] inline State& state() noexcept;
};

}  // namespace udpproxy
