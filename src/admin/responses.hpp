// Responses held by the HTTP library until clients have read them: bounds their memory, and chooses
// the answer when the bound is reached. Called by the admin thread alone.
#pragma once

#include <microhttpd.h>

#include "routes.hpp"

namespace udpproxy {

class Responses {
public:
    Responses() = default;
    Responses(const Responses&) = delete;
    Responses& operator=(const Responses&) = delete;
    /// Requires: the library has been stopped, which has released every response.
    ~Responses();

    /// Prepares the answer for lack of memory, which needs no allocation later. False: no memory
    /// even for this.
    [[nodiscard]] bool prepare();
    /// Hands the response to the library, which keeps it until it is sent or its connection ends. A
    /// response beyond the bound is replaced by 503 and the reason. Errors: bad_alloc.
    [[nodiscard]] MHD_Result queue(MHD_Connection* http, AdminResponse response);
    /// 503, with no allocation by this program.
    [[nodiscard]] MHD_Result queue_out_of_memory(MHD_Connection* http);

private:
    struct Unsent;

    MHD_Response* out_of_memory_ = nullptr;
    std::size_t large_bytes_ = 0;  // of large responses not sent yet
};

}  // namespace udpproxy
