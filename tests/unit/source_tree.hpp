// Files of the source tree, for tests that compare documents and golden files with the code. Paths
// are relative to the tree's top, which is where meson starts the tests; UDPPROXY_SOURCE_DIR names
// it otherwise.
#pragma once

#include <doctest/doctest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#ifndef UDPPROXY_SOURCE_DIR
#define UDPPROXY_SOURCE_DIR "."
#endif

namespace udpproxy {

inline std::string source_path(const std::string& path) {
    return std::string{UDPPROXY_SOURCE_DIR} + "/" + path;
}

inline std::string read_file(const std::string& path) {
    std::ifstream file{path, std::ios::binary};
    REQUIRE_MESSAGE(file.good(),
                    path << " cannot be read; start the tests at the top of the source tree");
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

inline std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream stream{text};
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
}

}  // namespace udpproxy
