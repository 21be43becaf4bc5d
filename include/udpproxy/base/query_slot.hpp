// QuerySlot<Question, Answer>: one question from one thread to another, and its answer, without
// locks. The answering thread looks when it suits it and never waits; the asking thread polls up to
// a limit of its own. Both live in the slot, so that neither side allocates for the other.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "udpproxy/base/assert.hpp"
#include "udpproxy/base/time.hpp"

namespace udpproxy {

enum class QueryOutcome : std::uint8_t {
    answered,
    withdrawn,  // it was not looked at in time, and never will be
    abandoned,  // it is being answered, but was not in time; the slot is free again after that
};

template <class Question, class Answer>
class QuerySlot {
public:
    // The asking thread.

    /// False: the last question is not answered yet.
    [[nodiscard]] bool ask(const Question& question) {
        const State state = state_.load(std::memory_order_acquire);
        if (state == State::asked || state == State::taken) return false;
        question_ = question;
        state_.store(State::asked, std::memory_order_release);
        return true;
    }
    /// The answer to the last question, valid until the next one; null while there is none.
    [[nodiscard]] const Answer* answer() const {
        return state_.load(std::memory_order_acquire) == State::answered ? &answer_ : nullptr;
    }
    /// Takes the question back. False: too late, it is being answered or has been.
    [[nodiscard]] bool withdraw() {
        State expected = State::asked;
        return state_.compare_exchange_strong(expected, State::idle, std::memory_order_relaxed);
    }
    /// Asks, and waits for the answer: at most for `limit`, and no longer than until `gives_up()`.
    /// `nudge()` is called after the question lies there, and for as long as an earlier one does.
    template <class Nudge, class GivesUp>
    [[nodiscard]] QueryOutcome query(const Question& question, Duration limit, Nudge&& nudge,
                                     GivesUp&& gives_up) {
        const Instant deadline = monotonic_now() + limit;
        bool asked = false;
        for (Duration pause = pause_first;; pause = std::min(2 * pause, pause_longest)) {
            if (!asked) {
                asked = ask(question);
                nudge();
            }
            if (asked && answer() != nullptr) return QueryOutcome::answered;
            if (gives_up() || monotonic_now() >= deadline) {
                if (!asked || withdraw()) return QueryOutcome::withdrawn;
                return answer() != nullptr ? QueryOutcome::answered : QueryOutcome::abandoned;
            }
            sleep_for(pause);
        }
    }

    // The answering thread.

    /// The question that waits, which is this thread's from now on; null when there is none.
    [[nodiscard]] const Question* take() {
        State expected = State::asked;
        if (state_.load(std::memory_order_relaxed) != expected) return nullptr;
        return state_.compare_exchange_strong(expected, State::taken, std::memory_order_acquire)
                   ? &question_
                   : nullptr;
    }
    /// Where the answer is written before it is handed over; it holds the last one until then.
    // Requires of both: a question was taken.
    [[nodiscard]] Answer& draft() { return answer_; }
    void hand_over() {
        UDPPROXY_ASSERT(state_.load(std::memory_order_relaxed) == State::taken);
        state_.store(State::answered, std::memory_order_release);
    }

private:
    enum class State : std::uint8_t { idle, asked, taken, answered };

    static constexpr Duration pause_first = std::chrono::microseconds{20};
    static constexpr Duration pause_longest = std::chrono::milliseconds{1};

    Question question_;
    Answer answer_;
    alignas(64) std::atomic<State> state_{State::idle};
};

}  // namespace udpproxy
