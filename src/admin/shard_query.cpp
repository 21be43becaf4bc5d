// Asks the shards one after the other, and merges what they answer.
#include "shard_query.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace udpproxy {

namespace {

constexpr Duration shard_answer_limit = std::chrono::seconds{1};

Result<const Answer*> ask(const AdminContext& context, std::size_t number,
                          const Question& question) {
    ShardThread& shard = *context.status.shards[number];
    InspectionSlot& slot = shard.shard().inspections;
    const auto gives_up = [&] {
        return context.stopping.load(std::memory_order_relaxed) || shard.has_ended();
    };
    if (slot.query(
            question, shard_answer_limit, [&] { shard.wake(); }, gives_up) ==
        QueryOutcome::answered)
        return slot.answer();
    if (context.stopping.load(std::memory_order_relaxed)) return Error{"the program is stopping"};
    if (shard.has_ended()) return Error{fmt::format("shard {} has ended", number)};
    return Error{fmt::format("shard {} did not answer within {} s", number,
                             shard_answer_limit / std::chrono::seconds{1})};
}

bool comes_first(const SessionView& left, const SessionView& right, SessionQuery::Order order) {
    switch (order) {
        case SessionQuery::Order::none:
            return left.id < right.id;
        case SessionQuery::Order::bytes:
            return left.requests.bytes + left.replies.bytes >
                   right.requests.bytes + right.replies.bytes;
        case SessionQuery::Order::age:
            return left.age > right.age;
        case SessionQuery::Order::idle:
            return left.idle > right.idle;
    }
    return false;
}

/// Calls `use` for every matching session, shard by shard, until it returns false.
template <class Use>
Result<void> for_each_session(const AdminContext& context, Question question, Use&& use) {
    question.kind = QuestionKind::sessions;
    for (std::size_t number = 0; number < context.status.shards.size(); ++number) {
        for (question.from = 0; question.from != no_index;) {
            const Result<const Answer*> answer = ask(context, number, question);
            if (!answer) return answer.error();
            for (const SessionView& view : (*answer)->sessions) {
                // Proxies and listeners newer than the snapshot are left to the next query.
                if (context.status.find_proxy(view.proxy) == nullptr ||
                    context.status.find_listener(view.listener) == nullptr)
                    continue;
                if (!use(number, view)) return {};
            }
            question.from = (*answer)->next;
        }
    }
    return {};
}

}  // namespace

Result<void> check_liveness(const AdminContext& context) {
    for (std::size_t number = 0; number < context.status.shards.size(); ++number) {
        if (const auto answer = ask(context, number, Question{}); !answer) return answer.error();
    }
    return {};
}

Result<SessionList> list_sessions(const AdminContext& context, const SessionQuery& query) {
    Question question;
    question.proxy = query.proxy;
    question.client = query.client;
    question.client_port = query.client_port;
    SessionList list;
    const auto first = [&](const SessionView& left, const SessionView& right) {
        return comes_first(left, right, query.order);
    };
    const Result<void> done =
        for_each_session(context, question, [&](std::size_t, const SessionView& view) {
            ++list.found;
            if (query.order == SessionQuery::Order::none) {
                if (list.sessions.size() < query.limit) list.sessions.push_back(view);
                return true;
            }
            // A heap with the last of the kept sessions in front: memory and time follow the limit,
            // not the number of sessions.
            list.sessions.push_back(view);
            std::push_heap(list.sessions.begin(), list.sessions.end(), first);
            if (list.sessions.size() > query.limit) {
                std::pop_heap(list.sessions.begin(), list.sessions.end(), first);
                list.sessions.pop_back();
            }
            return true;
        });
    if (!done) return done.error();
    std::sort(list.sessions.begin(), list.sessions.end(), first);
    return list;
}

Result<std::optional<SessionView>> end_session(const AdminContext& context, std::uint64_t id) {
    const std::size_t number = id % context.status.shards.size();
    std::optional<SessionView> found;
    const Result<void> done =
        for_each_session(context, Question{}, [&](std::size_t shard, const SessionView& view) {
            if (shard == number && view.id == id) found = view;
            return !found;
        });
    if (!done) return done.error();
    if (!found) return found;
    Question question;
    question.kind = QuestionKind::end_session;
    question.index = found->index;
    question.id = id;
    const Result<const Answer*> answer = ask(context, number, question);
    if (!answer) return answer.error();
    if (!(*answer)->ended) found.reset();  // the session has ended by itself meanwhile
    return found;
}

Result<bool> trace_everywhere(const AdminContext& context, const Question& question) {
    for (std::size_t number = 0; number < context.status.shards.size(); ++number) {
        const Result<const Answer*> answer = ask(context, number, question);
        if (!answer) return answer.error();
        // A trace begins and ends in all shards together, so the first shard speaks for all.
        if (question.kind == QuestionKind::begin_trace && !(*answer)->trace_begun) return false;
    }
    return true;
}

Result<std::vector<UnlistedView>> list_unlisted(const AdminContext& context) {
    std::map<std::pair<std::uint16_t, Endpoint>, UnlistedView> sources;
    Question question;
    question.kind = QuestionKind::unlisted;
    for (std::size_t number = 0; number < context.status.shards.size(); ++number) {
        const Result<const Answer*> answer = ask(context, number, question);
        if (!answer) return answer.error();
        for (const UnlistedView& view : (*answer)->unlisted) {
            if (context.status.find_proxy(view.proxy) == nullptr) continue;
            const auto [place, is_new] = sources.try_emplace({view.proxy, view.source}, view);
            if (is_new) continue;
            place->second.datagrams += view.datagrams;
            place->second.seen_ago = std::min(place->second.seen_ago, view.seen_ago);
        }
    }
    std::vector<UnlistedView> list;
    for (const auto& [key, view] : sources) list.push_back(view);
    std::stable_sort(list.begin(), list.end(),
                     [](const UnlistedView& left, const UnlistedView& right) {
                         return left.datagrams > right.datagrams;
                     });
    return list;
}

}  // namespace udpproxy
