// Bounds the memory of unsent responses. A small response is always given, so that a client that
// does not read its listings cannot block status and metrics.
#include "responses.hpp"

#include <new>

namespace udpproxy {

namespace {

// All connections together hold at most 8 MiB of responses up to this size.
constexpr std::size_t small_response_bytes = 256 << 10;
// Bound on all larger unsent responses together; a single one may be larger.
constexpr std::size_t large_bytes_max = 16 << 20;

bool is_large(const std::string& text) { return text.size() > small_response_bytes; }

/// False: no memory for one of them.
bool add_headers(MHD_Response* response, const AdminResponse& as) {
    const auto add = [&](const char* name, const char* value) {
        return MHD_add_response_header(response, name, value) == MHD_YES;
    };
    return add(MHD_HTTP_HEADER_CONTENT_TYPE, as.type.c_str()) &&
           add(MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") &&
           add("Content-Security-Policy", as.policy.c_str()) &&
           add("X-Content-Type-Options", "nosniff") && add("X-Frame-Options", "DENY") &&
           add("Referrer-Policy", "no-referrer");
}

}  // namespace

/// Keeps a response's text for as long as the library needs it. It is one block, which the C
/// library returns to the system at once; a tree of small nodes would stay in the heap.
struct Responses::Unsent {
    Unsent(Responses& its_owner, std::string body) : owner(its_owner), text(std::move(body)) {
        if (is_large(text)) owner.large_bytes_ += text.size();
    }
    ~Unsent() {
        if (is_large(text)) owner.large_bytes_ -= text.size();
    }
    static void free(void* unsent) {
        const std::unique_ptr<Unsent> gone{static_cast<Unsent*>(unsent)};
    }

    Responses& owner;
    std::string text;
};

bool Responses::prepare() {
    static constexpr std::string_view text = "{\"error\":\"out of memory\"}\n";
    out_of_memory_.reset(MHD_create_response_from_buffer(
        text.size(), const_cast<char*>(text.data()), MHD_RESPMEM_PERSISTENT));
    return out_of_memory_ != nullptr && add_headers(out_of_memory_.get(), AdminResponse{});
}

ResponseReference Responses::make(AdminResponse response) {
    auto unsent = std::make_unique<Unsent>(*this, std::move(response.body));
    ResponseReference made{MHD_create_response_from_buffer_with_free_callback_cls(
        unsent->text.size(), unsent->text.data(), &Unsent::free, unsent.get())};
    if (made == nullptr) throw std::bad_alloc{};
    (void)unsent.release();
    if (!add_headers(made.get(), response)) throw std::bad_alloc{};
    return made;
}

MHD_Result Responses::queue(MHD_Connection* http, AdminResponse response) {
    if (is_large(response.body) && large_bytes_ > 0 &&
        large_bytes_ + response.body.size() > large_bytes_max)
        response = error_response(503,
                                  "other answers take the memory that there is for those that are "
                                  "not read yet; ask again later, or for less");
    const unsigned status = response.status;
    return MHD_queue_response(http, status, make(std::move(response)).get());
}

MHD_Result Responses::queue_out_of_memory(MHD_Connection* http) {
    return MHD_queue_response(http, MHD_HTTP_SERVICE_UNAVAILABLE, out_of_memory_.get());
}

}  // namespace udpproxy
