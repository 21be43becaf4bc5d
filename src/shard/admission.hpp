// Admission: the judge of the strangers of one turn. Private to admission.cpp (the way of a stranger to its group) and making_room.cpp (places under the
// limits, and who goes first when there is none).
#pragma once

#include <array>
#include <optional>

#include "udpproxy/shard/shard.hpp"

namespace udpproxy {

enum class Verdict : std::uint8_t { admitted, dropped, wait };

struct Judgement {
    Verdict verdict = Verdict::admitted;
    Drop reason = Drop::group_failed;  // with Verdict::dropped, and when waiting has been too long
};

inline constexpr Judgement admitted{};
inline constexpr Judgement wait_for_room{Verdict::wait, Drop::descriptor_limit};
inline constexpr Judgement wait_for_port{Verdict::wait, Drop::ports_exhausted};
[[nodiscard]] inline Judgement refuse(Drop reason) { return {Verdict::dropped, reason}; }

class Admission {
public:
    Admission(Shard& shard, Sockets& sockets, Instant now) : shard_(shard), sockets_(sockets), now_(now) {}

    [[nodiscard]] Judgement judge(const Stranger& stranger);
    /// Forwards the datagram if its client was admitted in this turn.
    [[nodiscard]] bool forward_if_admitted(const Stranger& stranger);
    /// Opens a group that rests at once, ready for a newcomer. False: it could not be had without making room.
    [[nodiscard]] bool prepare_group(PoolLane lane);
    /// As many groups were opened as one turn may.
    [[nodiscard]] bool is_spent() const noexcept { return openings_ >= openings_per_turn; }

private:
    // making_room.cpp: a place, and who goes when there is none
    [[nodiscard]] std::optional<Drop> take_place(std::uint16_t proxy, const Stranger& stranger);
    void give_place(std::uint16_t proxy, const Address& client);
    [[nodiscard]] std::optional<Drop> take_session(std::uint16_t proxy, const Stranger& stranger);
    [[nodiscard]] std::optional<Drop> take_room(std::uint16_t proxy, const Stranger& stranger);
    [[nodiscard]] bool has_room(std::uint16_t proxy);
    [[nodiscard]] Rate eviction_rate(std::uint16_t proxy) const;
    [[nodiscard]] bool may_evict(std::uint16_t proxy) const;
    void evict(std::uint16_t proxy, std::uint32_t session, bool keep_group = true);
    [[nodiscard]] std::optional<std::uint32_t> first_to_make_room(std::uint16_t proxy);
    [[nodiscard]] std::optional<std::uint32_t> victim(std::uint16_t proxy);
    [[nodiscard]] Judgement make_room_for_port(PoolLane lane, std::uint32_t& group);
    [[nodiscard]] Judgement make_room_for_group(std::uint16_t proxy, std::uint32_t members);
    [[nodiscard]] Judgement free_descriptors(std::uint16_t proxy);

    // admission.cpp: a group for the newcomer
    [[nodiscard]] Judgement find_group(std::uint16_t proxy, std::uint32_t& group);
    [[nodiscard]] Judgement open_group(PoolLane lane, std::uint32_t& group);
    [[nodiscard]] Judgement judge_failure(const OpeningOutcome& outcome, PoolLane lane);
    void add_group(PoolLane lane, const GroupOpening& opening, std::span<const Slot> slots, std::uint32_t& group);
    [[nodiscard]] bool shall_watch(Proxy& proxy) const;

    Shard& shard_;
    Sockets& sockets_;
    Instant now_;
    bool makes_room_ = true;
    bool evicted_for_port_ = false;                              // for the stranger at hand
    std::uint32_t openings_ = 0;                                 // tried in this turn
    std::uint32_t admitted_count_ = 0;                           // of admitted_
    std::uint32_t fruitless_looks_ = 0;                          // for somebody who could go, in this turn
    std::uint32_t descriptors_wanted_ = 0;                       // by the strangers of this turn that wait for them
    std::array<std::uint64_t, admissions_per_turn> admitted_{};  // hashes of who was admitted in this turn
};

}  // namespace udpproxy
