// malloc and its relatives, put before the C library's (glibc's own names for them are stable:
// __libc_malloc and so on). operator new is built on malloc, so it is counted as well.
#include "contract/allocations.hpp"

#include <cerrno>
#include <cstdlib>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define UDPPROXY_SANITISED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UDPPROXY_SANITISED 1
#endif

namespace udpproxy::contract {

namespace {

// Plain thread-locals of the executable: touching them allocates nothing.
thread_local std::size_t counted = 0;
thread_local int counting = 0;
thread_local std::size_t until_failure = 0;  // 0: none fails

#if defined(__GLIBC__) && !defined(UDPPROXY_SANITISED)
#define UDPPROXY_COUNTS 1
void* out_of_memory() noexcept {
    errno = ENOMEM;
    return nullptr;
}
/// False: this one fails.
bool note() noexcept {
    counted += counting > 0 ? 1U : 0U;
    return until_failure == 0 || --until_failure > 0;
}
#endif

}  // namespace

bool counts_allocations() noexcept {
#if defined(UDPPROXY_COUNTS)
    return true;
#else
    return false;
#endif
}

std::size_t allocations() noexcept { return counted; }

Counting::Counting() noexcept { ++counting; }
Counting::~Counting() { --counting; }

FailingAllocation::FailingAllocation(std::size_t failing) noexcept { until_failure = failing; }
FailingAllocation::~FailingAllocation() { until_failure = 0; }
bool FailingAllocation::has_failed() const noexcept { return until_failure == 0; }
std::size_t FailingAllocation::left() const noexcept { return until_failure; }

#if defined(UDPPROXY_COUNTS)

extern "C" {

void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* memory, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);

// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name)
void* malloc(std::size_t bytes) { return note() ? __libc_malloc(bytes) : out_of_memory(); }
void* calloc(std::size_t count, std::size_t bytes) {
    return note() ? __libc_calloc(count, bytes) : out_of_memory();
}
void* realloc(void* memory, std::size_t bytes) {
    return note() ? __libc_realloc(memory, bytes) : out_of_memory();
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
    return note() ? __libc_memalign(alignment, bytes) : out_of_memory();
}
void* memalign(std::size_t alignment, std::size_t bytes) {
    return note() ? __libc_memalign(alignment, bytes) : out_of_memory();
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) {
    *memory = note() ? __libc_memalign(alignment, bytes) : nullptr;
    return *memory != nullptr ? 0 : ENOMEM;
}
// NOLINTEND(readability-inconsistent-declaration-parameter-name)
}

#endif

}  // namespace udpproxy::contract
