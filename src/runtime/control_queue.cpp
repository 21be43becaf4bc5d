// One request at a time, handed over under a mutex.
#include "udpproxy/runtime/control_queue.hpp"

#include "udpproxy/base/assert.hpp"

namespace udpproxy {

bool ControlQueue::ask(const Work& work, Duration patience) {
    std::unique_lock lock(mutex_);
    UDPPROXY_ASSERT(state_ == State::none);
    if (closed_) return false;
    work_ = &work;
    state_ = State::waiting;
    changed_.wait_for(lock, patience, [this] { return state_ != State::waiting || closed_; });
    changed_.wait(lock, [this] { return state_ != State::begun; });
    const bool done = state_ == State::done;
    state_ = State::none;
    return done;
}

void ControlQueue::serve(Reconfigurer& reconfigurer) {
    std::unique_lock lock(mutex_);
    if (state_ != State::waiting || closed_) return;
    state_ = State::begun;
    lock.unlock();
    (*work_)(reconfigurer);  // who asked waits: it stays valid
    lock.lock();
    state_ = State::done;
    changed_.notify_all();
}

void ControlQueue::close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
}

}  // namespace udpproxy
