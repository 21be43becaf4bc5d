"""Prints the source of a manual page (scdoc) with what it takes from documents and code.

    pages.py PAGE.scd

Of the lines of PAGE, `@FILE.md` stands for that document without its title, `@FILE.md ## Heading`
for the text under that heading, and `@FILE.hpp LIST` for the entries of a list of the code.
Headings become one level higher, and a row of a table becomes a term with its description.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# In a table of more than two columns, cells under these headings describe the term, and the others
# are facts about it.
SENTENCES = {"meaning", "what to do about it"}


def literal(text):
    return re.sub(r"([\\*_])", r"\\\1", text)


def formatted(text):
    """Markdown within a paragraph: code, links, strong and emphasised text."""
    made = "\\" if text[:1] in "#|[]:;-." else ""  # what means something at the begin of a line
    for part in re.findall(r"`[^`]+`|!?\[[^\]]*\]\([^)]*\)|\*\*.+?\*\*|\*[^*]+\*|.", text, re.S):
        if len(part) > 2 and part[0] == "`":
            made += f"*{literal(part[1:-1])}*"
        elif len(part) > 3 and part[0] == "[":
            shown, target = part[1:-1].split("](")
            document = re.match(r"[\w.]+\.md", target)
            if document and shown in document[0]:
                shown = document[0]
            made += formatted(shown)
            if document and document[0] != shown:
                made += f" ({literal(document[0])})"
        elif len(part) > 2 and part[0] == "*":
            mark = "*" if part.startswith("**") else "_"
            made += mark + literal(part.strip("*")) + mark
        else:
            made += literal(part)
    return made


def cells(row):
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row.strip()[1:-1])]


def definitions(rows):
    header = cells(rows[0])
    for row in map(cells, rows[2:]):
        lines, facts = [], []
        for name, cell in zip(header[1:], row[1:]):
            if len(header) == 2 or name.lower() in SENTENCES:
                lines.append(formatted(cell))
            elif cell:
                facts.append(f"_{name.lower()}_ {formatted(cell)}")
        lines.append("; ".join(facts))
        yield from (formatted(row[0]), "\t" + "++\n".join(filter(None, lines)), "")


def converted(text):
    """A document of ours, from Markdown to scdoc."""
    for block in re.findall(r"```.*?\n```|(?:(?!```)[^\n]+\n?)+", text, re.S):
        lines = block.strip("\n").split("\n")
        if lines[0].startswith("#"):
            heading = lines[0][1:].replace("`", "")
            yield heading.upper() if re.match(r"# \w", heading) else heading
        elif lines[0].startswith("```"):
            yield from ["```", *(line.replace("\\", "\\\\") for line in lines[1:-1]), "```"]
        elif lines[0].startswith("    "):
            yield from ["```", *(line[4:].replace("\\", "\\\\") for line in lines), "```"]
        elif lines[0].startswith("|"):
            yield from definitions(lines)
            continue
        elif lines[0].startswith("- "):
            for item in re.split(r"^- ", "\n".join(lines), flags=re.MULTILINE)[1:]:
                yield "- " + formatted(" ".join(item.split()))
        else:
            yield formatted(" ".join(lines))
        yield ""


def document(path, heading):
    text = (ROOT / path).read_text(encoding="utf-8")
    if heading:
        if f"\n{heading}\n" not in text:
            sys.exit(f"pages.py: {path} has no heading {heading}")
        text = text[text.index(f"\n{heading}\n") + len(heading) + 2 :]
        text = re.split(r"^#", text, flags=re.MULTILINE)[0]
    else:
        text = re.sub(r"\A# .*\n", "", text)
    return converted(text)


def entries(path, name):
    """X(name, ["unit",] "help") of a list that is a macro."""
    text = (ROOT / path).read_text(encoding="utf-8")
    macro = re.search(rf"#define {name}\(X\)(.*?)\n\n", text, re.S)[1].replace("\\\n", "")
    for entry in re.findall(r"X\((\w+),.*?\"([^\"]*)\"\)", macro):
        yield from (f"*{literal(entry[0])}*", f"\t{literal(entry[1])}", "")


def page(path):
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        if taken := re.match(r"@(\S+) ?(.*)", line):
            make = document if taken[1].endswith(".md") else entries
            yield from make(*taken.groups())
        else:
            yield line


if __name__ == "__main__":
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(page(sys.argv[1])) + "\n")
    sys.stdout.buffer.write(text.encode())
