// Slot: the index of a socket in its shard's table of registered files. A slot is a plain value, so
// that a session's group can remember its members without knowing what a socket is. Only the engine
// turns a slot into a descriptor.
#pragma once

#include <cstdint>

namespace udpproxy {

enum class Slot : std::uint32_t {};

inline constexpr Slot no_slot = Slot{0xffffffffU};

[[nodiscard]] constexpr std::uint32_t index_of(Slot slot) noexcept {
    return static_cast<std::uint32_t>(slot);
}

}  // namespace udpproxy
