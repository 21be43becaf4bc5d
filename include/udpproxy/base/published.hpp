// Published<T>: the newest version of an immutable value, from the one thread that makes it to any
// that read it. A version is swapped as a whole; a reader keeps the one that it took for as long as
// it needs it.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

namespace udpproxy {

template <class T>
class Published {
public:
    /// The newest version; null before the first.
    [[nodiscard]] std::shared_ptr<const T> get() const {
        const std::lock_guard lock(mutex_);
        return newest_;
    }
    void set(std::shared_ptr<const T> next) noexcept {
        const std::lock_guard lock(mutex_);
        newest_.swap(next);
        // The parameter is destroyed by the caller: what it holds now is freed without the lock.
    }

private:
    mutable std::mutex mutex_;  // held for a copy of the pointer, never longer
    std::shared_ptr<const T> newest_;
};

}  // namespace udpproxy
