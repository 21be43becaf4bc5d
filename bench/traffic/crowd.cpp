// Whose turn it is.
#include "crowd.hpp"

namespace udpproxy::traffic {

Crowd::Crowd(const CrowdPlan& plan, Tally& tally)
    : plan_(plan),
      tally_(tally),
      ownership_(tally, plan.churn ? 0 : plan.clients, false),
      sequences_(plan.churn ? 0 : plan.clients, 0) {}

Crowd::Turn Crowd::next_turn() {
    const std::uint64_t turn = turns_++;
    const std::uint64_t run = turn / plan_.run;
    if (plan_.churn)
        return {static_cast<std::uint32_t>(run), static_cast<std::uint32_t>(turn % plan_.run)};
    const auto client = static_cast<std::uint32_t>(run % plan_.clients);
    return {client, sequences_[client]++};
}

}  // namespace udpproxy::traffic
