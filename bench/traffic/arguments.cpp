// Reads command lines.
#include "arguments.hpp"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <sstream>

namespace udpproxy::bench {
namespace {

[[noreturn]] void refuse(const std::string& name, const char* why) {
    std::fprintf(stderr, "--%s: %s\n", name.c_str(), why);
    std::exit(2);
}

}  // namespace

Arguments::Arguments(int count, const char* const* words, std::string_view known) {
    std::map<std::string, bool> is_flag;
    std::istringstream names{std::string(known)};
    for (std::string name; names >> name;) {
        const bool flag = name.back() == '!';
        if (flag) name.pop_back();
        is_flag[name] = flag;
    }
    for (int i = 1; i < count; ++i) {
        const std::string word = words[i];
        const std::string name = word.substr(0, 2) == "--" ? word.substr(2) : word;
        const auto found = is_flag.find(name);
        if (found == is_flag.end()) refuse(name, "unknown");
        if (found->second) {
            values_[name] = "";
        } else {
            if (++i == count) refuse(name, "needs a value");
            values_[name] = words[i];
        }
    }
}

std::string Arguments::text(const std::string& name, const std::string& otherwise) const {
    const auto found = values_.find(name);
    return found == values_.end() ? otherwise : found->second;
}

std::string Arguments::text(const std::string& name) const {
    if (!flag(name)) refuse(name, "missing");
    return values_.at(name);
}

std::uint64_t Arguments::number(const std::string& name, std::uint64_t otherwise) const {
    const auto found = values_.find(name);
    if (found == values_.end()) return otherwise;
    const std::string& digits = found->second;
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || end != digits.data() + digits.size()) refuse(name, "not a number");
    return value;
}

}  // namespace udpproxy::bench
