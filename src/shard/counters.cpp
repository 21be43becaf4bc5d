// Which errno is counted under which reason, and which reasons mean a limit.
#include "udpproxy/shard/counters.hpp"

#include <cerrno>

namespace udpproxy {

Drop drop_of_send_error(int error) noexcept {
    switch (error) {
        case EAGAIN:
            return Drop::send_would_block;
        case ENOBUFS:
            return Drop::send_no_buffers;
        case EMSGSIZE:
            return Drop::send_too_big;
        case ECONNREFUSED:
            return Drop::send_refused;
        case ENETUNREACH:
            return Drop::send_net_unreachable;
        case EHOSTUNREACH:
            return Drop::send_host_unreachable;
        case EPERM:
            return Drop::send_not_permitted;
        case EACCES:
            return Drop::send_prohibited;
        case EINVAL:
            return Drop::send_invalid;
        default:
            return Drop::send_failed;
    }
}

bool is_limit(Drop reason) noexcept {
    switch (reason) {
        case Drop::datagram_limit:
        case Drop::forwarding_loop:
        case Drop::client_limit:
        case Drop::session_rate:
        case Drop::source_rate:
        case Drop::admission_queue_full:
        case Drop::session_limit:
        case Drop::descriptor_limit:
        case Drop::ports_exhausted:
        case Drop::source_unavailable:
        case Drop::upstream_unroutable:
        case Drop::upstream_unresolved:
        case Drop::group_failed:
        case Drop::amplification:
        case Drop::reply_limit:
        case Drop::send_would_block:
        case Drop::send_no_buffers:
            return true;
        default:
            return false;
    }
}

}  // namespace udpproxy
