// Converts server blocks to [[proxy]] tables. values.hpp parses their addresses, as it does those
// of a TOML file, and the result must pass parse_config() before it is returned.
#include "udpproxy/config/caddyfile.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <list>
#include <set>

#include "snippets.hpp"
#include "udpproxy/base/nearest.hpp"
#include "udpproxy/base/printable.hpp"
#include "udpproxy/config/values.hpp"

namespace udpproxy {

namespace {

struct CaddyBlock {
    CaddyWord listen;
    CaddyWord upstream;
    std::vector<CaddyWord> aliases;
};

class BlockReader {
public:
    BlockReader(std::vector<CaddyLine> lines, Complaints& complaints)
        : lines_(std::move(lines)), complaints_(complaints) {}

    std::vector<CaddyBlock> read() {
        while (next_ < lines_.size()) read_block(lines_[next_++]);
        return std::move(blocks_);
    }

private:
    void complain(const CaddyWord& word, std::string message) {
        complaints_.add({word.at, in_quotes(word.text)}, std::move(message));
    }

    void read_block(CaddyLine header) {
        // A comma at the end of a line says that the list goes on in the next one.
        while (!header.back().is_quoted && header.back().text.ends_with(',') &&
               next_ < lines_.size()) {
            header.insert(header.end(), lines_[next_].begin(), lines_[next_].end());
            ++next_;
        }
        const CaddyWord first = header.front();
        const bool opened = is_brace(header.back(), "{");
        if (opened) header.pop_back();
        // Caddy allows commas between the words of a header and ignores them.
        for (CaddyWord& word : header)
            if (!word.text.empty() && word.text.back() == ',') word.text.pop_back();
        CaddyBlock block;
        if (read_header(header, first, block)) {
            read_body(first, opened, block);
            blocks_.push_back(std::move(block));
        } else if (opened) {
            skip_body();
        }
    }

    bool read_header(const CaddyLine& header, const CaddyWord& first, CaddyBlock& block) {
        if (header.empty() || is_brace(first, "}")) {
            complain(first, "a brace without its block; write `proxy LISTEN UPSTREAM {`");
            return false;
        }
        if (first.text.substr(0, 1) == "(") {
            complain(first,
                     "a snippet is written `(name) {`, its lines, and `}` on a line of its "
                     "own");
            return false;
        }
        if (lowered(header.front().text) != "proxy") {
            complain(first,
                     "not a block that can be migrated; only `proxy LISTEN UPSTREAM { … }` is");
            return false;
        }
        const auto brace = std::find_if(header.begin(), header.end(), [](const CaddyWord& word) {
            return word.text.find_first_of("{}") != std::string::npos;
        });
        if (brace != header.end()) {
            complain(*brace,
                     "a brace stands alone, the opening one at the end of its line and the closing "
                     "one on a line of its own");
            return false;
        }
        if (header.size() != 3) {
            complain(header.size() > 3 ? header[3] : first,
                     fmt::format(
                         "proxy has two addresses, where to listen and where to send to; {} given",
                         header.size() - 1));
            return false;
        }
        block.listen = header[1];
        block.upstream = header[2];
        return true;
    }

    /// Without braces the block extends to the end of the file.
    void read_body(const CaddyWord& header, bool braced, CaddyBlock& block) {
        while (next_ < lines_.size()) {
            const CaddyLine& line = lines_[next_++];
            if (is_brace(line.front(), "}")) {
                if (!braced) complain(line.front(), "a closing brace without an opening one");
                if (line.size() > 1)
                    complain(line[1], "a closing brace stands on a line of its own");
                return;
            }
            if (lowered(line.front().text) == "proxy") {
                complain(line.front(),
                         fmt::format("a block inside the block of line {}; {}", header.at.line,
                                     braced ? "its closing brace is missing"
                                            : "write braces around the lines of each block"));
                --next_;
                return;
            }
            read_directive(line, block);
        }
        if (braced) complain(header, "the closing brace of this block is missing");
    }

    /// Skips the body of a block whose header led to a complaint.
    void skip_body() {
        for (int depth = 1; next_ < lines_.size() && depth > 0; ++next_) {
            if (is_brace(lines_[next_].back(), "{")) ++depth;
            if (is_brace(lines_[next_].front(), "}")) --depth;
        }
    }

    void read_directive(const CaddyLine& line, CaddyBlock& block) {
        constexpr std::string_view known = "reply-addr-alias";
        const CaddyWord& directive = line.front();
        if (directive.text != known) {
            const std::string_view near = nearest(directive.text, {known});
            complain(directive,
                     near.empty()
                         ? "unknown directive; `proxy` blocks have `reply-addr-alias` alone"
                         : fmt::format("unknown directive; did you mean `{}`?", near));
            return;
        }
        if (line.size() == 1)
            complain(directive, "no address; write the ones that replies may come from");
        block.aliases.insert(block.aliases.end(), line.begin() + 1, line.end());
    }

    std::vector<CaddyLine> lines_;
    std::size_t next_ = 0;
    std::vector<CaddyBlock> blocks_;
    Complaints& complaints_;
};

/// The TOML, line by line, each with the position in the Caddyfile that it came from.
class TomlWriter {
public:
    TomlWriter(Complaints& complaints, const ServicePorts& service_ports,
               const HostAddresses& host_addresses)
        : complaints_(complaints), service_ports_(service_ports), host_addresses_(host_addresses) {}

    void write(CaddyBlock block) {
        number_port(block.listen);
        number_port(block.upstream);
        number_listener(block.listen);
        if (!lines_.empty()) line("", block.listen);
        line(fmt::format("# Line {} of the Caddyfile.", block.listen.at.line), block.listen);
        line("[[proxy]]", block.listen);
        line(fmt::format("name = {}", toml_string(name_of(block))), block.listen);
        if (const auto listen = parse_listen(block.listen.text); !listen)
            complain("proxy", block.listen, listen.error());
        line(fmt::format("listen = {}", toml_string(block.listen.text)), block.listen);
        write_upstream(block);
        write_aliases(block);
    }

    [[nodiscard]] std::string text() const {
        std::string text;
        for (const Line& each : lines_) text += each.text + '\n';
        return text;
    }
    /// The position in the Caddyfile that TOML line `number`, counted from 1, came from.
    [[nodiscard]] Position origin(std::size_t number) const {
        return number >= 1 && number <= lines_.size() ? lines_[number - 1].from : Position{};
    }

private:
    struct Line {
        std::string text;
        Position from;
    };

    void line(std::string text, const CaddyWord& from) {
        lines_.push_back({std::move(text), from.at});
    }
    void complain(std::string_view directive, const CaddyWord& word, const Error& error) {
        complaints_.add({word.at, std::string{directive}}, error.message);
    }

    /// `:domain` becomes `:53`.
    void number_port(CaddyWord& word) const {
        const std::size_t colon = word.text.rfind(':');
        if (colon == std::string::npos || !service_ports_) return;
        const std::string name = word.text.substr(colon + 1);
        if (name.empty() || name == "*" || (name.front() >= '0' && name.front() <= '9')) return;
        if (const std::optional<std::uint16_t> port = service_ports_(name))
            word.text = word.text.substr(0, colon + 1) + std::to_string(*port);
    }

    /// The addresses of `name:port` with their port; none when that is no name, or not resolved.
    [[nodiscard]] std::vector<std::string> resolve(const CaddyWord& word) const {
        const std::size_t colon = word.text.rfind(':');
        if (colon == std::string::npos || colon == 0 || !host_addresses_) return {};
        const std::string name = word.text.substr(0, colon);
        if (name.find_first_of(":[]/%*") != std::string::npos || parse_address(name)) return {};
        std::vector<std::string> resolved;
        for (const Address& address : host_addresses_(name))
            resolved.push_back((address.is_ipv4() ? format(address) : '[' + format(address) + ']') +
                               word.text.substr(colon));
        return resolved;
    }

    void number_listener(CaddyWord& word) {
        const std::vector<std::string> resolved = resolve(word);
        if (!resolved.empty()) word.text = resolved.front();
    }

    /// `proxy-PORT`, after the listener's port; further proxies on the same port get a number.
    std::string name_of(const CaddyBlock& block) {
        const auto listen = parse_listen(block.listen.text);
        const std::string base =
            fmt::format("proxy-{}", listen ? listen->front().endpoint.port : 0);
        std::string name = base;
        for (int number = 2; !names_.insert(name).second; ++number)
            name = fmt::format("{}-{}", base, number);
        return name;
    }

    void write_upstream(const CaddyBlock& block) {
        std::string upstream = block.upstream.text;
        // Without an address Go dials the loopback address.
        if (!upstream.empty() && upstream.front() == ':') upstream = "127.0.0.1" + upstream;
        const auto parsed = parse_upstream(upstream);
        if (!parsed) complain("proxy", block.upstream, parsed.error());
        upstream_ = parsed ? *parsed : UpstreamAddress{};
        line(fmt::format("upstream = {}", toml_string(upstream)), block.upstream);
    }

    /// The Caddy plugin accepts an alias that is listed twice or equals the upstream. Our
    /// configuration rejects it, so it is left out.
    void write_aliases(const CaddyBlock& block) {
        std::set<Endpoint> seen;
        if (upstream_.endpoint) seen.insert(*upstream_.endpoint);
        std::vector<const CaddyWord*> kept;
        std::list<CaddyWord> numbered;
        for (CaddyWord word : block.aliases) {
            number_port(word);
            const std::vector<std::string> resolved = resolve(word);
            if (!resolved.empty())
                line(
                    fmt::format("# {} had the addresses {}.", word.text, fmt::join(resolved, ", ")),
                    word);
            for (const std::string& address : resolved)
                numbered.push_back({word.at, address, word.is_quoted});
            if (resolved.empty()) numbered.push_back(std::move(word));
        }
        for (const CaddyWord& word : numbered) {
            const auto alias = parse_alias(word.text, upstream_.port == 0 ? 1 : upstream_.port);
            if (!alias) {
                complain("reply-addr-alias", word, alias.error());
            } else if (alias->is_exact() &&
                       !seen.insert(Endpoint{alias->prefix.address, alias->scope, *alias->port})
                            .second) {
                line(fmt::format("# {} is left out: listed already.", printable(alias->text)),
                     word);
            } else {
                kept.push_back(&word);
            }
        }
        if (kept.empty()) return;
        line("reply_aliases = [", *kept.front());
        for (const CaddyWord* word : kept)
            line(fmt::format("    {},", toml_string(word->text)), *word);
        line("]", *kept.back());
    }

    std::vector<Line> lines_;
    std::set<std::string> names_;
    UpstreamAddress upstream_;
    Complaints& complaints_;
    const ServicePorts& service_ports_;
    const HostAddresses& host_addresses_;
};

/// Reports what parse_config() rejects (two blocks on one listener, a loop, too many aliases) at
/// the positions in the Caddyfile.
void read_back(const TomlWriter& writer, Complaints& complaints) {
    const auto outcome = parse_config(writer.text(), "toml");
    const auto* found = std::get_if<ConfigComplaints>(&outcome);
    if (found == nullptr) return;
    for (const std::string& complaint : found->lines) {
        // `toml:LINE:COLUMN: what: message`
        const std::size_t text = complaint.find(": ");
        const Position from = writer.origin(std::strtoul(
            complaint.c_str() + std::min(complaint.size(), std::size_t{5}), nullptr, 10));
        complaints.add({from, "as TOML"},
                       complaint.substr(text == std::string::npos ? 0 : text + 2));
    }
}

}  // namespace

std::variant<std::string, ConfigComplaints> migrate_caddyfile(std::string_view text,
                                                              const std::string& name,
                                                              const Environment& environment,
                                                              const ServicePorts& service_ports,
                                                              const HostAddresses& host_addresses) {
    if (text.size() > caddyfile_bytes_max)
        return ConfigComplaints{{fmt::format("{}: cannot be read: it is larger than 1 MiB", name)}};
    if (const std::string_view reason = encoding_fault(text); !reason.empty())
        return ConfigComplaints{{fmt::format("{}: cannot be read: {}", name, reason)}};
    Complaints complaints{name};
    const std::vector<CaddyBlock> blocks =
        BlockReader{
            put_snippets_in_place(read_caddy_lines(text, environment, complaints), complaints),
            complaints}
            .read();
    TomlWriter writer{complaints, service_ports, host_addresses};
    for (const CaddyBlock& block : blocks) writer.write(block);
    if (complaints.empty() && blocks.empty())
        complaints.add({{}, "proxy"}, "there is no `proxy LISTEN UPSTREAM { … }` block");
    if (complaints.empty()) read_back(writer, complaints);
    if (!complaints.empty()) return ConfigComplaints{complaints.lines()};
    return writer.text();
}

}  // namespace udpproxy
