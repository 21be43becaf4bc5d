// The status page: one self-contained document, made of page/ when the program is built.
#pragma once

#include <string_view>

namespace udpproxy {

extern const std::string_view admin_page_text;
/// Its Content-Security-Policy: this style, this script, and requests to this program.
extern const std::string_view admin_page_policy;

}  // namespace udpproxy
