// Trains as arithmetic: how many datagrams, where one is split, and what coalesces.
#include "udpproxy/net/train.hpp"

#include <doctest/doctest.h>

#include <random>
#include <vector>

namespace udpproxy {
namespace {

constexpr TrainLimits ample{65507, 65535};

struct Piece {
    std::uint32_t bytes = 0;
    std::uint32_t segment_bytes = 0;
};

/// The lengths of a piece's datagrams.
void append_datagrams(std::vector<std::uint32_t>& lengths, const Piece& piece) {
    if (segments_of(piece.bytes, piece.segment_bytes) == 1) {
        lengths.push_back(piece.bytes);
        return;
    }
    for (std::uint32_t at = 0; at < piece.bytes; at += piece.segment_bytes)
        lengths.push_back(std::min(piece.segment_bytes, piece.bytes - at));
}

/// What coalescing makes of a row of pieces, each of which fits into one send.
std::vector<Piece> coalesce(const std::vector<Piece>& pieces, const TrainLimits& limits) {
    std::vector<Piece> sends;
    for (std::size_t at = 0; at < pieces.size();) {
        Coalescing coalescing(pieces[at].bytes, pieces[at].segment_bytes, limits);
        ++at;
        while (at < pieces.size() && coalescing.take(pieces[at].bytes, pieces[at].segment_bytes))
            ++at;
        sends.push_back(Piece{coalescing.bytes(), coalescing.segment_bytes()});
    }
    return sends;
}

TEST_CASE("a train has as many datagrams as it has segments, the short one included") {
    CHECK(segments_of(0, 0) == 1);
    CHECK(segments_of(1200, 0) == 1);
    CHECK(segments_of(0, 100) == 1);
    CHECK(segments_of(100, 100) == 1);
    CHECK(segments_of(99, 100) == 1);
    CHECK(segments_of(101, 100) == 2);
    CHECK(segments_of(200, 100) == 2);
    CHECK(segments_of(65507, 1) == 65507);
}

TEST_CASE("a train that fits is not split, one that does not is split between segments") {
    CHECK(split(0, 0, ample) == 0);
    CHECK(split(65535, 0, ample) == 65535);  // the kernel refuses it, not we
    CHECK(split(1000, 100, ample) == 1000);
    CHECK(split(64 * 100, 100, ample) == 64 * 100);
    CHECK(split(64 * 100 + 1, 100, ample) == 64 * 100);
    CHECK(split(65527, 9361, TrainLimits{65507, 65535}) == 6 * 9361);
    CHECK(split(65527, 9361, TrainLimits{65527, 65535}) == 65527);
    CHECK(split(65527, 40000, ample) == 40000);
    CHECK(split(1000, 100, TrainLimits{65507, 99}) == 100);
    CHECK(split(1000, 100, TrainLimits{65507, 0}) == 100);
}

TEST_CASE("equal datagrams coalesce, and a shorter one ends the train") {
    Coalescing coalescing(100, 0, ample);
    CHECK(coalescing.segment_bytes() == 0);
    CHECK(coalescing.take(100, 0));
    CHECK(coalescing.segment_bytes() == 100);
    CHECK_FALSE(coalescing.take(101, 0));
    CHECK_FALSE(coalescing.take(0, 0));
    CHECK(coalescing.take(40, 0));
    CHECK_FALSE(coalescing.is_open());
    CHECK_FALSE(coalescing.take(40, 0));
    CHECK_FALSE(coalescing.take(100, 0));
    CHECK(coalescing.bytes() == 240);
    CHECK(coalescing.segments() == 3);
    CHECK(coalescing.segment_bytes() == 100);
}

TEST_CASE("an empty datagram stays alone") {
    Coalescing coalescing(0, 0, ample);
    CHECK_FALSE(coalescing.take(0, 0));
    CHECK_FALSE(coalescing.take(1, 0));
    CHECK(coalescing.segment_bytes() == 0);
    CHECK(coalescing.bytes() == 0);
}

TEST_CASE("trains coalesce with trains and datagrams of their segment size, until a short tail") {
    Coalescing coalescing(300, 100, ample);
    CHECK_FALSE(coalescing.take(300, 150));
    CHECK(coalescing.take(100, 0));
    CHECK(coalescing.take(250, 100));
    CHECK_FALSE(coalescing.take(100, 0));
    CHECK(coalescing.bytes() == 650);
    CHECK(coalescing.segments() == 7);
    Coalescing with_tail(250, 100, ample);
    CHECK_FALSE(with_tail.take(100, 0));
}

TEST_CASE(
    "coalescing ends at 64 segments, at the bytes of a send, and at the path's segment size") {
    Coalescing many(10, 0, ample);
    for (int i = 1; i < 64; ++i) REQUIRE(many.take(10, 0));
    CHECK_FALSE(many.take(10, 0));
    CHECK_FALSE(many.is_open());
    Coalescing nearly(63 * 10, 10, ample);
    CHECK_FALSE(nearly.take(20, 10));
    CHECK(nearly.take(10, 0));

    Coalescing large(1472, 0, ample);
    int taken = 1;
    while (large.take(1472, 0)) ++taken;
    CHECK(taken == 44);
    CHECK(large.bytes() <= 65507);

    Coalescing over_path(1400, 0, TrainLimits{65507, 1399});
    CHECK_FALSE(over_path.take(1400, 0));
    Coalescing off(1, 0, TrainLimits{65507, 0});
    CHECK_FALSE(off.take(1, 0));
}

TEST_CASE(
    "whatever is split and coalesced, the datagrams that leave are those that came, in order, "
    "within the limits") {
    std::mt19937 random(7);
    const auto draw = [&](std::uint32_t below) {
        return static_cast<std::uint32_t>(random() % below);
    };
    for (int round = 0; round < 3000; ++round) {
        const TrainLimits limits{draw(2) == 0 ? 65507U : 65527U,
                                 draw(4) == 0 ? draw(1500) : 65535U};
        const std::uint32_t size = 1 + draw(draw(2) == 0 ? 20 : 1500);
        std::vector<Piece> arrived;
        std::vector<std::uint32_t> lengths;
        for (std::uint32_t i = 0; i < 1 + draw(100); ++i) {
            Piece piece{draw(4) == 0 ? draw(2 * size) : size, 0};
            if (draw(3) == 0)
                piece = Piece{std::min(65535U, size * (1 + draw(100)) + draw(size)), size};
            append_datagrams(lengths, piece);
            arrived.push_back(piece);
        }
        std::vector<Piece> parts;
        for (Piece piece : arrived) {
            while (true) {
                const std::uint32_t bytes = split(piece.bytes, piece.segment_bytes, limits);
                parts.push_back(Piece{bytes, piece.segment_bytes});
                if (bytes == piece.bytes) break;
                piece.bytes -= bytes;
            }
        }
        std::vector<std::uint32_t> left;
        for (const Piece& send : coalesce(parts, limits)) {
            append_datagrams(left, send);
            const std::uint32_t segments = segments_of(send.bytes, send.segment_bytes);
            REQUIRE(segments <= train_segments_max);
            if (segments > 1) REQUIRE(send.bytes <= limits.bytes);
            if (segments > 1) REQUIRE(send.segment_bytes <= limits.segment_bytes);
        }
        REQUIRE(left == lengths);
    }
}

}  // namespace
}  // namespace udpproxy
