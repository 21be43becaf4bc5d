// Maps each query to a call of the reconfigurer. A query that fails for want of memory is answered
// with that failure; it never ends the control thread.
#include "udpproxy/runtime/control_query.hpp"

#include <new>

#include "udpproxy/runtime/reconfigurer.hpp"

namespace udpproxy {

namespace {

void reload(ControlAnswer& answer, Reconfigurer& reconfigurer) {
    Reconfigurer::Reload report = reconfigurer.reload(monotonic_now());
    if (!report.done) answer.outcome = ControlOutcome::reload_refused;
    answer.lines = std::move(report.lines);
    answer.keys = std::move(report.keys);
    answer.reloads = reconfigurer.reloads();
}

void drain(ControlAnswer& answer, const std::string& proxy, Reconfigurer& reconfigurer) {
    const Instant now = monotonic_now();
    if (!reconfigurer.drain(proxy.empty() ? std::nullopt : std::optional{proxy}, now)) {
        answer.outcome = ControlOutcome::no_such_proxy;
        return;
    }
    answer.sessions = reconfigurer.sessions(proxy);
    if (proxy.empty()) answer.ends_within = *reconfigurer.drain_deadline() - now;
}

void resume(ControlAnswer& answer, const std::string& proxy, Reconfigurer& reconfigurer) {
    if (!reconfigurer.is_ready())
        answer.outcome = ControlOutcome::all_drain;
    else if (!reconfigurer.resume(proxy))
        answer.outcome = ControlOutcome::no_such_proxy;
    else
        answer.sessions = reconfigurer.sessions(proxy);
}

/// What comes of it is told by a worker's start, or by note_refused_upgrade().
void upgrade(ControlAnswer& answer, const Reconfigurer& reconfigurer) {
    if (!reconfigurer.ask_for_upgrade)
        answer.outcome = ControlOutcome::no_keeper;
    else if (!reconfigurer.is_ready())
        answer.outcome = ControlOutcome::all_drain;
    else if (!reconfigurer.ask_for_upgrade())
        answer.outcome = ControlOutcome::keeper_busy;
}

}  // namespace

void answer_control_query(ControlSlot& slot, Reconfigurer& reconfigurer) {
    const ControlQuestion* question = slot.take();
    if (question == nullptr) return;
    ControlAnswer& answer = slot.draft();
    answer = ControlAnswer{};
    try {
        switch (question->kind) {
            case ControlKind::reload:
                reload(answer, reconfigurer);
                break;
            case ControlKind::drain:
                drain(answer, question->proxy, reconfigurer);
                break;
            case ControlKind::resume:
                resume(answer, question->proxy, reconfigurer);
                break;
            case ControlKind::upgrade:
                upgrade(answer, reconfigurer);
                break;
        }
    } catch (const std::bad_alloc&) {
        answer.outcome = ControlOutcome::short_of_memory;
    }
    slot.hand_over();
}

}  // namespace udpproxy
