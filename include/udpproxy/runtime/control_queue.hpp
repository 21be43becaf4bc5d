// Requests: what the admin thread asks of the control thread, which alone changes what runs
// (reload, drain, resume) and alone knows what is in force. The admin thread waits for the answer;
// the control thread serves what waits between signals, a few times a second.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>

#include "udpproxy/base/time.hpp"

namespace udpproxy {

class Reconfigurer;

class ControlQueue {
public:
    using Work = std::function<void(Reconfigurer&)>;

    /// Waits until the control thread has done `work`. False: it did not come to it within
    /// `patience`, or serves no more; `work` was not done and never will be. Work that has begun is
    /// waited for, however long it takes.
    // Requires: no mutex is held that `work` or the control thread takes.
    [[nodiscard]] bool ask(const Work& work, Duration patience);

    /// In the control thread.
    void serve(Reconfigurer& reconfigurer);
    /// Nothing is served from now on; who waits is told.
    void close();

private:
    enum class State : unsigned char { none, waiting, begun, done };

    std::mutex mutex_;
    std::condition_variable changed_;
    const Work* work_ = nullptr;  // one at a time: there is one admin thread
    State state_ = State::none;
    bool closed_ = false;
};

}  // namespace udpproxy
