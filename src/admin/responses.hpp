// Responses held by the HTTP library until clients have read them: bounds their memory, and chooses
// the answer when the bound is reached. Called by the admin thread alone.
#pragma once

#include <microhttpd.h>

#include <memory>

#include "routes.hpp"

namespace udpproxy {

struct DestroyResponse {
    void operator()(MHD_Response* response) const { MHD_destroy_response(response); }
};
/// A reference to a response of the library; a connection that sends it has one of its own.
using ResponseReference = std::unique_ptr<MHD_Response, DestroyResponse>;

/// Requires: the library has been stopped before this is destroyed, which releases every response.
class Responses {
public:
    Responses() = default;
    Responses(const Responses&) = delete;
    Responses& operator=(const Responses&) = delete;

    /// Prepares the answer for lack of memory, which needs no allocation later. False: no memory
    /// even for this.
    [[nodiscard]] bool prepare();
    /// The response as the library sends it, with all of its headers: a page without its
    /// Content-Security-Policy is never sent. Errors: bad_alloc.
    [[nodiscard]] ResponseReference make(AdminResponse response);
    /// Hands the response to the library, which keeps it until it is sent or its connection ends. A
    /// response beyond the bound is replaced by 503 and the reason. Errors: bad_alloc.
    [[nodiscard]] MHD_Result queue(MHD_Connection* http, AdminResponse response);
    /// 503, with no allocation by this program.
    [[nodiscard]] MHD_Result queue_out_of_memory(MHD_Connection* http);

private:
    struct Unsent;

    ResponseReference out_of_memory_;
    std::size_t large_bytes_ = 0;  // of large responses not sent yet
};

}  // namespace udpproxy
