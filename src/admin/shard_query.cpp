// Questions to shards, one after the other.
#include "shard_query.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <thread>

namespace udpproxy {

namespace {

constexpr Duration answer_limit = std::chrono::seconds{1};
constexpr std::chrono::microseconds look_again_first{20};
constexpr std::chrono::microseconds look_again_longest{1000};

Result<const Answer*> ask(ShardThread& shard, std::size_t number, const Question& question) {
    InspectionDesk& desk = shard.shard().inspections;
    const Instant deadline = monotonic_now() + answer_limit;
    bool asked = false;
    for (std::chrono::microseconds pause = look_again_first;;
         pause = std::min(2 * pause, look_again_longest)) {
        if (!asked) {
            asked = desk.ask(question);  // false: one that was given up on still lies there
            shard.wake();
        }
        if (asked) {
            if (const Answer* answer = desk.answer()) return answer;
        }
        if (shard.has_ended()) return Error{fmt::format("shard {} has ended", number)};
        if (monotonic_now() > deadline)
            return Error{fmt::format("shard {} did not answer within {} s", number,
                                     answer_limit / std::chrono::seconds{1})};
        std::this_thread::sleep_for(pause);
    }
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

/// Calls `use` for every session that fits, shard by shard, until it returns false.
template <class Use>
Result<void> for_each_session(const Status& status, Question question, Use&& use) {
    question.kind = QuestionKind::sessions;
    for (std::size_t number = 0; number < status.shards.size(); ++number) {
        for (question.from = 0; question.from != no_index;) {
            const Result<const Answer*> answer = ask(*status.shards[number], number, question);
            if (!answer) return answer.error();
            for (const SessionView& view : (*answer)->sessions) {
                // What came after the snapshot is for the next look.
                if (status.find_proxy(view.proxy) == nullptr ||
                    status.find_listener(view.listener) == nullptr)
                    continue;
                if (!use(number, view)) return {};
            }
            question.from = (*answer)->next;
        }
    }
    return {};
}

}  // namespace

Result<void> check_liveness(const Status& status) {
    for (std::size_t number = 0; number < status.shards.size(); ++number) {
        if (const auto answer = ask(*status.shards[number], number, Question{}); !answer)
            return answer.error();
    }
    return {};
}

Result<SessionList> list_sessions(const Status& status, const SessionQuery& query) {
    Question question;
    question.proxy = query.proxy;
    question.client = query.client;
    question.client_port = query.client_port;
    SessionList list;
    const auto first = [&](const SessionView& left, const SessionView& right) {
        return comes_first(left, right, query.order);
    };
    const Result<void> done =
        for_each_session(status, question, [&](std::size_t, const SessionView& view) {
            ++list.found;
            if (query.order == SessionQuery::Order::none) {
                if (list.sessions.size() < query.limit) list.sessions.push_back(view);
                return true;
            }
            // A heap whose front is the last of those kept: memory and time follow the limit, not
            // the number of sessions.
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

Result<std::optional<SessionView>> end_session(const Status& status, std::uint64_t id) {
    const std::size_t number = id % status.shards.size();
    std::optional<SessionView> found;
    const Result<void> done =
        for_each_session(status, Question{}, [&](std::size_t shard, const SessionView& view) {
            if (shard == number && view.id == id) found = view;
            return !found;
        });
    if (!done) return done.error();
    if (!found) return found;
    Question question;
    question.kind = QuestionKind::end_session;
    question.index = found->index;
    question.id = id;
    const Result<const Answer*> answer = ask(*status.shards[number], number, question);
    if (!answer) return answer.error();
    if (!(*answer)->ended) found.reset();  // it has ended by itself meanwhile
    return found;
}

Result<bool> trace_everywhere(const Status& status, const Question& question) {
    for (std::size_t number = 0; number < status.shards.size(); ++number) {
        const Result<const Answer*> answer = ask(*status.shards[number], number, question);
        if (!answer) return answer.error();
        // They begin and end together, so the first shard speaks for all.
        if (question.kind == QuestionKind::begin_trace && !(*answer)->trace_begun) return false;
    }
    return true;
}

Result<std::vector<UnlistedView>> list_unlisted(const Status& status) {
    std::map<std::pair<std::uint16_t, Endpoint>, UnlistedView> sources;
    Question question;
    question.kind = QuestionKind::unlisted;
    for (std::size_t number = 0; number < status.shards.size(); ++number) {
        const Result<const Answer*> answer = ask(*status.shards[number], number, question);
        if (!answer) return answer.error();
        for (const UnlistedView& view : (*answer)->unlisted) {
            if (status.find_proxy(view.proxy) == nullptr) continue;
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
