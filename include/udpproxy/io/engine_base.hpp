// EngineBase: the verbs that are alike in both engines. The engines' common state, and the hooks in
// which they differ, are in src/io/engine_state.hpp.
#pragma once

#include <memory>

#include "udpproxy/io/backend.hpp"

namespace udpproxy {

struct EngineState;

class EngineBase : public Sockets {
public:
    EngineBase(EngineBase&&) noexcept;
    EngineBase& operator=(EngineBase&&) = delete;
    ~EngineBase() override;

    [[nodiscard]] OpeningOutcome open_group(const GroupOpening& opening,
                                            std::span<Slot> slots) final;
    [[nodiscard]] OpeningOutcome join_group(std::span<const Slot> members,
                                            const MemberJoining& joining, Slot& joined) final;
    [[nodiscard]] int adopt(Slot slot, ListenerSocket& listener) final;
    [[nodiscard]] int descriptor_of(Slot slot) const final;
    void close(Slot slot) final;
    void wake();
    [[nodiscard]] const EngineCounters& counters() const;

protected:
    explicit EngineBase(std::unique_ptr<EngineState> state);

    std::unique_ptr<EngineState> state_;  // of the engine's own type
};

}  // namespace udpproxy
