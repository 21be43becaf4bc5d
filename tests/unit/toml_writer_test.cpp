// A configuration that is written down is read as the same one: what the next program goes on with
// must be what this one had in force.
#include <algorithm>
#include <filesystem>
#include <set>

#include "config_dump.hpp"
#include "source_tree.hpp"
#include "udpproxy/config/values.hpp"

namespace udpproxy {
namespace {

std::optional<Config> parsed(const std::string& text) {
    std::variant<Config, ConfigComplaints> result = parse_config(text, "test.toml");
    if (auto* config = std::get_if<Config>(&result)) return std::move(*config);
    return std::nullopt;
}
Config accepted(const std::string& text) {
    std::optional<Config> config = parsed(text);
    REQUIRE_MESSAGE(config.has_value(), text);
    return std::move(*config);
}

/// Whether the text of a configuration is read as the same one; so is each proxy's table alone.
void check_round_trip(const Config& config) {
    const std::string text = toml_of(config);
    CAPTURE(text);
    const std::optional<Config> again = parsed(text);
    REQUIRE(again.has_value());
    CHECK(dump(*again) == dump(config));
    CHECK(again->admin.socket_given == config.admin.socket_given);
    CHECK(toml_of(*again) == text);
    for (const ProxyConfig& proxy : config.proxies) {
        const std::optional<Config> alone = parsed(toml_of(proxy));
        REQUIRE(alone.has_value());
        REQUIRE(alone->proxies.size() == 1);
        Config expected;
        expected.proxies = {proxy};
        CHECK(dump(*alone) == dump(expected));
    }
}

/// Values of the key that are not its default, as TOML: the extremes, and all that can go wrong.
struct OtherValues {
    const ConfigKey& key;

    std::vector<std::string> operator()(const ConfigKey::Words& words) const {
        return all(
            words, [](std::string_view word) { return word; }, true);
    }
    std::vector<std::string> operator()(const ConfigKey::Numbers& bounds) const {
        return all(
            std::vector{bounds.least, bounds.most, bounds.least + 1},
            [](std::uint32_t number) { return std::to_string(number); }, false);
    }
    std::vector<std::string> operator()(const ConfigKey::Durations& bounds) const {
        const std::vector durations{bounds.least, bounds.most,
                                    bounds.least + std::chrono::microseconds{1}};
        return all(durations, format_duration, true);
    }
    std::vector<std::string> operator()(const ConfigKey::Sizes& bounds) const {
        return all(std::vector{bounds.least, bounds.most, bounds.least + 1}, format_size, true);
    }
    std::vector<std::string> operator()(const ConfigKey::Entries&) const { return form(); }
    std::vector<std::string> operator()(const ConfigKey::Form&) const { return form(); }

private:
    template <class Values, class Text>
    std::vector<std::string> all(const Values& values, Text&& text, bool quoted) const {
        std::vector<std::string> texts;
        for (const auto& value : values) {
            std::string written{text(value)};
            if (quoted) written = '"' + written + '"';
            if (written != key.default_value) texts.push_back(written);
        }
        return texts;
    }
    [[nodiscard]] std::vector<std::string> form() const {
        if (key.kind == "boolean") return {key.default_value == "true" ? "false" : "true"};
        if (key.name == "name") return {R"("d.n_s-")"};
        if (key.section == "proxy" && key.name == "listen")
            return {R"(":53")", R"(["[::1]:53", ":54", "127.0.0.1:53", ":55"])",
                    R"("[fe80::1%no-such-if]:53")", R"("[fe80::1%lo]:53")", R"("[fe80::1%7]:53")"};
        if (key.name == "listen") return {R"("127.0.0.1:9090")", R"("[::1]:9090")"};
        if (key.name == "upstream")
            return {R"("[2001:db8::1]:53")", R"("name.example.:53")", R"("[fe80::1%lo]:53")"};
        if (key.name == "reply_aliases")
            return {R"("127.0.0.253")", R"(["127.0.0.253:*", "10.0.0.0/8:53", "127.0.0.252:54"])"};
        if (key.name == "source") return {R"("127.0.0.2")", R"(["127.0.0.2", "127.0.0.3"])"};
        if (key.name == "ports") return {R"("1-1")", R"("20000-59999")"};
        // Strings that the program takes as they are. The letters are two, three and four bytes.
        CHECK(key.kind == "string");
        return {R"("/a \"quoted\" \\ 'path'")", R"("\u0001\t\n\u007f # = [x]")",
                "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xc2\x85\"", R"("\"\"\"")",
                R"("default")"};
    }
};

/// A minimal configuration, with one more key.
std::string with(const ConfigKey& key, const std::string& value) {
    std::string text = std::string{key.name} + " = " + value + '\n';
    // A burst without a rate is refused.
    if (key.name == "new_sessions_burst") text += "new_sessions_per_second = 1\n";
    const auto unless = [&](const char* name, const char* other) {
        return key.section == "proxy" && key.name == name ? "" : std::string{other} + '\n';
    };
    const std::string proxy = "[[proxy]]\n" + unless("name", "name = \"dns\"") +
                              unless("listen", "listen = \"127.0.0.1:12345\"") +
                              unless("upstream", "upstream = \"127.0.0.254:12345\"");
    if (key.section == "proxy") return proxy + text;
    return '[' + std::string{key.section} + "]\n" + text + proxy;
}

TEST_CASE("every key with another value than its default is written and read as the same") {
    const std::string plain =
        dump(accepted("[[proxy]]\nname = \"dns\"\nlisten = \"127.0.0.1:12345\"\nupstream = "
                      "\"127.0.0.254:12345\"\n"));
    for (const ConfigKey& key : config_keys()) {
        int different = 0;
        for (const std::string& value : std::visit(OtherValues{key}, key.accepts)) {
            const std::string text = with(key, value);
            CAPTURE(text);
            const std::optional<Config> config = parsed(text);
            if (!config) continue;  // its bounds depend on another key
            check_round_trip(*config);
            different += dump(*config) != plain;
        }
        CHECK_MESSAGE(different > 0, key.section, '.', key.name);
    }
}

TEST_CASE("only keys that differ from their defaults are written") {
    const std::string text =
        "[[proxy]]\nname = \"dns\"\nlisten = [\":53\"]\nupstream = \"10.0.0.254:53\"\n";
    CHECK(toml_of(accepted(text)) == text);
    CHECK(toml_of(accepted("[limits]\npool_min = 0\n[log]\nlevel = \"info\"\n" + text)) == text);
    const std::string sections =
        "[runtime]\nshards = 2\nbusy_poll = \"9us\"\n[limits]\npool_min = 1\n";
    CHECK(toml_of(accepted(sections + text)) == sections + text);
    CHECK(toml_of(accepted(sections + text).proxies[0]) == text);
}

TEST_CASE("an admin socket that was asked for stays one that was asked for") {
    const std::string proxy =
        "[[proxy]]\nname = \"a\"\nlisten = [\":53\"]\nupstream = \"10.0.0.254:53\"\n";
    const std::string text = "[admin]\nsocket = \"/run/udpproxy/admin.sock\"\n" + proxy;
    CHECK(toml_of(accepted(text)) == text);
}

TEST_CASE("every configuration of the documents and of the tests is read back as the same") {
    std::vector<std::string> texts{read_file(source_path("udpproxy.toml.example"))};
    const auto add_files = [&](const std::string& directory) {
        for (const auto& file : std::filesystem::directory_iterator{source_path(directory)})
            if (file.path().extension() != ".expected")
                texts.push_back(read_file(file.path().string()));
    };
    add_files("tests/unit/golden/config");
    add_files("fuzz/corpus/config");
    for (const auto& document : std::filesystem::directory_iterator{source_path("docs")}) {
        if (document.path().extension() != ".md") continue;
        bool is_toml = false;
        for (const std::string& line : lines_of(read_file(document.path().string()))) {
            if (line == "```toml") texts.emplace_back();
            if (is_toml && line != "```") texts.back() += line + '\n';
            is_toml = line == "```toml" || (is_toml && line != "```");
        }
    }
    int accepted_texts = 0;
    for (const std::string& text : texts) {
        const std::optional<Config> config = parsed(text);
        if (!config) continue;
        ++accepted_texts;
        check_round_trip(*config);
    }
    CHECK(accepted_texts >= 20);
}

}  // namespace
}  // namespace udpproxy
