// An answer of the admin interface that is made short of memory.
#include <doctest/doctest.h>

#include <new>

#include "admin/responses.hpp"
#include "contract/allocations.hpp"
#include "contract/engines.hpp"

namespace udpproxy::contract {
namespace {

// A header that the library had no memory for was left out: the status page went out without its
// Content-Security-Policy.
TEST_CASE("an answer has all of its headers, or is not made") {
    Responses responses;
    let_each_allocation_fail([&](std::size_t failing) {
        AdminResponse page;
        page.type = "text/html";
        page.body = "<p>";
        page.policy = "default-src 'none'; style-src 'self'; script-src 'self'";
        ResponseReference made;
        bool reached = false;
        {
            const FailingAllocation failure(failing);
            try {
                made = responses.make(std::move(page));
            } catch (const std::bad_alloc&) {
                made = nullptr;
            }
            reached = failure.has_failed();
        }
        REQUIRE((made == nullptr) == reached);
        if (made == nullptr) return true;
        for (const char* name : {"Content-Type", "Cache-Control", "Content-Security-Policy",
                                 "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy"}) {
            CAPTURE(name);
            REQUIRE(MHD_get_response_header(made.get(), name) != nullptr);
        }
        return false;
    });
}

}  // namespace
}  // namespace udpproxy::contract
