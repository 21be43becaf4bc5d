// An upgrade, asked for by a control query; and what is told of it, of its refusal and of a
// worker's start: in the status, in the metrics and in the log.
#include "admin/metrics.hpp"
#include "contract/runtime_rig.hpp"
#include "udpproxy/runtime/control_query.hpp"

namespace udpproxy::contract {
namespace {

std::string text_of_rig() {
    return head_text() + proxy_text("one", unused_endpoint(loopback(Family::ipv4)),
                                    "upstream = \"127.0.0.9:53\"\n");
}

ControlOutcome ask_for_upgrade(Reconfigurer& reconfigurer) {
    ControlSlot slot;
    REQUIRE(slot.ask({ControlKind::upgrade, {}}));
    answer_control_query(slot, reconfigurer);
    REQUIRE(slot.answer() != nullptr);
    return slot.answer()->outcome;
}

bool has(const RuntimeRig& rig, const std::string& line) {
    const std::string text = metrics_text(*rig.board.get(), {}, rig.log);
    return text.find('\n' + line + '\n') != std::string::npos;
}

TEST_CASE("the keeper is asked for an upgrade, unless there is none or the program ends anyway") {
    RuntimeRig rig(text_of_rig());
    CHECK(ask_for_upgrade(rig.reconfigurer) == ControlOutcome::no_keeper);
    int asked = 0;
    bool has_room = true;
    rig.reconfigurer.ask_for_upgrade = [&] {
        ++asked;
        return has_room;
    };
    CHECK(ask_for_upgrade(rig.reconfigurer) == ControlOutcome::done);
    has_room = false;
    CHECK(ask_for_upgrade(rig.reconfigurer) == ControlOutcome::keeper_busy);
    CHECK(asked == 2);
    // A keeper that was told to drain would not answer.
    (void)rig.reconfigurer.drain(std::nullopt, monotonic_now());
    CHECK(ask_for_upgrade(rig.reconfigurer) == ControlOutcome::all_drain);
    CHECK(asked == 2);
}

TEST_CASE("a refused upgrade is told in the log, the status and the metrics") {
    RuntimeRig rig(text_of_rig());
    CHECK(has(rig, "udpproxy_upgrades_refused_total 0"));
    for (const char* reason : {"no file", "another form"})
        rig.reconfigurer.note_refused_upgrade(reason);
    CHECK(rig.board.get()->succession.upgrades_refused == 2);
    CHECK(rig.board.get()->succession.last_refusal == "another form");
    CHECK(has(rig, "udpproxy_upgrades_refused_total 2"));
    CHECK(rig.log_text().find(" level=error event=upgrade_refused reason=\"no file\"") !=
          std::string::npos);
}

TEST_CASE("every reason of a start is among the metrics, all zero without a keeper") {
    RuntimeRig rig(text_of_rig());
    for (const char* reason : {"first", "crash", "hang", "upgrade", "undone", "restart"})
        CHECK(has(rig, std::string{"udpproxy_worker_starts_total{reason=\""} + reason + "\"} 0"));
    for (const char* line : {"udpproxy_sessions_adopted 0", "udpproxy_last_pause_seconds 0",
                             "udpproxy_ledger_records_not_believed 0"})
        CHECK(has(rig, line));
    CHECK_FALSE(rig.board.get()->succession.pause);
}

TEST_CASE("a worker that follows a dead one tells of it, whether it has adopted sessions or not") {
    RuntimeRig rig(text_of_rig());
    WorkerStart start;
    start.is_kept = true;
    start.reason = StartReason::crash;
    start.starts = {1, 3, 0, 0, 0, 0};
    start.signal = 11;
    start.from_version = "0.0.9";
    start.ended_at = monotonic_now() - std::chrono::milliseconds{20};
    rig.reconfigurer.note_start(start, nullptr);
    const Succession told = rig.board.get()->succession;
    CHECK(told.from_version == "0.0.9");
    CHECK(told.last_end == "signal 11 (Segmentation fault)");
    REQUIRE(told.pause);
    CHECK(*told.pause >= std::chrono::milliseconds{20});
    CHECK(has(rig, "udpproxy_worker_starts_total{reason=\"crash\"} 3"));
    CHECK_FALSE(has(rig, "udpproxy_last_pause_seconds 0"));
}

}  // namespace
}  // namespace udpproxy::contract
