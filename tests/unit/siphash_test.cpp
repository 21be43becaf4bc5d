// SipHash against the vectors its authors published (github.com/veorq/SipHash, vectors.h) and
// against what OpenSSL says of 1-3.
#include "udpproxy/base/siphash.hpp"

#include <doctest/doctest.h>

#include <set>

namespace udpproxy {
namespace {

// The reference's key is the bytes 00 01 02 … 0f, its inputs are the bytes 00 01 02 … of each
// length; of those, whole words are for us.
constexpr SipKey reference_key{0x0706050403020100, 0x0f0e0d0c0b0a0908};

template <std::size_t N>
std::array<std::uint64_t, N> reference_input() {
    std::array<std::uint64_t, N> words{};
    for (std::size_t byte = 0; byte < 8 * N; ++byte)
        words[byte / 8] |= std::uint64_t{byte} << (8 * (byte % 8));
    return words;
}

/// The hash's bytes as the reference prints them.
std::uint64_t in_print_order(std::uint64_t hash) { return __builtin_bswap64(hash); }

template <int c, int d, std::size_t N>
std::uint64_t printed() {
    return in_print_order(siphash<c, d>(reference_key, reference_input<N>()));
}

TEST_CASE("SipHash-2-4 gives the published vectors for every length of whole words") {
    CHECK(printed<2, 4, 0>() == 0x310e0edd47db6f72);
    CHECK(printed<2, 4, 1>() == 0x6224939a79f5f593);
    CHECK(printed<2, 4, 2>() == 0xdb9bc2577fcc2a3f);
    CHECK(printed<2, 4, 3>() == 0x94af49f6c650adb8);
    CHECK(printed<2, 4, 4>() == 0xce7cf2722f512771);
    CHECK(printed<2, 4, 5>() == 0xd0a704536ba93e0e);
    CHECK(printed<2, 4, 6>() == 0x51a9cb9ecba312e6);
    CHECK(printed<2, 4, 7>() == 0xbd838d3aafbf8db7);
}

TEST_CASE(
    "SipHash-1-3 gives what OpenSSL computes with one compression and three finalisation rounds") {
    CHECK(printed<1, 3, 0>() == 0xdcc40f055801acab);
    CHECK(printed<1, 3, 1>() == 0x8e9a298d11959036);
    CHECK(printed<1, 3, 2>() == 0x668b907d1add4fcc);
    CHECK(printed<1, 3, 3>() == 0x8c9c3467b2ae64f4);
    CHECK(printed<1, 3, 4>() == 0x0db6a7166c7b1581);
    CHECK(printed<1, 3, 5>() == 0x3115e4993236d2c1);
    CHECK(printed<1, 3, 6>() == 0x464c07dff843319f);
    CHECK(printed<1, 3, 7>() == 0x756d3c24dbc0bcb4);
    CHECK(siphash13(reference_key, reference_input<5>()) ==
          siphash<1, 3>(reference_key, reference_input<5>()));
}

TEST_CASE("SipHash can be computed by the compiler") {
    static_assert(siphash<2, 4>(reference_key, std::array<std::uint64_t, 1>{0x0706050403020100}) ==
                  0x93f5f5799a932462);
}

TEST_CASE("every bit of the key and of the input changes the hash") {
    const auto input = reference_input<5>();
    std::set<std::uint64_t> seen{siphash13(reference_key, input)};
    for (int bit = 0; bit < 64; ++bit) {
        SipKey low = reference_key;
        low.low ^= std::uint64_t{1} << bit;
        SipKey high = reference_key;
        high.high ^= std::uint64_t{1} << bit;
        CHECK(seen.insert(siphash13(low, input)).second);
        CHECK(seen.insert(siphash13(high, input)).second);
        for (std::size_t word = 0; word < input.size(); ++word) {
            auto other = input;
            other[word] ^= std::uint64_t{1} << bit;
            CHECK(seen.insert(siphash13(reference_key, other)).second);
        }
    }
}

}  // namespace
}  // namespace udpproxy
