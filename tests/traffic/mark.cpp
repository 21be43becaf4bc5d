// A mark is a plain record with a hash behind it; both ends run on one machine, so byte order does
// not matter.
#include "mark.hpp"

#include <cstring>

#include "udpproxy/base/assert.hpp"

namespace udpproxy::traffic {

namespace {

constexpr std::uint64_t magic = 0x7564705f6d61726bULL;  // "udp_mark"
constexpr std::size_t hash_at = sizeof(magic) + sizeof(Mark);
static_assert(hash_at + sizeof(std::uint64_t) == mark_bytes);

std::uint64_t mix(std::uint64_t state, std::uint64_t word) {
    state = (state ^ word) * 0x9e3779b97f4a7c15ULL;
    return state ^ (state >> 29U);
}

std::uint64_t hash(std::span<const std::byte> bytes, std::uint64_t state) {
    while (bytes.size() >= sizeof(state)) {
        std::uint64_t word = 0;
        std::memcpy(&word, bytes.data(), sizeof(word));
        state = mix(state, word);
        bytes = bytes.subspan(sizeof(word));
    }
    std::uint64_t rest = bytes.size();
    for (const std::byte byte : bytes) rest = (rest << 8U) | std::to_integer<std::uint64_t>(byte);
    return mix(state, rest);
}

std::uint64_t hash_around(std::span<const std::byte> payload) {
    return hash(payload.subspan(mark_bytes), hash(payload.first(hash_at), magic));
}

}  // namespace

void write_mark(std::span<std::byte> payload, Mark mark) {
    UDPPROXY_ASSERT(payload.size() >= mark_bytes);
    mark.bytes = static_cast<std::uint32_t>(payload.size());
    std::memcpy(payload.data(), &magic, sizeof(magic));
    std::memcpy(payload.data() + sizeof(magic), &mark, sizeof(mark));
    std::uint64_t state = mix(mark.client, mark.sequence);
    for (std::span<std::byte> rest = payload.subspan(mark_bytes); !rest.empty();) {
        const std::size_t bytes = std::min(rest.size(), sizeof(state));
        std::memcpy(rest.data(), &state, bytes);
        state = mix(state, bytes);
        rest = rest.subspan(bytes);
    }
    const std::uint64_t sum = hash_around(payload);
    std::memcpy(payload.data() + hash_at, &sum, sizeof(sum));
}

std::optional<Mark> read_mark(std::span<const std::byte> payload) {
    if (payload.size() < mark_bytes || std::memcmp(payload.data(), &magic, sizeof(magic)) != 0)
        return std::nullopt;
    std::uint64_t sum = 0;
    std::memcpy(&sum, payload.data() + hash_at, sizeof(sum));
    if (sum != hash_around(payload)) return std::nullopt;
    Mark mark;
    std::memcpy(&mark, payload.data() + sizeof(magic), sizeof(mark));
    if (mark.bytes != payload.size()) return std::nullopt;
    return mark;
}

}  // namespace udpproxy::traffic
