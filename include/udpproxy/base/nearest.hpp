// The word that a mistyped one most likely means, for every place that refuses a word of a known
// list: keys of the configuration, commands, options, names of proxies.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace udpproxy {

/// The candidate that a mistyped, shortened or twisted `name` most likely means (`sesions`,
/// `timeout`, `max_sessions`); empty if none is near.
[[nodiscard]] std::string_view nearest(std::string_view name,
                                       const std::vector<std::string_view>& candidates);

/// `there is no command "sesions"; did you mean sessions?`, or `…; there are a, b and c`. More
/// candidates than `listed_max` are not listed.
[[nodiscard]] std::string unknown_word(std::string_view thing, std::string_view word,
                                       const std::vector<std::string_view>& candidates);
inline constexpr std::size_t listed_max = 20;

/// `a, b and c`
[[nodiscard]] std::string listed(const std::vector<std::string>& words,
                                 std::string_view conjunction);

}  // namespace udpproxy
