// Words for a command line that CLI11 refuses: which command or option was meant.
#pragma once

#include <string>

namespace CLI {  // NOLINT(readability-identifier-naming): the library's own name
class App;
}

namespace udpproxy::ctl {

/// One line about the first word that no command or option has, or about a command that is missing;
/// empty when all of them are known.
[[nodiscard]] std::string usage_complaint(const CLI::App& app, int argc, char** argv);

}  // namespace udpproxy::ctl
