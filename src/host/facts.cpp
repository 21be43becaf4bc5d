// Finds an interface in the facts of a host by its number.
#include "udpproxy/host/facts.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace udpproxy {

const InterfaceFacts* HostFacts::interface_of(std::uint32_t index) const {
    const auto place =
        std::find_if(interfaces.begin(), interfaces.end(),
                     [&](const InterfaceFacts& each) { return each.index == index; });
    return place != interfaces.end() ? &*place : nullptr;
}

std::string HostFacts::interface_name(std::uint32_t index) const {
    const InterfaceFacts* interface = interface_of(index);
    return interface != nullptr ? interface->name : fmt::format("interface {}", index);
}

}  // namespace udpproxy
