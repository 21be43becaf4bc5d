// GroupPool: the reply groups of one shard. A group is in use to a session, or cools down after
// one, or is being closed. A cooling group stays bound and receiving: what comes late is seen,
// counted and dropped. Once it has cooled down long enough the oldest is in use again, with no
// system call. The pool knows slots and ports as numbers; opening and closing sockets is the
// shard's affair.
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

/// The number of a source binding in its shard: the groups of one proxy and one of its source
/// addresses are interchangeable.
using BindingIndex = std::uint32_t;

enum class GroupState : std::uint8_t { in_use, cooling, closing };

/// The reply leg reads the first four members for each datagram: they lie in one cache line, which
/// the slots behind do not push them out of.
struct alignas(64) ReplyGroup {
    // The version it was opened with, or has been brought to since.
    const Upstream* upstream = nullptr;
    std::uint32_t session = no_index;  // that it is in use to
    std::uint16_t proxy = 0;
    GroupState state = GroupState::in_use;
    std::uint8_t members = 0;          // in `slots`
    std::uint8_t members_leaving = 0;  // of aliases that are none any more: their sockets are being
                                       // closed while the group serves
    std::uint8_t members_open = 0;     // counts down while closing
    bool has_open_member = false;
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
    /// `cooldowns` has an entry for each source binding; more come by use_binding(), up to
    /// `bindings_max` (fewer than there are: as many).
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
    /// Indices at or above this were never used.
    [[nodiscard]] std::uint32_t high_water() const noexcept { return groups_.high_water(); }
    [[nodiscard]] bool is_live(std::uint32_t index) const noexcept {
        return groups_.is_live(index);
    }
    ReplyGroup& operator[](std::uint32_t index) { return groups_[index]; }

    // Requires: !full(). A group that has just been opened, in use at once; the caller fills in the
    // rest.
    [[nodiscard]] std::uint32_t add(BindingIndex binding, std::uint32_t session);
    /// The oldest group of the source binding whose rest is over, unless it is outdated; in use to
    /// `session`.
    [[nodiscard]] std::optional<std::uint32_t> acquire(BindingIndex binding, std::uint32_t session,
                                                       Instant now);
    /// Its session has ended. Requires: in use.
    void cooldown(std::uint32_t index, Instant now);
    /// Nobody had it before: it may be in use at once. Requires: in use.
    void add_ready(std::uint32_t index, Instant now);
    /// Its sockets are about to close. Requires: not closing yet.
    void begin_close(std::uint32_t index);
    /// Its last socket is closed.
    void forget(std::uint32_t index);

    /// What was opened before no longer serves (its source address has gone): it is not in use
    /// again.
    void outdate(BindingIndex binding) { ++bindings_[binding].generation; }
    [[nodiscard]] std::uint32_t generation(BindingIndex binding) const noexcept {
        return bindings_[binding].generation;
    }
    // Requires: no group of the source binding is left.
    void use_binding(BindingIndex binding, Duration cooldown, const Upstream* upstream);
    /// Groups are opened with this version from now on, and those of other versions are outdated.
    /// It outlives every group opened with it.
    void set_upstream(BindingIndex binding, const Upstream* upstream) {
        bindings_[binding].upstream = upstream;
    }
    void set_cooldown(BindingIndex binding, Duration cooldown) {
        bindings_[binding].cooldown = cooldown;
    }
    /// So many cooling groups of the source binding are never surplus.
    void set_kept(BindingIndex binding, std::uint32_t kept) { bindings_[binding].kept = kept; }
    /// Resting groups that the source binding lacks of those that are kept.
    [[nodiscard]] std::uint32_t lacking(BindingIndex binding) const noexcept {
        return bindings_[binding].kept -
               std::min(bindings_[binding].kept, bindings_[binding].cooling.size());
    }
    /// Of an earlier generation of its source binding, or another version of its upstream.
    [[nodiscard]] bool is_outdated(std::uint32_t index) const {
        return is_outdated(groups_[index]);
    }

    /// A cooling group that had better be closed now: outdated, or unused for `surplus_after`
    /// beyond its rest.
    [[nodiscard]] std::optional<std::uint32_t> surplus(Instant now, Duration surplus_after) const;
    /// When surplus() may next have one; nothing while none cools down.
    [[nodiscard]] std::optional<Instant> next_surplus(Duration surplus_after) const;
    /// The oldest cooling group of the source binding if its rest is over, whatever its generation.
    [[nodiscard]] std::optional<std::uint32_t> cooled_down(BindingIndex binding, Instant now) const;
    /// The group that has cooled down longest, of any source binding: the first to go when
    /// descriptors are short.
    [[nodiscard]] std::optional<std::uint32_t> oldest_cooling() const;

private:
    struct Binding {
        Duration cooldown{};
        const Upstream* upstream = nullptr;
        std::uint32_t generation = 0;
        std::uint32_t groups = 0;
        std::uint32_t kept = 0;
        IndexList cooling;
    };

    /// When the source binding's oldest cooling group becomes surplus; nothing: there is none, or
    /// it is kept.
    [[nodiscard]] std::optional<Instant> surplus_at(const Binding& binding,
                                                    Duration surplus_after) const;
    [[nodiscard]] bool is_outdated(const ReplyGroup& group) const noexcept {
        const Binding& binding = bindings_[group.binding];
        return group.generation != binding.generation || group.upstream != binding.upstream;
    }
    [[nodiscard]] auto links() {
        return [this](std::uint32_t index) -> ListLinks& { return groups_[index].links; };
    }

    Slab<ReplyGroup> groups_;
    std::vector<Binding> bindings_;
    std::uint32_t cooling_count_ = 0;
};

}  // namespace udpproxy
