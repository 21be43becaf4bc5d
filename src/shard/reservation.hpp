// Reservation: what a new session takes under every limit: rate tokens, a place among all sessions,
// its proxy's and its client's, descriptors, a port, a reply group. The destructor gives back what
// was not committed, so order and symmetry of taking and giving cannot go wrong elsewhere. What a
// session holds once it is admitted is given back by release_session(), here too. Who is evicted
// when a limit is met is decided in eviction.cpp.
#pragma once

#include "udpproxy/shard/shard.hpp"

namespace udpproxy {

class Reservation {
public:
    /// Holds nothing yet.
    Reservation(Shard& shard, std::uint16_t proxy, Instant now)
        : shard_(&shard), proxy_(proxy), now_(now) {}
    Reservation(Reservation&& other) noexcept;
    Reservation& operator=(Reservation&&) = delete;
    Reservation(const Reservation&) = delete;
    ~Reservation();

    // Each takes its part or nothing.
    /// A token of the program's rate and one of the proxy's.
    [[nodiscard]] bool take_tokens();
    /// A place in this shard's table, among all sessions and among those of the proxy.
    [[nodiscard]] bool take_session();
    /// Counts the session with its client. Requires: take_session() succeeded; so there are never
    /// more clients counted than sessions.
    [[nodiscard]] std::optional<Drop> take_client(const Address& client);
    /// Of a group that is to be opened; those of an attempt before are given back.
    [[nodiscard]] bool take_descriptors(std::uint32_t members);
    /// The next port of a source binding; that of an attempt before goes to the end of its queue.
    [[nodiscard]] std::optional<std::uint16_t> take_port(const SourceBinding& binding);

    /// Descriptors and port are the group's from now on, and the group is held: it stands ready
    /// for a new client unless it is committed.
    void hold_opened(std::uint32_t group);
    /// A group that has cooled down, in use to nobody yet.
    void hold(std::uint32_t group) { group_ = group; }
    [[nodiscard]] bool holds_group() const noexcept { return group_ != no_index; }
    [[nodiscard]] std::uint32_t group() const noexcept { return group_; }

    /// All of it is the session's from now on. Requires: tokens, session, client and group.
    void commit(const ClientKey& key, std::uint32_t session);

private:
    void release_port();

    Shard* shard_;  // null: moved from
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

/// The session counts as assured from now on: it makes way for nobody.
void release_unassured(Shard& shard, const Session& session);
/// Gives back what a session holds but for its group.
void release_session(Shard& shard, const Session& session);

}  // namespace udpproxy
