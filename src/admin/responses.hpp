// Responses that the HTTP library has and the clients have not read yet: how much memory they may
// take together, and what is answered when there is none. Called by the admin thread alone.
#pragma once

#include <microhttpd.h>

#include "routes.hpp"

namespace udpproxy {

class Responses {
public:
    Responses() = default;
    Responses(const Responses&) = delete;
    Responses& operator=(const Responses&) = delete;
    /// Requires: the library has been stopped, and with it every response has gone.
    ~Responses();

    /// Makes the answer that needs no memory later. False: there is none for it now.
    [[nodiscard]] bool prepare();
    /// Hands the response to the library, which keeps it until it is sent or its connection ends.
    /// One too many is replaced by 503 and the reason. Errors: bad_alloc.
    [[nodiscard]] MHD_Result queue(MHD_Connection* http, AdminResponse response);
    /// 503, with no allocation of ours.
    [[nodiscard]] MHD_Result queue_out_of_memory(MHD_Connection* http);

private:
    struct Unsent;

    MHD_Response* out_of_memory_ = nullptr;
    std::size_t large_bytes_ = 0;  // of large responses that are not sent yet
};

}  // namespace udpproxy
