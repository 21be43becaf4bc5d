// Admission: decides on the new clients of one turn. Private to admission.cpp (how a new client
// gets its group) and eviction.cpp (the limits, and what is evicted when one is met). Everything it
// takes on the way is held by a Reservation (reservation.hpp).
#pragma once

#include <array>
#include <optional>

#include "reservation.hpp"
#include "steps.hpp"

namespace udpproxy {

enum class Verdict : std::uint8_t {
    admitted,
    dropped,
    wait,             // for descriptors to be closed, or for a port
    ask_other_shards  // to evict: this one has nothing to evict
};

struct AdmissionDecision {
    Verdict verdict = Verdict::admitted;
    Drop reason = Drop::group_failed;  // with Verdict::dropped, and when it has waited too long
};

inline constexpr AdmissionDecision admitted{};
inline constexpr AdmissionDecision wait_for_descriptors{Verdict::wait, Drop::descriptor_limit};
inline constexpr AdmissionDecision wait_for_port{Verdict::wait, Drop::ports_exhausted};
[[nodiscard]] inline AdmissionDecision reject(Drop reason) { return {Verdict::dropped, reason}; }

class Admission {
public:
    Admission(Shard& shard, Sockets& sockets, Instant now)
        : shard_(shard), sockets_(sockets), now_(now) {}

    [[nodiscard]] AdmissionDecision decide(const NewClient& new_client);
    /// Forwards the datagram if its client was admitted in this turn.
    [[nodiscard]] bool forward_if_admitted(const NewClient& new_client);
    /// Opens a group and puts it among the cooled down ones, ready for a new client. False: this
    /// would need an eviction.
    [[nodiscard]] bool prepare_group(BindingIndex binding);
    /// Evicts what another shard's new clients lack, until nothing is asked for or nothing is to be
    /// had here.
    void evict_for(std::uint32_t other_shard);
    /// Whether this turn has opened as many groups, or looked up as many sources, as it may.
    [[nodiscard]] bool is_spent() const noexcept {
        return openings_ >= openings_per_turn || lookups_ >= admission_lookups_per_turn;
    }

private:
    // eviction.cpp: the limits, and what is evicted when one is met
    [[nodiscard]] AdmissionDecision reserve(Reservation& reservation, std::uint16_t proxy,
                                            const NewClient& new_client);
    [[nodiscard]] bool meets_session_limit(std::uint16_t proxy) const;
    [[nodiscard]] AdmissionDecision ask_for_session(std::uint16_t proxy) const;
    [[nodiscard]] bool may_evict(std::uint16_t proxy) const;
    void evict(std::uint16_t proxy, std::uint32_t session, bool keep_group = true);
    [[nodiscard]] std::optional<std::uint32_t> first_to_evict(std::uint16_t proxy);
    [[nodiscard]] std::optional<std::uint32_t> eviction_candidate(std::uint16_t proxy);
    [[nodiscard]] bool free_port_in(std::uint32_t port_pool);
    [[nodiscard]] AdmissionDecision evict_for_port(std::uint16_t proxy, Reservation& reservation);
    [[nodiscard]] AdmissionDecision evict_for_group(std::uint16_t proxy);
    [[nodiscard]] AdmissionDecision free_descriptors(std::uint16_t proxy);

    // admission.cpp: a group for the new client
    [[nodiscard]] AdmissionDecision find_group(std::uint16_t proxy, Reservation& reservation);
    [[nodiscard]] bool reuse_group(BindingIndex binding, Reservation& reservation);
    [[nodiscard]] AdmissionDecision open_group(BindingIndex binding, Reservation& reservation);
    [[nodiscard]] AdmissionDecision decide_on_failure(const OpeningOutcome& outcome,
                                                      BindingIndex binding);
    [[nodiscard]] std::uint32_t add_group(BindingIndex binding, const GroupOpening& opening,
                                          std::span<const Slot> slots);
    [[nodiscard]] bool shall_watch(Proxy& proxy) const;

    Shard& shard_;
    Sockets& sockets_;
    Instant now_;
    std::uint32_t members_lacking_ = 0;     // for which the latest group got no descriptors
    std::uint32_t openings_ = 0;            // tried in this turn
    std::uint32_t lookups_ = 0;             // of sources, in this turn
    std::uint32_t evicted_for_others_ = 0;  // in this turn
    std::uint32_t admitted_count_ = 0;      // of admitted_
    std::uint32_t fruitless_scans_ = 0;     // scans of this turn that found no session to evict
    std::uint32_t descriptors_wanted_ = 0;  // by waiting new clients of this turn
    /// Hashes of the clients admitted in this turn.
    std::array<std::uint64_t, admissions_per_turn> admitted_{};
};

}  // namespace udpproxy
