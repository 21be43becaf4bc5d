// The epoll engine: level-triggered epoll, recvmmsg and sendmmsg. Meets the contract in backend.hpp
// on every kernel and under every seccomp profile that lets a program have sockets.
#pragma once

#include <memory>

#include "udpproxy/io/backend.hpp"

namespace udpproxy {

class EpollBackend {
public:
    /// Errors: epoll_create1, eventfd, mmap, as sentences.
    [[nodiscard]] static Result<EpollBackend> open(EngineSetup setup);

    EpollBackend(EpollBackend&&) noexcept;
    EpollBackend& operator=(EpollBackend&&) = delete;
    ~EpollBackend();

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

    struct State;  // in src/io/epoll.cpp

private:
    explicit EpollBackend(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace udpproxy
