// Sockets: the engine's verbs that open and close sockets, for the cold path. They are virtual, so
// that the shard's stages need not be templates over the engine. No datagram passes through them.
#pragma once

#include <span>

#include "udpproxy/net/group_sockets.hpp"
#include "udpproxy/net/slot.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy {

/// A listener handed to an engine. At the start, each listener gets the slot of its place in the
/// list.
struct ListenerSocket {
    Socket socket;
    Family family = Family::ipv4;
    // Opened with ListenerRequest::offload; its departures may leave as trains.
    bool offload = false;
};

class Sockets {
public:
    Sockets() = default;
    Sockets(Sockets&&) noexcept = default;
    Sockets& operator=(Sockets&&) = delete;
    virtual ~Sockets() = default;

    /// Opens a reply group, all members or none, and arms the members. One that an earlier process
    /// has opened (opening.descriptors) is taken over; on an error its sockets stay open. Requires:
    /// slots.size() == opening.members().
    [[nodiscard]] virtual OpeningOutcome open_group(const GroupOpening& opening,
                                                    std::span<Slot> slots) = 0;
    /// Adds another member to a finished group, all or nothing; see join_group_socket() in
    /// net/group_sockets.hpp. `members` are all members that the group has.
    [[nodiscard]] virtual OpeningOutcome join_group(std::span<const Slot> members,
                                                    const MemberJoining& joining, Slot& joined) = 0;
    /// Takes a listener into a free slot, and arms it. Listeners have the lowest slots, members the
    /// highest. Returns errno or 0; EMFILE means that members have been in the slot. On an error
    /// the socket stays with the caller.
    [[nodiscard]] virtual int adopt(Slot slot, ListenerSocket& listener) = 0;
    /// Not a verb: the descriptor of an open member.
    [[nodiscard]] virtual int descriptor_of(Slot slot) const = 0;
    /// Closes a member or a listener. Arrivals may still come on the slot until the slot appears in
    /// `closed` of the completions.
    virtual void close(Slot slot) = 0;
};

}  // namespace udpproxy
