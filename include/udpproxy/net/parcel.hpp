// Parcel: open descriptors that wait in the queue of one socket, for a process that gets the socket
// (SCM_RIGHTS of unix(7)). What they are bound to stays bound, and what arrives stays in their
// queues, while nobody has them open. A service manager keeps the socket over a restart.
//
// A parcel has a file that says what the others are, and the others with the number that each had
// where it was packed. Its form, 1:
//
//   the socket        one message: `udpproxy`, form (4), number of the others (4); descriptors: the
//                     file, then a socket for each queue, 252 at most
//   each queue        messages: numbers (4 bytes each); descriptors: as many, 253 at most
//
// All sockets are of AF_UNIX and SOCK_DGRAM, and their other ends are closed: of this type one
// whose other end is closed is no end of file, which a manager would take for a reason to close it.
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "udpproxy/base/descriptor.hpp"
#include "udpproxy/base/result.hpp"

namespace udpproxy {

/// Errors: socketpair and sendmsg; ETOOMANYREFS: too many are on their way (RLIMIT_NOFILE for each
/// user, without CAP_SYS_RESOURCE).
[[nodiscard]] Result<Descriptor> pack(int file, std::span<const int> others);

/// What a parcel holds, opened here a second time.
struct Unpacked {
    Descriptor file;
    /// The number that each had, and the one that it has here: without FD_CLOEXEC, and nobody's. In
    /// ascending order of the former, which may stand there twice.
    std::vector<std::pair<int, int>> others;
    std::size_t missing = 0;  // that were packed, and are not here

    /// -1: there is none.
    [[nodiscard]] int number_of(int had) const noexcept;
};

/// Opens what is in a parcel, which stays as it is. As many descriptors as `spared` are left free
/// below RLIMIT_NOFILE. Errors: why it is no parcel of a form that this program knows, as a
/// sentence.
[[nodiscard]] Result<Unpacked> unpack(int parcel, unsigned spared);

/// Whether the descriptor is a socket, as a parcel is and no file is.
[[nodiscard]] bool may_be_parcel(int descriptor) noexcept;

/// Closes all that is in a parcel, whoever else has the parcel open.
void discard(int parcel) noexcept;

}  // namespace udpproxy
