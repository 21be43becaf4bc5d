// SipHash: a keyed hash that an attacker who chooses the input cannot steer without the key
// (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012). SipHash-1-3 (one compression,
// three finalisation rounds) is what hash tables use; 2-4 is here because its published vectors
// prove the code. Inputs are whole 64-bit words: every key of ours is padded to them.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace udpproxy {

/// 128 bits from getrandom(2), fresh per process, never logged.
struct SipKey {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
};

namespace siphash_detail {

struct State {
    std::uint64_t v0, v1, v2, v3;

    constexpr void round() noexcept {
        v0 += v1;
        v1 = std::rotl(v1, 13) ^ v0;
        v0 = std::rotl(v0, 32);
        v2 += v3;
        v3 = std::rotl(v3, 16) ^ v2;
        v0 += v3;
        v3 = std::rotl(v3, 21) ^ v0;
        v2 += v1;
        v1 = std::rotl(v1, 17) ^ v2;
        v2 = std::rotl(v2, 32);
    }
};

}  // namespace siphash_detail

/// The hash of `words` (little-endian words of a message of eight times as many bytes).
template <int compression_rounds, int finalisation_rounds, std::size_t N>
[[nodiscard]] constexpr std::uint64_t siphash(const SipKey& key,
                                              std::span<const std::uint64_t, N> words) noexcept {
    siphash_detail::State state{key.low ^ 0x736f6d6570736575U, key.high ^ 0x646f72616e646f6dU,
                                key.low ^ 0x6c7967656e657261U, key.high ^ 0x7465646279746573U};
    for (const std::uint64_t word : words) {
        state.v3 ^= word;
        for (int i = 0; i < compression_rounds; ++i) state.round();
        state.v0 ^= word;
    }
    const std::uint64_t last = (static_cast<std::uint64_t>(8 * words.size()) & 0xff) << 56;
    state.v3 ^= last;
    for (int i = 0; i < compression_rounds; ++i) state.round();
    state.v0 ^= last;
    state.v2 ^= 0xff;
    for (int i = 0; i < finalisation_rounds; ++i) state.round();
    return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}

template <int compression_rounds, int finalisation_rounds, std::size_t N>
[[nodiscard]] constexpr std::uint64_t siphash(const SipKey& key,
                                              const std::array<std::uint64_t, N>& words) noexcept {
    return siphash<compression_rounds, finalisation_rounds>(
        key, std::span<const std::uint64_t, N>{words});
}

template <std::size_t N>
[[nodiscard]] constexpr std::uint64_t siphash13(
    const SipKey& key, const std::array<std::uint64_t, N>& words) noexcept {
    return siphash<1, 3>(key, words);
}

}  // namespace udpproxy
