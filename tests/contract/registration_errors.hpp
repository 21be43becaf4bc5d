// RegistrationErrors: an error for one of the calls by which an engine registers a socket in the
// kernel, epoll_ctl(2) and io_uring_register_files_update(3). The test program's own definitions of
// the calls come before the libraries'; unarmed they only pass on.
#pragma once

namespace udpproxy::contract {

/// While it lives, the calling thread's registrations fail with `error` once `passed` have passed.
/// What takes a socket out passes always.
class RegistrationErrors {
public:
    RegistrationErrors(int passed, int error);
    ~RegistrationErrors();
    RegistrationErrors(const RegistrationErrors&) = delete;
    RegistrationErrors& operator=(const RegistrationErrors&) = delete;

    int passed;
    const int error;
};

}  // namespace udpproxy::contract
