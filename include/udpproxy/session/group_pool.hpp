// GroupPool: the reply groups of one shard. A group is lent to a session, or rests after one, or is being closed. A resting group stays bound and
// receiving: what comes late is seen, counted and dropped. Once it has rested long enough the oldest is lent again, with no system call.
// The pool knows slots and ports as numbers; opening and closing sockets is the shard's affair.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "udpproxy/base/index_list.hpp"
#include "udpproxy/base/slab.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/slot.hpp"
#include "udpproxy/session/upstream.hpp"

namespace udpproxy {

inline constexpr std::size_t connected_aliases_max = 16;
inline constexpr std::size_t group_members_max = connected_aliases_max + 2;  // primary, alias members, open member

/// Whose groups are interchangeable: those of one proxy and one of its sources, numbered through by the shard.
using PoolLane = std::uint32_t;

enum class GroupState : std::uint8_t { lent, resting, closing };

struct ReplyGroup {
    Endpoint local;                      // the source address and port of all members
    const Upstream* upstream = nullptr;  // the version it was opened with, or has been brought to since
    std::uint32_t session = no_index;    // to whom it is lent
    PoolLane lane = 0;
    std::uint32_t generation = 0;  // of the lane when it was opened
    std::uint16_t proxy = 0;
    GroupState state = GroupState::lent;
    std::uint8_t members = 0;          // in `slots`
    std::uint8_t members_leaving = 0;  // of aliases that are none any more: their sockets are being closed while the group serves
    std::uint8_t members_open = 0;     // counts down while closing
    bool has_open_member = false;
    Instant rests_since{};  // of the last rest; Instant::max() while lent
    ListLinks links;
    std::array<Slot, group_members_max> slots{};  // primary first, open member last

    [[nodiscard]] Slot primary() const noexcept { return slots[0]; }
};

class GroupPool {
public:
    /// `rests` has the rest of each lane there is; more come by use_lane(), up to `lanes_max` (fewer than there are: as many).
    GroupPool(std::uint32_t groups_max, std::vector<Duration> rests, std::size_t lanes_max = 0);

    [[nodiscard]] bool full() const noexcept { return groups_.full(); }
    [[nodiscard]] std::uint32_t size() const noexcept { return groups_.size(); }
    [[nodiscard]] std::uint32_t resting() const noexcept { return resting_count_; }
    [[nodiscard]] std::uint32_t resting(PoolLane lane) const noexcept { return lanes_[lane].resting.size(); }
    /// Groups of the lane in any state.
    [[nodiscard]] std::uint32_t size(PoolLane lane) const noexcept { return lanes_[lane].groups; }
    /// Indices at or above this were never used.
    [[nodiscard]] std::uint32_t touched() const noexcept { return groups_.touched(); }
    [[nodiscard]] bool is_live(std::uint32_t index) const noexcept { return groups_.is_live(index); }
    ReplyGroup& operator[](std::uint32_t index) { return groups_[index]; }

    // Requires: !full(). A group that has just been opened, lent at once; the caller fills in the rest.
    [[nodiscard]] std::uint32_t add(PoolLane lane, std::uint32_t session);
    /// The oldest group of the lane whose rest is over, unless it is outdated; lent to `session`.
    [[nodiscard]] std::optional<std::uint32_t> lend(PoolLane lane, std::uint32_t session, Instant now);
    /// Its session has ended. Requires: lent.
    void rest(std::uint32_t index, Instant now);
    /// Nobody had it before: it may be lent at once. Requires: lent.
    void rest_ready(std::uint32_t index, Instant now);
    /// Its sockets are about to close. Requires: not closing yet.
    void begin_close(std::uint32_t index);
    /// Its last socket is closed.
    void forget(std::uint32_t index);

    /// What was opened before no longer serves (its source address has gone): it is not lent again.
    void outdate(PoolLane lane) { ++lanes_[lane].generation; }
    [[nodiscard]] std::uint32_t generation(PoolLane lane) const noexcept { return lanes_[lane].generation; }
    // Requires: no group of the lane is left.
    void use_lane(PoolLane lane, Duration rest, const Upstream* upstream);
    /// Groups are opened with this version from now on, and those of other versions are outdated. It outlives every group opened with it.
    void set_upstream(PoolLane lane, const Upstream* upstream) { lanes_[lane].upstream = upstream; }
    void set_rest(PoolLane lane, Duration rest) { lanes_[lane].rest = rest; }
    /// So many resting groups of the lane are never surplus.
    void set_kept(PoolLane lane, std::uint32_t kept) { lanes_[lane].kept = kept; }
    /// Resting groups that the lane lacks of those that are kept.
    [[nodiscard]] std::uint32_t lacking(PoolLane lane) const noexcept {
        return lanes_[lane].kept - std::min(lanes_[lane].kept, lanes_[lane].resting.size());
    }
    /// Of an earlier generation of its lane, or another version of its upstream.
    [[nodiscard]] bool is_outdated(std::uint32_t index) const { return is_outdated(groups_[index]); }

    /// A resting group that had better be closed now: outdated, or unused for `surplus_after` beyond its rest.
    [[nodiscard]] std::optional<std::uint32_t> surplus(Instant now, Duration surplus_after) const;
    /// When surplus() may next have one; nothing while none rests.
    [[nodiscard]] std::optional<Instant> next_surplus(Duration surplus_after) const;
    /// The oldest resting group of the lane if its rest is over, whatever its generation.
    [[nodiscard]] std::optional<std::uint32_t> rested(PoolLane lane, Instant now) const;
    /// The group that has rested longest, of any lane: the first to go when descriptors are short.
    [[nodiscard]] std::optional<std::uint32_t> oldest_resting() const;

private:
    struct Lane {
        Duration rest{};
        const Upstream* upstream = nullptr;
        std::uint32_t generation = 0;
        std::uint32_t groups = 0;
        std::uint32_t kept = 0;
        IndexList resting;
    };

    /// When the lane's oldest resting group becomes surplus; nothing: there is none, or it is kept.
    [[nodiscard]] std::optional<Instant> surplus_at(const Lane& lane, Duration surplus_after) const;
    [[nodiscard]] bool is_outdated(const ReplyGroup& group) const noexcept {
        const Lane& lane = lanes_[group.lane];
        return group.generation != lane.generation || group.upstream != lane.upstream;
    }
    [[nodiscard]] auto links() {
        return [this](std::uint32_t index) -> ListLinks& { return groups_[index].links; };
    }

    Slab<ReplyGroup> groups_;
    std::vector<Lane> lanes_;
    std::size_t lanes_used_;  // those at and above were never in use
    std::uint32_t resting_count_ = 0;
};

}  // namespace udpproxy
