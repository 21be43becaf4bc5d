// A change of what is in force, and how it is undone: Preparation is what a reload has ready before
// it changes anything, Change the way back until all of it is done.
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
    Plan plan;
    Capacity capacity;
    std::map<std::string, std::uint16_t> slots;  // of every proxy of the new configuration
    std::map<std::uint16_t, ProxyStep> steps;    // by slot: what becomes different for it
    Sources sources;                             // as they will be
    std::map<std::uint16_t, BindingGrant> grants;
    std::vector<Listener> opened;
    struct Newcomer {  // a proxy that serves from now on
        std::string name;
        std::uint32_t sessions_max = 0;
        std::string arithmetic;
    };
    std::vector<Newcomer> newcomers;
    std::optional<Result<Log>> log;  // where the log goes from now on
    std::vector<std::string> lines;  // for a person
};

/// Puts the state, and the questions of names, back at its end, unless they were committed.
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

    void commit() noexcept {
        static_assert(std::is_nothrow_swappable_v<State>, "undoing never fails");
        is_committed_ = true;
        reconfigurer_.hand_over();
    }

private:
    Reconfigurer& reconfigurer_;
    State state_;  // as it was
    Names::Questions questions_;
    bool is_committed_ = false;
};

}  // namespace udpproxy
