// How a send is written for the kernel, and what the kernel's errors mean.
#include "outgoing.hpp"

#include <cerrno>

namespace udpproxy {

void write_outgoing(const Departure& departure, const Sending& sending, std::span<iovec> parts,
                    Family family, Outgoing& outgoing) noexcept {
    msghdr& header = outgoing.header;
    header = msghdr{};
    header.msg_iov = parts.data();
    header.msg_iovlen = parts.size();
    if (departure.to.port != 0) {
        header.msg_name = &outgoing.name;
        header.msg_namelen = write_socket_name(departure.to, outgoing.name);
    }
    ControlOut control{departure.from, departure.interface_index, departure.tos, family, 0};
    // Segments of a train are shorter than 65536 bytes: two of them fit into one send.
    if (sending.is_train())
        control.segment_bytes = static_cast<std::uint16_t>(sending.segment_bytes);
    header.msg_controllen = write_control(control, outgoing.control);
    if (header.msg_controllen > 0) header.msg_control = outgoing.control;
}

bool may_be_pending_error(int error) noexcept {
    switch (error) {
        case ECONNREFUSED:
        case EHOSTUNREACH:
        case ENETUNREACH:
        case EMSGSIZE:
        case ENOPROTOOPT:
        case EOPNOTSUPP:
        case EHOSTDOWN:
        case ENONET:
        case EPROTO:
        case EACCES:
            return true;
        default:
            return false;
    }
}

bool may_refuse_trains(int error) noexcept {
    return error == EMSGSIZE || error == EINVAL || error == EIO || error == EOPNOTSUPP;
}

}  // namespace udpproxy
