// Every input of fuzz/corpus through its target, in every build. A law that breaks ends the
// process; doctest then names the input.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz/targets.hpp"
#include "told_on_abort.hpp"

namespace udpproxy::fuzz {
namespace {

namespace fs = std::filesystem;

const fs::path corpora = "fuzz/corpus";  // the tests run in the top directory

std::vector<std::uint8_t> bytes_of(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

TEST_CASE("no input of a fuzz target's corpus breaks a law") {
    ToldOnAbort told;
    for (const Target& target : targets) {
        CAPTURE(target.name);
        told.at(std::string{target.name} + ", no bytes");
        target.run({});
        std::size_t inputs = 0;
        for (const fs::directory_entry& entry : fs::directory_iterator(corpora / target.name)) {
            told.at(entry.path().string());
            target.run(bytes_of(entry.path()));
            ++inputs;
        }
        CHECK(inputs > 0);
    }
}

TEST_CASE("every corpus belongs to a fuzz target") {
    for (const fs::directory_entry& entry : fs::directory_iterator(corpora)) {
        const std::string name = entry.path().filename().string();
        CAPTURE(name);
        CHECK(std::any_of(targets.begin(), targets.end(),
                          [&](const Target& target) { return target.name == name; }));
    }
}

}  // namespace
}  // namespace udpproxy::fuzz
