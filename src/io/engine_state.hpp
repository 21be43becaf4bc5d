// What both engines hold. An engine's own state derives from EngineState and has three hooks,
// through which the kernel learns of a socket. The hooks are virtual: sockets open and close on the
// cold path.
#pragma once

#include <span>
#include <vector>

#include "sender.hpp"
#include "slot_table.hpp"
#include "udpproxy/io/engine_base.hpp"

namespace udpproxy {

struct EngineState {
    explicit EngineState(const EngineSetup& setup);
    /// Closes every socket. By then the derived state has taken down what the engine has in the
    /// kernel.
    virtual ~EngineState();
    EngineState(const EngineState&) = delete;
    EngineState& operator=(const EngineState&) = delete;

    /// Registers with the kernel each socket as that of its slot; returns errno, of the first that
    /// was refused, or 0.
    [[nodiscard]] virtual int register_sockets(std::span<const Slot> at,
                                               std::span<const int> descriptors) = 0;
    /// The same for sockets of an earlier process, of which there may be thousands at once: an
    /// engine may do it in its next waits.
    [[nodiscard]] virtual int take_over_sockets(std::span<const Slot> at,
                                                std::span<const int> descriptors) {
        return register_sockets(at, descriptors);
    }
    /// Undoes register_sockets(), for a socket that it never came to as well, while the descriptor
    /// is still open.
    virtual void forget_socket(Slot slot) = 0;
    /// Called once the slot has its entry in the table: the slot receives from now on.
    virtual void begin_receiving(Slot slot) = 0;

    /// Gives each new member a slot, all or none; returns errno (the kernel has no memory or no
    /// watch for another member) or 0. Requires: as many slots are free.
    [[nodiscard]] int place_members(std::span<const int> descriptors, Family family, bool offload,
                                    std::span<Slot> placed, bool taken_over = false);
    [[nodiscard]] int adopt(Slot slot, ListenerSocket& listener);
    /// Adopts each listener in the slot of its index; returns errno or 0.
    [[nodiscard]] int adopt_all(std::vector<ListenerSocket> listeners);

    int wake_descriptor = -1;
    EngineCounters counters;
    SlotTable slots;
    std::uint32_t payload_bytes_max;
    Duration busy_poll;
    Duration batch_wait;
    Batch<Slot> to_close;  // close() was called
    Completions completions;
    Sender sender;
};

}  // namespace udpproxy
