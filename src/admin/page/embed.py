"""Joins page.html, page.css and page.js into one page, and writes it as a C++ file, with the
Content-Security-Policy that allows exactly these and nothing else.

    embed.py OUTPUT.cpp
"""

import base64
import hashlib
import pathlib
import sys

HERE = pathlib.Path(__file__).parent


def hash_source(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def main():
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    page = (
        (HERE / "page.html")
        .read_text(encoding="utf-8")
        .replace("/*STYLE*/", style)
        .replace("/*SCRIPT*/", script)
    )
    policy = (
        f"default-src 'none'; style-src {hash_source(style)}; script-src {hash_source(script)}; "
        "connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert ')page"' not in page
    pathlib.Path(sys.argv[1]).write_text(
        f"""// Made by src/admin/page/embed.py; do not edit.
#include "admin/page.hpp"

namespace udpproxy {{

const std::string_view admin_page_text = R"page({page})page";
const std::string_view admin_page_policy = R"policy({policy})policy";

}}  // namespace udpproxy
""",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
