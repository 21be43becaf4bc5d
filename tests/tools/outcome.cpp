// Lines to standard output.
#include "outcome.hpp"

#include <cstdio>

namespace udpproxy::traffic {

void say(const nlohmann::ordered_json& line) {
    const std::string text = line.dump() + '\n';
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
}

}  // namespace udpproxy::traffic
