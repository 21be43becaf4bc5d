// Snippets of a Caddyfile: named lines that stand wherever they are imported.
#pragma once

#include "lexer.hpp"

namespace udpproxy {

[[nodiscard]] bool is_brace(const CaddyWord& word, std::string_view brace);
[[nodiscard]] std::string lowered(std::string text);

/// The lines without the snippets, `(name) {` to `}`, which now stand in the places of `import
/// name`. As in Caddy, a snippet stands before the lines that import it, so none can import itself.
/// Complains about unknown names, about files (they are not followed), and about more than 10 000
/// lines that snippets bring.
[[nodiscard]] std::vector<CaddyLine> put_snippets_in_place(const std::vector<CaddyLine>& lines,
                                                           Complaints& complaints);

}  // namespace udpproxy
