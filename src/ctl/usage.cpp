// Walks the words as CLI11 does: a command opens its own commands, and an option may take the next
// word.
#include "usage.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <vector>

#include "udpproxy/base/nearest.hpp"

namespace udpproxy::ctl {

namespace {

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
    return app.get_subcommands([](const CLI::App*) { return true; });
}

const CLI::Option* find_option(const CLI::App& app, const std::string& name) {
    for (const CLI::Option* option : app.get_options())
        if (option->check_name(name)) return option;
    return nullptr;
}

std::string unknown_command(const CLI::App& app, const std::string& word) {
    std::vector<std::string> names;
    for (const CLI::App* command : commands_of(app)) names.push_back(command->get_name());
    if (word.empty())
        return fmt::format("a command is missing; there {} {}", names.size() == 1 ? "is" : "are",
                           listed(names, "and"));
    return unknown_word("command", word, {names.begin(), names.end()});
}

std::string unknown_option(const CLI::App& app, const CLI::App& command, const std::string& word) {
    std::vector<std::string> names;
    for (const CLI::App* each : {&app, &command})
        for (const CLI::Option* option : each->get_options())
            for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    return unknown_word("option", word, {names.begin(), names.end()});
}

}  // namespace

std::string usage_complaint(const CLI::App& app, int argc, char** argv) {
    const CLI::App* command = &app;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        if (word.size() > 1 && word.front() == '-') {
            const std::size_t equals = word.find('=');
            const std::string name = word.substr(0, equals);
            const CLI::Option* option = find_option(*command, name);
            if (option == nullptr) option = find_option(app, name);
            if (option == nullptr) return unknown_option(app, *command, name);
            if (equals == std::string::npos && option->get_items_expected_min() > 0) ++i;
            continue;
        }
        const std::vector<const CLI::App*> commands = commands_of(*command);
        if (commands.empty()) continue;
        const CLI::App* found = nullptr;
        for (const CLI::App* each : commands)
            if (each->check_name(word)) found = each;
        if (found == nullptr) return unknown_command(*command, word);
        command = found;
    }
    return commands_of(*command).empty() ? "" : unknown_command(*command, "");
}

}  // namespace udpproxy::ctl
