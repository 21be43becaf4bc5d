// Reads snippets as they come, and copies their lines to where they are imported.
#include "snippets.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace udpproxy {

bool is_brace(const CaddyWord& word, std::string_view brace) {
    return !word.is_quoted && word.text == brace;
}

std::string lowered(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](char letter) {
        return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + 32) : letter;
    });
    return text;
}

namespace {

constexpr std::size_t copies_max = 10'000;

class Snippets {
public:
    explicit Snippets(Complaints& complaints) : complaints_(complaints) {}

    std::vector<CaddyLine> put_in_place(const std::vector<CaddyLine>& lines) {
        std::vector<CaddyLine> result;
        for (std::size_t next = 0; next < lines.size(); ++next) {
            const CaddyLine& line = lines[next];
            if (is_snippet(line))
                next = read_snippet(lines, next);
            else
                add(line, result);
        }
        return result;
    }

private:
    static bool is_snippet(const CaddyLine& line) {
        const std::string& name = line.front().text;
        return line.size() == 2 && is_brace(line[1], "{") && name.size() > 2 &&
               name.front() == '(' && name.back() == ')';
    }

    /// Returns the index of the closing brace's line.
    std::size_t read_snippet(const std::vector<CaddyLine>& lines, std::size_t header) {
        const std::string& name = lines[header].front().text;
        std::vector<CaddyLine> body;
        std::size_t depth = 1;
        for (std::size_t next = header + 1; next < lines.size(); ++next) {
            if (is_brace(lines[next].back(), "{")) ++depth;
            if (is_brace(lines[next].front(), "}") && --depth == 0) {
                snippets_[name.substr(1, name.size() - 2)] = std::move(body);
                return next;
            }
            add(lines[next], body);
        }
        complaints_.add({lines[header].front().at, in_quotes(name)},
                        "the closing brace of this snippet is missing");
        return lines.size();
    }

    void add(const CaddyLine& line, std::vector<CaddyLine>& to) {
        if (lowered(line.front().text) != "import") {
            to.push_back(line);
            return;
        }
        const auto found = line.size() == 2 ? snippets_.find(line[1].text) : snippets_.end();
        if (found == snippets_.end())
            complaints_.add({line.front().at, "import"},
                            "there is no snippet of this name before this line, and files are not "
                            "followed; write their lines here");
        else if ((copied_ += found->second.size()) <= copies_max)
            to.insert(to.end(), found->second.begin(), found->second.end());
        else
            complaints_.add({line.front().at, "import"},
                            fmt::format("snippets bring more than {} lines", copies_max));
    }

    std::map<std::string, std::vector<CaddyLine>, std::less<>> snippets_;
    std::size_t copied_ = 0;
    Complaints& complaints_;
};

}  // namespace

std::vector<CaddyLine> put_snippets_in_place(const std::vector<CaddyLine>& lines,
                                             Complaints& complaints) {
    return Snippets{complaints}.put_in_place(lines);
}

}  // namespace udpproxy
