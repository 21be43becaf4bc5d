// What the admin thread asks of the control thread, which alone changes what runs: reload, drain,
// resume. The control thread looks between signals, a few times a second, and waits for nobody.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "udpproxy/base/query_slot.hpp"

namespace udpproxy {

class Reconfigurer;

enum class ControlKind : std::uint8_t { reload, drain, resume };

struct ControlQuestion {
    ControlKind kind = ControlKind::reload;
    std::string proxy;  // empty: all; not with resume
};

enum class ControlOutcome : std::uint8_t {
    done,
    reload_refused,
    no_such_proxy,
    all_drain,        // resume: the end has begun, and cannot be taken back
    short_of_memory,  // nothing was changed
};

struct ControlAnswer {
    ControlOutcome outcome = ControlOutcome::done;
    std::vector<std::string> lines;  // reload: what was changed, or why nothing was
    std::uint64_t reloads = 0;       // since the start
    std::uint64_t sessions = 0;      // drain, resume: that are there
    Duration ends_within{};          // drain of all: at the latest
};

using ControlSlot = QuerySlot<ControlQuestion, ControlAnswer>;

/// In the control thread: answers what waits, if anything does.
void answer_control_query(ControlSlot& slot, Reconfigurer& reconfigurer);

}  // namespace udpproxy
