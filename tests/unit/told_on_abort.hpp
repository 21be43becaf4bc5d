// ToldOnAbort: what a test was at, written to standard error if an assertion ends the process.
// doctest reports the signal, but not what was captured.
#pragma once

#include <unistd.h>

#include <csignal>
#include <string>

namespace udpproxy {

class ToldOnAbort {
public:
    ToldOnAbort() { before_ = std::signal(SIGABRT, tell); }
    ~ToldOnAbort() { std::signal(SIGABRT, before_); }
    ToldOnAbort(const ToldOnAbort&) = delete;
    ToldOnAbort& operator=(const ToldOnAbort&) = delete;

    void at(const std::string& what) { text_ = "while at: " + what + '\n'; }

private:
    static void tell(int signal) {
        (void)!::write(STDERR_FILENO, text_.data(), text_.size());
        std::signal(signal, before_);
        std::raise(signal);
    }

    static inline std::string text_;
    static inline void (*before_)(int) = SIG_DFL;
};

}  // namespace udpproxy
