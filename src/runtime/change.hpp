// Preparation holds everything that a reload makes ready before it changes anything. Change undoes
// the reload unless it is committed.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "udpproxy/runtime/reconfigurer.hpp"

namespace udpproxy {

struct Reconfigurer::Preparation {
    struct Listener {
        std::uint16_t slot = 0;
        Endpoint endpoint;
        ListenerSockets sockets;
        std::string proxy;
    };
    bool is_reload = true;  // false: the same configuration, with interfaces that have changed
    Plan plan;
    Capacity capacity;
    std::map<std::string, std::uint16_t> slots;  // of every proxy of the new configuration
    std::map<std::uint16_t, ProxyStep> steps;    // by slot: the difference for this proxy
    Sources sources;                             // after the reload
    std::map<std::uint16_t, BindingGrant> grants;
    std::vector<Listener> opened;
    struct Added {  // a proxy that begins to serve
        std::string name;
        std::uint32_t sessions_max = 0;
        std::string arithmetic;
    };
    std::vector<Added> added;
    LogTarget log_target;            // of `log`
    std::optional<Result<Log>> log;  // the log to write to after the reload
    std::vector<std::string> lines;  // messages for the operator
};

/// On destruction restores the state and the questions to the resolver, unless commit() was called.
class Reconfigurer::Change {
public:
    explicit Change(Reconfigurer& reconfigurer)
        : reconfigurer_(reconfigurer),
          state_(reconfigurer.state_),
          questions_(reconfigurer.names_.questions()) {}
    ~Change() {
        if (is_committed_) return;
        std::swap(reconfigurer_.state_, state_);
        reconfigurer_.names_.restore(std::move(questions_));
    }
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;

    /// Nothing is refused after the record was written, which may want memory.
    void commit() {
        static_assert(std::is_nothrow_swappable_v<State>, "undoing never fails");
        reconfigurer_.record();
        is_committed_ = true;
        reconfigurer_.hand_over();
    }

private:
    Reconfigurer& reconfigurer_;
    State state_;  // the state before the change
    Names::Questions questions_;
    bool is_committed_ = false;
};

}  // namespace udpproxy
