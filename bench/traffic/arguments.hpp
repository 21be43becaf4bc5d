// The command lines of the benchmark's programs: `--name value` pairs and `--flag`s, written by the
// runner. Anything unknown, missing or malformed ends the program with a message.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace udpproxy::bench {

class Arguments {
public:
    // `known`: the names without their dashes, separated by spaces; those that are flags end in
    // `!`.
    Arguments(int count, const char* const* words, std::string_view known);

    std::string text(const std::string& name, const std::string& otherwise) const;
    std::string text(const std::string& name) const;  // must be there
    std::uint64_t number(const std::string& name, std::uint64_t otherwise) const;
    bool flag(const std::string& name) const { return values_.count(name) > 0; }

private:
    std::map<std::string, std::string> values_;
};

}  // namespace udpproxy::bench
