// ExpiryWheel: when each session is checked for expiry. A hashed timing wheel (Varghese, Lauck,
// 1987) with ticks of 67 ms: filing and removing are O(1), and the hot path never touches the
// wheel. A session is checked when it comes due, and filed anew if it was active meanwhile. A
// session that is due beyond the wheel's reach (275 s) is checked early and filed again.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <optional>

#include "udpproxy/base/index_list.hpp"
#include "udpproxy/base/time.hpp"

namespace udpproxy {

class ExpiryWheel {
public:
    static constexpr std::uint32_t buckets = 4096;
    static constexpr Duration tick{std::int64_t{1} << 26};

    [[nodiscard]] std::uint32_t size() const noexcept { return size_; }

    /// Files an item to be checked no earlier than `due` and at most one tick later. Returns its
    /// bucket, which the item must remember.
    template <class Links>
    [[nodiscard]] std::uint32_t file(std::uint32_t index, Instant due, Links&& links) {
        std::int64_t at = tick_of(due) + 1;
        if (at <= current_) at = current_ + 1;
        if (at > current_ + buckets - 1) at = current_ + buckets - 1;
        const auto bucket = static_cast<std::uint32_t>(at) & (buckets - 1);
        lists_[bucket].push_back(index, links);
        occupied_[bucket / 64] |= std::uint64_t{1} << (bucket % 64);
        ++size_;
        return bucket;
    }

    template <class Links>
    void remove(std::uint32_t index, std::uint32_t bucket, Links&& links) {
        lists_[bucket].remove(index, links);
        if (lists_[bucket].empty()) occupied_[bucket / 64] &= ~(std::uint64_t{1} << (bucket % 64));
        --size_;
    }

    /// Takes out the next item that is due, or nothing. The caller retires the item or files it
    /// again.
    template <class Links>
    [[nodiscard]] std::optional<std::uint32_t> take_due(Instant now, Links&& links) {
        const std::int64_t last = tick_of(now);
        if (size_ == 0 || last - current_ > buckets) current_ = size_ == 0 ? last : last - buckets;
        for (; current_ <= last; ++current_) {
            const auto bucket = static_cast<std::uint32_t>(current_) & (buckets - 1);
            if (lists_[bucket].empty()) continue;
            const std::uint32_t index = lists_[bucket].front();
            remove(index, bucket, links);
            return index;
        }
        --current_;  // the present tick may still be filed into
        return std::nullopt;
    }

    /// When the next item should be checked; nothing when the wheel is empty.
    [[nodiscard]] std::optional<Instant> next_due() const noexcept {
        if (size_ == 0) return std::nullopt;
        const auto start = static_cast<std::uint32_t>(current_) & (buckets - 1);
        for (std::uint32_t passed = 0; passed <= buckets;) {
            const std::uint32_t bucket = (start + passed) & (buckets - 1);
            const std::uint64_t word = occupied_[bucket / 64] >> (bucket % 64);
            if (word != 0) return Instant{tick * (current_ + passed + std::countr_zero(word))};
            passed += 64 - bucket % 64;
        }
        return std::nullopt;
    }

private:
    [[nodiscard]] static std::int64_t tick_of(Instant instant) noexcept {
        return instant.time_since_epoch() / tick;
    }

    std::unique_ptr<IndexList[]> lists_ = std::make_unique<IndexList[]>(buckets);
    std::array<std::uint64_t, buckets / 64> occupied_{};
    std::int64_t current_ = 0;  // the tick being checked
    std::uint32_t size_ = 0;
};

}  // namespace udpproxy
