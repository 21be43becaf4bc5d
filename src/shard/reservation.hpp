// Reservation: what a new session takes under every limit: rate tokens, one session in the counts
// of the program, its proxy and its client, descriptors, a port and a reply group. The destructor
// gives back what was not committed, so that no caller has to undo what it took. release_session()
// gives back what an admitted session holds. What is evicted when a limit is met is decided in
// eviction.cpp.
#pragma once

#include "udpproxy/shard/shard.hpp"

namespace udpproxy {

class Reservation {
public:
    /// Holds nothing yet.
    Reservation(Shard& shard, std::uint16_t proxy, Instant now)
        : shard_(shard), proxy_(proxy), now_(now) {}
    Reservation(const Reservation&) = delete;
    Reservation& operator=(const Reservation&) = delete;
    ~Reservation();

    // Each of these takes all that it names, or nothing.
    /// A token of the program's rate and one of the proxy's.
    [[nodiscard]] bool take_tokens();
    /// One session in each of three counts: this shard's table, all sessions, and the proxy's.
    [[nodiscard]] bool take_session();
    /// Counts the session with its client. Requires: take_session() succeeded, so that there are
    /// never more clients counted than sessions.
    [[nodiscard]] std::optional<Drop> take_client(const Address& client);
    /// The descriptors of a group to be opened; those of an earlier attempt are given back.
    [[nodiscard]] bool take_descriptors(std::uint32_t members);
    /// The next port of a source binding; the port of an earlier attempt goes to the end of its
    /// queue.
    [[nodiscard]] std::optional<std::uint16_t> take_port(const SourceBinding& binding);

    /// The group owns descriptors and port from now on, and the reservation holds the group. A
    /// group that is not committed stands ready for a new client.
    void hold_opened(std::uint32_t group);
    /// Holds a cooled down group that no session uses yet.
    void hold(std::uint32_t group) { group_ = group; }
    [[nodiscard]] bool holds_group() const noexcept { return group_ != no_index; }
    [[nodiscard]] std::uint32_t group() const noexcept { return group_; }

    /// The session owns everything reserved from now on. Requires: tokens, session, client and
    /// group.
    void commit(const ClientKey& key, std::uint32_t session);

private:
    void release_port();

    Shard& shard_;
    std::uint16_t proxy_;
    Instant now_;
    bool has_tokens_ = false;
    bool has_session_ = false;
    std::optional<Address> client_;
    std::uint32_t descriptors_ = 0;
    std::optional<std::uint16_t> port_;
    std::uint32_t port_pool_ = 0;
    std::uint32_t group_ = no_index;
};

/// The session counts as assured from now on and is no longer evicted.
void release_unassured(Shard& shard, const Session& session);
/// Gives back all that a session holds except its group.
void release_session(Shard& shard, const Session& session);

}  // namespace udpproxy
