// Control query: reload, drain, resume or upgrade, asked by the admin thread of the control thread,
// which alone changes the running program. The control thread looks for queries between signals, a
// few times a second, and never waits for one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "udpproxy/base/query_slot.hpp"
#include "udpproxy/runtime/plan.hpp"

namespace udpproxy {

class Reconfigurer;

enum class ControlKind : std::uint8_t { reload, drain, resume, upgrade };

struct ControlQuestion {
    ControlKind kind = ControlKind::reload;
    std::string proxy;  // of a drain or a resume; empty: all; not with resume
};

enum class ControlOutcome : std::uint8_t {
    done,
    reload_refused,
    no_such_proxy,
    all_drain,        // resume, upgrade: the drain of all has begun and cannot be taken back
    no_keeper,        // upgrade
    keeper_busy,      // upgrade: it takes no message at the moment
    short_of_memory,  // nothing was changed
};

struct ControlAnswer {
    ControlOutcome outcome = ControlOutcome::done;
    std::vector<std::string> lines;  // reload: what was changed, or why nothing was changed
    std::vector<KeyChange> keys;     // reload: the keys among the changes, with their values
    std::uint64_t reloads = 0;       // since the start
    std::uint64_t sessions = 0;      // drain, resume: sessions at present
    Duration ends_within{};          // drain of all: at the latest
};

using ControlSlot = QuerySlot<ControlQuestion, ControlAnswer>;

/// For the control thread: answers the waiting query, if there is one.
void answer_control_query(ControlSlot& slot, Reconfigurer& reconfigurer);

}  // namespace udpproxy
