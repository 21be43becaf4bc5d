// SendErrors: errors for send(2), sendmsg(2) and sendmmsg(2) of this process that the real kernel
// cannot be brought to give on loopback. The test program's own definitions of the calls come
// before the C library's; unarmed they only pass on. What io_uring sends inside the kernel they do
// not see.
#pragma once

#include <cstddef>
#include <vector>

namespace udpproxy::contract {

/// While it lives, sends of the calling thread fail as told.
class SendErrors {
public:
    SendErrors();
    ~SendErrors();
    SendErrors(const SendErrors&) = delete;
    SendErrors& operator=(const SendErrors&) = delete;

    int of_trains = 0;            // errno for every message with a UDP_SEGMENT; 0: none
    std::vector<int> of_singles;  // errno for each further message without one, in order; 0: it is
                                  // sent; past the end: sent

    std::size_t trains_refused = 0;
    std::size_t singles_seen = 0;
};

}  // namespace udpproxy::contract
