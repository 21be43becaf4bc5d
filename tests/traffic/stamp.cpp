// Writes and reads the stamp. Little endian or big: writer and reader are one machine.
#include "stamp.hpp"

#include <cstring>

#include "udpproxy/base/assert.hpp"

namespace udpproxy::traffic {
namespace {

constexpr std::uint32_t magic = 0x31504455;

struct Head {
    std::uint32_t magic;
    std::uint32_t client;
    std::uint32_t sequence;
    std::uint32_t payload_bytes;
};

std::uint64_t tail_of(Stamp stamp) {
    return (std::uint64_t{stamp.client} << 32 | stamp.sequence) * 0x9e3779b97f4a7c15U;
}

}  // namespace

void write_stamp(std::span<std::byte> payload, Stamp stamp) {
    UDPPROXY_ASSERT(payload.size() >= stamp_bytes_min);
    const Head head{magic, stamp.client, stamp.sequence,
                    static_cast<std::uint32_t>(payload.size())};
    const std::uint64_t tail = tail_of(stamp);
    std::memcpy(payload.data(), &head, sizeof head);
    std::memcpy(payload.last(sizeof tail).data(), &tail, sizeof tail);
}

std::optional<Stamp> read_stamp(std::span<const std::byte> payload) {
    if (payload.size() < stamp_bytes_min) return std::nullopt;
    Head head{};
    std::uint64_t tail = 0;
    std::memcpy(&head, payload.data(), sizeof head);
    std::memcpy(&tail, payload.last(sizeof tail).data(), sizeof tail);
    const Stamp stamp{head.client, head.sequence};
    if (head.magic != magic || head.payload_bytes != payload.size() || tail != tail_of(stamp))
        return std::nullopt;
    return stamp;
}

}  // namespace udpproxy::traffic
