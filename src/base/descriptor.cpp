// Closes descriptors, one or many.
#include "udpproxy/base/descriptor.hpp"

#include <unistd.h>

#include <algorithm>
#include <climits>

#include "udpproxy/base/assert.hpp"

namespace udpproxy {

namespace {

/// Closes `first` to `last`. Without close_range(2) (Linux 5.9) one by one, up to the limit.
void close_from_to(int first, int last) noexcept {
    if (first > last) return;
    if (::close_range(static_cast<unsigned>(first), static_cast<unsigned>(last), 0) == 0) return;
    const long limit = ::sysconf(_SC_OPEN_MAX);
    for (int descriptor = first; descriptor <= last && descriptor < limit; ++descriptor)
        ::close(descriptor);
}

}  // namespace

Descriptor::~Descriptor() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

void close_all_but(std::span<const int> kept) noexcept {
    UDPPROXY_ASSERT(std::is_sorted(kept.begin(), kept.end()));
    int first = 3;  // behind the standard streams
    for (const int descriptor : kept) {
        close_from_to(first, descriptor - 1);
        first = std::max(first, descriptor + 1);
    }
    close_from_to(first, INT_MAX);
}

}  // namespace udpproxy
