// GroupPool: the reply groups of one shard. A group is in use by a session, cools down after one,
// or is being closed. A cooling group stays bound and receiving, so that late replies are seen,
// counted and dropped. The oldest cooling group is acquired again once its cooldown is over, with
// no system call. The pool knows slots and ports as numbers; the shard opens and closes the
// sockets.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
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
inline constexpr std::size_t group_members_max =
    connected_aliases_max + 2;  // primary, alias members, open member

/// The number of a source binding in its shard. A binding is one proxy with one of its source
/// addresses; its groups are interchangeable.
using BindingIndex = std::uint32_t;

enum class GroupState : std::uint8_t { in_use, cooling, closing };

/// The reply leg reads the first four fields for each datagram. They stand ahead of the slots, so
/// that they share one cache line.
struct alignas(64) ReplyGroup {
    // The version that the group was opened with, or has been reconciled with since.
    const Upstream* upstream = nullptr;
    std::uint32_t session = no_index;  // that uses the group
    std::uint16_t proxy = 0;
    GroupState state = GroupState::in_use;
    std::uint8_t members = 0;  // in `slots`
    /// Members of removed aliases: their sockets are being closed while the group stays in use.
    std::uint8_t members_leaving = 0;
    std::uint8_t members_open = 0;  // counts down while closing
    bool has_open_member = false;
    bool frees_port = false;  // while closing: its port needs no cooldown after that
    bool is_changed = false;  // its record in the ledger is to be written anew
    BindingIndex binding = 0;
    std::uint32_t generation = 0;  // of the source binding when it was opened
    Endpoint local;                // the source address and port of all members
    Instant cooling_since{};       // Instant::max() while in use
    ListLinks links;
    std::array<Slot, group_members_max> slots{};  // primary first, open member last

    [[nodiscard]] Slot primary() const noexcept { return slots[0]; }
};
static_assert(sizeof(ReplyGroup) == 192, "three cache lines: what a datagram reads, the slots");
static_assert(offsetof(ReplyGroup, state) < 16 && offsetof(ReplyGroup, local) < 64);

class GroupPool {
public:
    /// `cooldowns` has an entry for each source binding. use_binding() adds more, up to
    /// `bindings_max` (a smaller value means the number of `cooldowns`).
    GroupPool(std::uint32_t groups_max, std::vector<Duration> cooldowns,
              std::size_t bindings_max = 0);

    [[nodiscard]] bool full() const noexcept { return groups_.full(); }
    [[nodiscard]] std::uint32_t size() const noexcept { return groups_.size(); }
    [[nodiscard]] std::uint32_t cooling() const noexcept { return cooling_count_; }
    [[nodiscard]] std::uint32_t cooling(BindingIndex binding) const noexcept {
        return bindings_[binding].cooling.size();
    }
    /// Groups of the source binding in any state.
    [[nodiscard]] std::uint32_t size(BindingIndex binding) const noexcept {
        return bindings_[binding].groups;
    }
    /// Indices at or above this one were never used.
    [[nodiscard]] std::uint32_t high_water() const noexcept { return groups_.high_water(); }
    [[nodiscard]] bool is_live(std::uint32_t index) const noexcept {
        return groups_.is_live(index);
    }
    ReplyGroup& operator[](std::uint32_t index) { return groups_[index]; }

    // Requires: !full(). Adds a group that has just been opened, in use by `session`. The caller
    // fills in the other fields.
    [[nodiscard]] std::uint32_t add(BindingIndex binding, std::uint32_t session);
    /// Adds a group that an earlier process has opened with `upstream`: in use by `session`, or
    /// cooling since then when that is no_index. The caller fills in the other fields.
    // Requires: !full(), and that cooling groups of one source binding come in the order in which
    // they began to cool down.
    [[nodiscard]] std::uint32_t adopt(BindingIndex binding, const Upstream* upstream,
                                      std::uint32_t session, Instant cooling_since,
                                      bool is_outdated);
    /// Acquires for `session` the source binding's oldest cooling group, if its cooldown is over
    /// and it is not outdated.
    [[nodiscard]] std::optional<std::uint32_t> acquire(BindingIndex binding, std::uint32_t session,
                                                       Instant now);
    /// The group's session has ended; the cooldown begins. Requires: in use.
    void cooldown(std::uint32_t index, Instant now);
    /// No session has used the group yet, so it needs no cooldown. Requires: in use.
    void add_ready(std::uint32_t index, Instant now);
    /// The group's sockets are about to close. Requires: not closing yet.
    void begin_close(std::uint32_t index, Instant now);
    /// The group's last socket is closed.
    void forget(std::uint32_t index);

    /// Groups opened before are not acquired again, because their source address has gone.
    void outdate(BindingIndex binding) {
        ++bindings_[binding].generation;
        next_surplus_.reset();
    }
    [[nodiscard]] std::uint32_t generation(BindingIndex binding) const noexcept {
        return bindings_[binding].generation;
    }
    // Requires: no group of the source binding is left.
    void use_binding(BindingIndex binding, Duration cooldown, const Upstream* upstream);
    /// Groups are opened with this version from now on, and groups of other versions are outdated.
    /// `upstream` must outlive every group opened with it.
    void set_upstream(BindingIndex binding, const Upstream* upstream) {
        bindings_[binding].upstream = upstream;
        next_surplus_.reset();
    }
    void set_cooldown(BindingIndex binding, Duration cooldown) {
        bindings_[binding].cooldown = cooldown;
        next_surplus_.reset();
    }
    /// The number of cooling groups of the source binding that are never surplus.
    void set_kept(BindingIndex binding, std::uint32_t kept) {
        bindings_[binding].kept = kept;
        next_surplus_.reset();
    }
    /// How many cooling groups the source binding is short of the number kept.
    [[nodiscard]] std::uint32_t lacking(BindingIndex binding) const noexcept {
        return bindings_[binding].kept -
               std::min(bindings_[binding].kept, bindings_[binding].cooling.size());
    }
    /// Whether the group is of an earlier generation of its source binding, or of another version
    /// of its upstream.
    [[nodiscard]] bool is_outdated(std::uint32_t index) const {
        return is_outdated(groups_[index]);
    }

    /// A cooling group to close now: outdated, or unused for `surplus_after` beyond its cooldown.
    [[nodiscard]] std::optional<std::uint32_t> surplus(Instant now, Duration surplus_after) const;
    /// When surplus() may next return a group; nothing while no group cools down.
    [[nodiscard]] std::optional<Instant> next_surplus(Duration surplus_after) const;
    /// The oldest cooling group of the source binding if its cooldown is over, whatever its
    /// generation.
    [[nodiscard]] std::optional<std::uint32_t> cooled_down(BindingIndex binding, Instant now) const;
    /// Whether a group of the source binding is being closed whose port has cooled down.
    [[nodiscard]] bool frees_port(BindingIndex binding) const noexcept {
        return bindings_[binding].freeing > 0;
    }
    /// The group that has cooled down longest, of any source binding: the first to close when
    /// descriptors are short.
    [[nodiscard]] std::optional<std::uint32_t> oldest_cooling() const;

private:
    struct Binding {
        Duration cooldown{};
        const Upstream* upstream = nullptr;
        std::uint32_t generation = 0;
        std::uint32_t groups = 0;
        std::uint32_t freeing = 0;  // closing groups that free their ports
        std::uint32_t kept = 0;
        IndexList cooling;
    };

    /// When the source binding's oldest cooling group becomes surplus; nothing when no group cools
    /// down or the oldest is kept.
    [[nodiscard]] std::optional<Instant> surplus_at(const Binding& binding,
                                                    Duration surplus_after) const;
    [[nodiscard]] bool is_outdated(const ReplyGroup& group) const noexcept {
        const Binding& binding = bindings_[group.binding];
        return group.generation != binding.generation || group.upstream != binding.upstream;
    }
    [[nodiscard]] auto links() {
        return [this](std::uint32_t index) -> ListLinks& { return groups_[index].links; };
    }

    struct NextSurplus {
        Duration surplus_after{};
        std::optional<Instant> at;
    };

    Slab<ReplyGroup> groups_;
    std::vector<Binding> bindings_;
    std::uint32_t cooling_count_ = 0;
    /// What next_surplus() said last, until anything changes it: each turn asks, and there may be
    /// thousands of source bindings.
    mutable std::optional<NextSurplus> next_surplus_;
};

}  // namespace udpproxy
