// Which sessions and sources an answer to the admin thread holds; one answer a turn.
#include "udpproxy/shard/inspection.hpp"

#include "steps.hpp"

namespace udpproxy {

namespace {

bool fits(const Question& question, const Session& session) {
    if (question.proxy && *question.proxy != session.proxy) return false;
    if (question.client_port != 0 && question.client_port != session.key.port) return false;
    return !question.client || question.client->contains(session.key.client);
}

SessionView view_of(Shard& shard, std::uint32_t index, Instant now) {
    const Session& session = shard.table[index];
    SessionView view;
    view.id = session.id;
    view.index = index;
    view.proxy = session.proxy;
    view.listener = session.key.listener;
    view.client = session.key.client_endpoint();
    view.local = session.key.local;
    view.local_endpoint = shard.groups[session.group].local;
    view.requests = session.requests;
    view.replies = session.replies;
    view.age = now - session.admitted_at;
    view.idle = now - session.last_active_at;
    view.replied = session.replied;
    view.assured = session.assured;
    return view;
}

void list_sessions(Shard& shard, const Question& question, Answer& answer, Instant now) {
    answer.sessions.clear();
    const std::uint32_t end = shard.table.high_water();
    std::uint32_t index = question.from;
    for (std::uint32_t scan_budget = 0; index < end && scan_budget < scanned_per_answer;
         ++index, ++scan_budget) {
        if (shard.table.is_live(index) && fits(question, shard.table[index]))
            answer.sessions.push(view_of(shard, index, now));
    }
    answer.next = index < end ? index : no_index;
}

void list_unlisted(const Shard& shard, Answer& answer, Instant now) {
    answer.unlisted.clear();
    for (const UnlistedSources::Entry& entry : shard.unlisted.entries()) {
        if (entry.used)
            answer.unlisted.push(
                UnlistedView{entry.proxy, entry.source, entry.datagrams, now - entry.seen_at});
    }
}

}  // namespace

void answer_inspection(Shard& shard, Sockets& sockets, Instant now) {
    const Question* question = shard.inspections.take();
    if (question == nullptr) return;
    Answer& answer = shard.inspections.draft();
    switch (question->kind) {
        case QuestionKind::liveness:
            break;
        case QuestionKind::sessions:
            list_sessions(shard, *question, answer, now);
            break;
        case QuestionKind::end_session:
            answer.ended = shard.table.is_live(question->index) &&
                           shard.table[question->index].id == question->id;
            if (answer.ended) give_up_pending_of(shard, shard.table[question->index].primary);
            if (answer.ended) end_session(shard, sockets, question->index, SessionEnd::killed, now);
            break;
        case QuestionKind::unlisted:
            list_unlisted(shard, answer, now);
            break;
        case QuestionKind::begin_trace:
            answer.trace_begun = !shard.trace.is_on(now);
            if (answer.trace_begun)
                shard.trace.begin(question->client->address, question->client_port,
                                  question->until);
            break;
        case QuestionKind::end_trace:
            shard.trace.end();
            break;
    }
    shard.inspections.hand_over();
}

}  // namespace udpproxy
