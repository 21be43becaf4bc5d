// FlatMap: from a 64-bit keyed hash to a 32-bit index, open addressing with linear probing, at most
// half full, capacity fixed at start. The keys live with what the index points to; the caller
// compares them, so a cell is eight bytes and a miss usually costs one cache line. Erasing shifts
// the run back instead of leaving tombstones, so probe lengths never grow with age (Knuth, TAOCP
// volume 3, section 6.4, algorithm R).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "udpproxy/base/assert.hpp"
#include "udpproxy/base/reserved.hpp"

namespace udpproxy {

class FlatMap {
public:
    /// Room for `entries_max` entries (1 to 2^30).
    explicit FlatMap(std::size_t entries_max)
        : entries_max_(entries_max), mask_(std::bit_ceil(entries_max * 2) - 1), cells_(mask_ + 1) {}

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::size_t entries_max() const noexcept { return entries_max_; }
    /// The longest probe any insertion ever needed, in cells; grows only. With a keyed hash at half
    /// load it stays small.
    [[nodiscard]] std::size_t longest_probe() const noexcept { return longest_probe_; }

    /// The index stored under `hash` for which `same(index)` holds.
    template <class Same>
    [[nodiscard]] std::optional<std::uint32_t> find(std::uint64_t hash, Same&& same) const {
        const std::uint32_t tag = tag_of(hash);
        for (std::size_t at = home_of(hash);; at = (at + 1) & mask_) {
            const Cell& cell = cells_[at];
            if (cell.tag == 0) return std::nullopt;
            if (cell.tag == tag && same(cell.index)) return cell.index;
        }
    }

    /// Begins to load the cell where a search for `hash` starts.
    void prefetch(std::uint64_t hash) const noexcept { __builtin_prefetch(&cells_[home_of(hash)]); }
    /// The index that find() will most likely compare first, or nothing when `hash` is likely
    /// unknown.
    [[nodiscard]] std::optional<std::uint32_t> peek(std::uint64_t hash) const noexcept {
        const Cell& cell = cells_[home_of(hash)];
        if (cell.tag != tag_of(hash)) return std::nullopt;
        return cell.index;
    }

    // Requires: size() < entries_max(), and that no equal key is in the map.
    void insert(std::uint64_t hash, std::uint32_t index) {
        UDPPROXY_ASSERT(size_ < entries_max_);
        std::size_t at = home_of(hash);
        std::size_t probe = 1;
        while (cells_[at].tag != 0) {
            at = (at + 1) & mask_;
            ++probe;
        }
        cells_[at] = Cell{tag_of(hash), index};
        ++size_;
        if (probe > longest_probe_) longest_probe_ = probe;
    }

    /// Removes the entry with this hash and index. `hash_of(index)` gives the hash of any entry in
    /// the map, to shift the run back.
    // Requires: the entry is in the map.
    template <class HashOf>
    void erase(std::uint64_t hash, std::uint32_t index, HashOf&& hash_of) {
        std::size_t hole = home_of(hash);
        while (cells_[hole].index != index || cells_[hole].tag != tag_of(hash)) {
            UDPPROXY_ASSERT(cells_[hole].tag != 0);
            hole = (hole + 1) & mask_;
        }
        for (std::size_t at = (hole + 1) & mask_; cells_[at].tag != 0; at = (at + 1) & mask_) {
            const std::size_t home = home_of(hash_of(cells_[at].index));
            // The cell may move into the hole unless its home lies cyclically behind the hole.
            if (((at - home) & mask_) >= ((at - hole) & mask_)) {
                cells_[hole] = cells_[at];
                hole = at;
            }
        }
        cells_[hole] = Cell{};
        --size_;
    }

private:
    struct Cell {
        std::uint32_t tag = 0;  // 0: empty
        std::uint32_t index = 0;
    };

    [[nodiscard]] std::size_t home_of(std::uint64_t hash) const noexcept {
        return static_cast<std::size_t>(hash) & mask_;
    }
    /// The upper half of the hash (the home is taken from the lower), never 0.
    [[nodiscard]] static std::uint32_t tag_of(std::uint64_t hash) noexcept {
        return static_cast<std::uint32_t>(hash >> 32) | 1U;
    }

    std::size_t entries_max_;
    std::size_t mask_;
    Reserved<Cell> cells_;
    std::size_t size_ = 0;
    std::size_t longest_probe_ = 0;
};

}  // namespace udpproxy
