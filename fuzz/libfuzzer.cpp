// libFuzzer's entry. FUZZ_TARGET in the environment names the target; run.py sets it.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "fuzz/targets.hpp"

namespace {

const udpproxy::fuzz::Target& chosen_target() {
    const char* const name = std::getenv("FUZZ_TARGET");
    for (const udpproxy::fuzz::Target& target : udpproxy::fuzz::targets)
        if (name != nullptr && target.name == name) return target;
    std::fputs("FUZZ_TARGET names one of:\n", stderr);
    for (const udpproxy::fuzz::Target& target : udpproxy::fuzz::targets)
        std::fprintf(stderr, "%.*s\n", static_cast<int>(target.name.size()), target.name.data());
    std::exit(2);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const udpproxy::fuzz::Target& target = chosen_target();
    target.run({data, size});
    return 0;
}
