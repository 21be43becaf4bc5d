// In which order the departures of a batch are chained: by slot, and on each slot as given.
#include "departure_chains.hpp"

namespace udpproxy {

void DepartureChains::chain(std::span<const Departure> departures) {
    slots_.clear();
    for (std::uint32_t i = 0; i < departures.size(); ++i) {
        const Slot slot = departures[i].slot;
        Chain& chain = chains_[index_of(slot)];
        next_[i] = no_departure;
        if (chain.end == 0) {
            chain.first = i;
            slots_.push(slot);
        } else {
            next_[chain.end - 1] = i;
        }
        chain.end = i + 1;
    }
}

}  // namespace udpproxy
