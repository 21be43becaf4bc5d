// MissedCancels: cancels of the io_uring engine that find nothing, as the kernel answers when the
// receive is running or completing at that moment. The test program's own definitions of the calls
// that submit come before liburing's; unarmed they only pass on.
#pragma once

namespace udpproxy::contract {

/// While it lives, the next `of_next` cancels that the calling thread submits look for a request
/// that does not exist.
class MissedCancels {
public:
    explicit MissedCancels(int of_next);
    ~MissedCancels();
    MissedCancels(const MissedCancels&) = delete;
    MissedCancels& operator=(const MissedCancels&) = delete;

    int left;  // cancels that will still miss
};

}  // namespace udpproxy::contract
