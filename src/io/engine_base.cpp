// How both engines open, adopt, close and wake.
#include "udpproxy/io/engine_base.hpp"

#include <unistd.h>

#include <array>
#include <cerrno>

#include "engine_state.hpp"

namespace udpproxy {

namespace {

constexpr std::size_t members_per_call_max = 64;

}  // namespace

EngineState::EngineState(const EngineSetup& setup)
    : slots(setup.slots_max),
      payload_bytes_max(setup.payload_bytes_max),
      busy_poll(setup.busy_poll),
      batch_wait(setup.batch_wait),
      to_close(setup.slots_max),
      completions(setup.buffers_per_leg, setup.slots_max),
      sender(slots, counters, 2 * std::size_t{setup.buffers_per_leg}) {}

EngineState::~EngineState() {
    slots.for_each_descriptor([](int descriptor) { ::close(descriptor); });
    if (wake_descriptor >= 0) ::close(wake_descriptor);
}

int EngineState::place_members(std::span<const int> descriptors, Family family, bool offload,
                               std::span<Slot> placed, bool taken_over) {
    for (std::size_t i = 0; i < placed.size(); ++i)
        placed[i] = slots.assign(descriptors[i], family, offload);
    if (const int error = taken_over ? take_over_sockets(placed, descriptors)
                                     : register_sockets(placed, descriptors)) {
        for (const Slot slot : placed) {
            forget_socket(slot);
            slots.vacate(slot);
        }
        return error;
    }
    for (const Slot slot : placed) begin_receiving(slot);
    return 0;
}

int EngineState::adopt(Slot slot, ListenerSocket& listener) {
    if (!slots.may_be_listener(slot)) return EMFILE;
    const int descriptor = listener.socket.descriptor();
    if (const int error = register_sockets({&slot, 1}, {&descriptor, 1})) return error;
    slots.assign_listener(slot, listener.socket.release(), listener.family, listener.offload);
    begin_receiving(slot);
    return 0;
}

int EngineState::adopt_all(std::vector<ListenerSocket> listeners) {
    for (std::uint32_t index = 0; index < listeners.size(); ++index) {
        if (const int error = adopt(Slot{index}, listeners[index])) return error;
    }
    return 0;
}

EngineBase::EngineBase(std::unique_ptr<EngineState> state) : state_(std::move(state)) {}
EngineBase::EngineBase(EngineBase&&) noexcept = default;
EngineBase::~EngineBase() = default;

OpeningOutcome EngineBase::open_group(const GroupOpening& opening, std::span<Slot> slots) {
    UDPPROXY_ASSERT(slots.size() == opening.members() && slots.size() <= members_per_call_max);
    if (state_->slots.slots_free() < slots.size()) return {OpeningStep::socket, EMFILE};
    const auto place = [&](std::span<const int> descriptors) {
        return state_->place_members(descriptors, opening.local.family(), opening.offload, slots,
                                     !opening.descriptors.empty());
    };
    if (!opening.descriptors.empty()) {
        UDPPROXY_ASSERT(opening.descriptors.size() == slots.size());
        const int error = place(opening.descriptors);
        return error == 0 ? OpeningOutcome{} : OpeningOutcome{OpeningStep::socket, error};
    }
    std::array<int, members_per_call_max> opened{};
    const OpeningOutcome outcome = open_group_sockets(opening, opened);
    if (!outcome.opened()) return outcome;
    const std::span<const int> descriptors = std::span{opened}.first(slots.size());
    const int error = place(descriptors);
    if (error == 0) return outcome;
    for (const int descriptor : descriptors) ::close(descriptor);
    return {OpeningStep::socket, error};
}

OpeningOutcome EngineBase::join_group(std::span<const Slot> members, const MemberJoining& joining,
                                      Slot& joined) {
    UDPPROXY_ASSERT(members.size() <= members_per_call_max);
    if (state_->slots.slots_free() == 0) return {OpeningStep::socket, EMFILE};
    std::array<int, members_per_call_max> descriptors{};
    for (std::size_t i = 0; i < members.size(); ++i)
        descriptors[i] = state_->slots[members[i]].descriptor;
    int descriptor = -1;
    const OpeningOutcome outcome =
        join_group_socket(std::span{descriptors}.first(members.size()), joining, descriptor);
    if (!outcome.opened()) return outcome;
    const int error = state_->place_members({&descriptor, 1}, joining.local.family(),
                                            joining.offload, {&joined, 1});
    if (error == 0) return outcome;
    ::close(descriptor);
    return {OpeningStep::socket, error};
}

int EngineBase::adopt(Slot slot, ListenerSocket& listener) { return state_->adopt(slot, listener); }

int EngineBase::descriptor_of(Slot slot) const { return state_->slots[slot].descriptor; }

void EngineBase::close(Slot slot) {
    SlotEntry& entry = state_->slots[slot];
    UDPPROXY_ASSERT(entry.descriptor >= 0 && !entry.closing);
    entry.closing = true;
    state_->to_close.push(slot);
}

void EngineBase::wake() {
    const std::uint64_t one = 1;
    (void)!::write(state_->wake_descriptor, &one, sizeof one);
}

const EngineCounters& EngineBase::counters() const { return state_->counters; }

}  // namespace udpproxy
