// The io_uring engine: multishot recvmsg into rings of provided buffers (one per leg), fixed files,
// sends without completions, one submission of sends and one wait per turn. Meets the contract in
// backend.hpp; liburing stays behind the door (src/io/uring*.cpp). Needs Linux 6.1 (DEFER_TASKRUN);
// probe.hpp tells whether this kernel lets us.
#pragma once

#include <memory>

#include "udpproxy/io/backend.hpp"

namespace udpproxy {

class UringBackend {
public:
    /// Sets up ring, buffers and tables. Errors name the call: `io_uring_setup: Operation not
    /// permitted`, `io_uring_register(PBUF_RING): …`.
    [[nodiscard]] static Result<UringBackend> open(EngineSetup setup);

    UringBackend(UringBackend&&) noexcept;
    UringBackend& operator=(UringBackend&&) = delete;
    ~UringBackend();

    [[nodiscard]] Result<void> start();
    const Completions& wait(std::optional<Instant> deadline);
    [[nodiscard]] Instant now();
    std::span<const Fault> send(std::span<const Departure> departures);
    void discard(Buffer buffer);
    [[nodiscard]] OpeningOutcome open_group(const GroupOpening& opening, std::span<Slot> slots);
    [[nodiscard]] OpeningOutcome join_group(std::span<const Slot> members,
                                            const MemberJoining& joining, Slot& joined);
    /// errno, or 0.
    [[nodiscard]] int adopt(Slot slot, ListenerSocket& listener);
    void close(Slot slot);
    [[nodiscard]] SourceAnswer source_towards(const Endpoint& upstream, const Address& wanted);
    void wake();
    [[nodiscard]] const EngineCounters& counters() const;

    struct State;  // in src/io/uring_state.hpp

private:
    explicit UringBackend(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace udpproxy
