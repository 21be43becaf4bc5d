// IndexList: a doubly linked list through items that live in a slab. The links are a member of the
// item, so a list needs no memory of its own, and joining or leaving it is a handful of stores.
// Used for cooling groups, the buckets of the expiry wheel and the order of eviction.
#pragma once

#include <cstdint>

#include "udpproxy/base/assert.hpp"

namespace udpproxy {

inline constexpr std::uint32_t no_index = 0xffffffffU;

struct ListLinks {
    std::uint32_t previous = no_index;
    std::uint32_t next = no_index;
};

class IndexList {
public:
    [[nodiscard]] bool empty() const noexcept { return front_ == no_index; }
    [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
    /// The oldest item, or no_index.
    [[nodiscard]] std::uint32_t front() const noexcept { return front_; }

    /// `links(index)` gives a reference to the item's ListLinks for this list.
    // Requires: the item is on no list through these links.
    template <class Links>
    void push_back(std::uint32_t index, Links&& links) {
        links(index) = ListLinks{back_, no_index};
        if (back_ == no_index)
            front_ = index;
        else
            links(back_).next = index;
        back_ = index;
        ++size_;
    }

    /// The same at the other end.
    template <class Links>
    void push_front(std::uint32_t index, Links&& links) {
        links(index) = ListLinks{no_index, front_};
        if (front_ == no_index)
            back_ = index;
        else
            links(front_).previous = index;
        front_ = index;
        ++size_;
    }

    // Requires: the item is on this list.
    template <class Links>
    void remove(std::uint32_t index, Links&& links) {
        UDPPROXY_ASSERT(size_ > 0);
        const ListLinks at = links(index);
        if (at.previous == no_index)
            front_ = at.next;
        else
            links(at.previous).next = at.next;
        if (at.next == no_index)
            back_ = at.previous;
        else
            links(at.next).previous = at.previous;
        links(index) = ListLinks{};
        --size_;
    }

private:
    std::uint32_t front_ = no_index;
    std::uint32_t back_ = no_index;
    std::uint32_t size_ = 0;
};

}  // namespace udpproxy
