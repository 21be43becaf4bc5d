// The two calls, in front of the libraries'.
#include "contract/registration_errors.hpp"

#include <dlfcn.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace udpproxy::contract {

namespace {

thread_local RegistrationErrors* armed = nullptr;

/// The error that this registration shall meet, 0 for none.
int next_error() {
    if (armed == nullptr || armed->passed-- > 0) return 0;
    return armed->error;
}

}  // namespace

RegistrationErrors::RegistrationErrors(int passed_before, int of_next)
    : passed(passed_before), error(of_next) {
    armed = this;
}
RegistrationErrors::~RegistrationErrors() { armed = nullptr; }

}  // namespace udpproxy::contract

extern "C" int epoll_ctl(int set, int operation, int descriptor, epoll_event* event) noexcept {
    const int error = operation == EPOLL_CTL_ADD ? udpproxy::contract::next_error() : 0;
    if (error != 0) {
        errno = error;
        return -1;
    }
    return static_cast<int>(::syscall(SYS_epoll_ctl, set, operation, descriptor, event));
}

struct io_uring;

extern "C" int io_uring_register_files_update(io_uring* ring, unsigned offset,
                                              const int* descriptors, unsigned count) {
    // As the kernel does: those before the first that is refused count.
    for (unsigned i = 0; i < count && *descriptors >= 0; ++i) {
        const int error = udpproxy::contract::next_error();
        if (error != 0 && i == 0) return -error;
        if (error != 0) count = i;
    }
    using Update = int (*)(io_uring*, unsigned, const int*, unsigned);
    static const auto update =
        reinterpret_cast<Update>(::dlsym(RTLD_NEXT, "io_uring_register_files_update"));
    return update(ring, offset, descriptors, count);
}
