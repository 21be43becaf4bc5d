// Compares the stamp of each datagram of a train with the owner of its port and address.
#include "ownership.hpp"

#include <algorithm>

#include "stamp.hpp"

namespace udpproxy::traffic {

Ownership::Ownership(Tally& tally, std::uint32_t clients, bool ports_are_owned)
    : tally_(tally),
      next_sequence_(clients, 0),
      owner_of_port_(ports_are_owned ? 65536 : 0, nobody) {}

void Ownership::check(std::span<const std::byte> train, std::size_t segment_bytes,
                      std::uint32_t owner, std::uint16_t port) {
    do {
        const std::size_t bytes = std::min(segment_bytes, train.size());
        check_one(train.first(bytes), owner, port);
        train = train.subspan(bytes);
    } while (!train.empty());
}

void Ownership::check_one(std::span<const std::byte> payload, std::uint32_t owner,
                          std::uint16_t port) {
    tally_.received.add(1);
    const auto stamp = read_stamp(payload);
    if (!stamp) {
        tally_.damaged.add(1);
        return;
    }
    if (owner == nobody && !owner_of_port_.empty()) {
        std::uint32_t& first = owner_of_port_[port];
        if (first == nobody) first = stamp->client;
        owner = first;
    }
    if (owner != nobody) {
        tally_.checked.add(1);
        if (owner != stamp->client) tally_.foreign.add(1);
    }
    if (stamp->client < next_sequence_.size()) {
        std::uint32_t& next = next_sequence_[stamp->client];
        if (stamp->sequence < next) {
            tally_.disordered.add(1);
        } else {
            next = stamp->sequence + 1;
        }
    }
}

}  // namespace udpproxy::traffic
