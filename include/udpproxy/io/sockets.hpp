// Sockets: the engine's verbs that open and close, for the cold path. Virtual, so that the shard's
// stages need not be templates over the engine; no datagram comes this way.
#pragma once

#include <span>

#include "udpproxy/net/group_sockets.hpp"
#include "udpproxy/net/slot.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy {

/// A listener handed to an engine; at the start it gets the slot of its place in the list.
struct ListenerSocket {
    Socket socket;
    Family family = Family::ipv4;
    bool offload =
        false;  // opened with ListenerRequest::offload; its departures may leave as trains
};

class Sockets {
public:
    Sockets() = default;
    Sockets(Sockets&&) noexcept = default;
    Sockets& operator=(Sockets&&) = delete;
    virtual ~Sockets() = default;

    /// Opens a reply group, all or none, and arms its members. Requires: slots.size() ==
    /// opening.members().
    [[nodiscard]] virtual OpeningOutcome open_group(const GroupOpening& opening,
                                                    std::span<Slot> slots) = 0;
    /// Another member for a finished group, all or nothing; see join_group_socket() in
    /// net/group_sockets.hpp. `members` are all that the group has.
    [[nodiscard]] virtual OpeningOutcome join_group(std::span<const Slot> members,
                                                    const MemberJoining& joining, Slot& joined) = 0;
    /// Takes a listener into a slot that nobody has, and arms it. Listeners have the lowest slots,
    /// members the highest. Returns errno or 0; EMFILE: members have been in the slot. The socket
    /// is the caller's again when there is an error.
    [[nodiscard]] virtual int adopt(Slot slot, ListenerSocket& listener) = 0;
    /// Closes a member or a listener. Arrivals may still come on the slot until it appears in a
    /// completions' `closed`.
    virtual void close(Slot slot) = 0;
};

}  // namespace udpproxy
