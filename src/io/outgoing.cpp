// Departures as the kernel wants them, and the second attempt after a pending socket error.
#include "outgoing.hpp"

#include <cerrno>

namespace udpproxy {

void write_outgoing(const Departure& departure, Family family, Outgoing& outgoing) noexcept {
    outgoing.payload.iov_base = const_cast<std::byte*>(departure.payload);
    outgoing.payload.iov_len = departure.bytes;
    msghdr& header = outgoing.header;
    header = msghdr{};
    header.msg_iov = &outgoing.payload;
    header.msg_iovlen = 1;
    if (departure.to.port != 0) {
        header.msg_name = &outgoing.name;
        header.msg_namelen = write_socket_name(departure.to, outgoing.name);
    }
    header.msg_controllen = write_control(ControlOut{departure.from, departure.interface_index, departure.tos, family}, outgoing.control);
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

int send_again(int descriptor, const Departure& departure, Family family, Outgoing& outgoing) noexcept {
    write_outgoing(departure, family, outgoing);
    return ::sendmsg(descriptor, &outgoing.header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ? 0 : errno;
}

}  // namespace udpproxy
