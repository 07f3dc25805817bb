"""The pages of the guide as data: their blocks of code, their links, and what is promised of each.

A page is read by these rules, which its readers need not know, for they are what a page looks like anyway:

- A `python` block is run; all blocks of a page in order, in one module. The `text` block that follows one directly is
  what it prints.
- A `python` block whose first line names a file, as in `# test_loops.py`, is that file, and is not run by itself. A
  block of another language is a file where an HTML comment before it names one: `<!-- file: known.json -->`.
- A `console` block holds commands, `$ conformance info`, each with what it prints below it. `$ echo $?` prints the exit
  code of the one before.
- In what is printed, `...` stands for anything.
- An HTML comment `<!-- not run: why -->` before a block says why it is not run.
"""
# ruff: noqa: INP001 - beside the pages, not a package

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MADE = frozenset({"causes.md", "questions.md", "semantics.md"})
"""Pages that `make.py` writes from the code or from data, which have tests of their own."""

PAGES: tuple[Path, ...] = (ROOT / "README.md", *sorted(set((ROOT / "docs").glob("*.md"))))
GUIDE: tuple[Path, ...] = tuple(path for path in PAGES if path.name not in MADE)
"""The pages that are written by hand."""

_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<source>.*?)^```$", re.DOTALL | re.MULTILINE)
_NOT_RUN = re.compile(r"<!-- not run: (?P<why>.+?) -->\s*\Z", re.DOTALL)
_NAMED = re.compile(r"<!-- file: (?P<name>\S+) -->\s*\Z")
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?P<target>[^)\s]+)\)")
_FILE = re.compile(r"# (?P<name>[\w./-]+\.\w+)\n")
_ANY = "..."


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: the file it is in.
        line: the line of its first line of code, from 1.
        language: as the fence says.
        source: the code.
        prints: what it prints, as the page has it; None where nothing is promised.
        not_run: why it is not run, or nothing.
        file: the name of the file that it is, or nothing.
    """

    page: Path
    line: int
    language: str
    source: str
    prints: str | None = None
    not_run: str = ""
    file: str = ""


@dataclass(frozen=True)
class Command:
    """A command of a `console` block, and what it prints."""

    line: str
    prints: str


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order; one that says what another prints is no block of its own."""
    text = page.read_text("utf-8")
    found: list[Block] = []
    end = 0
    for match in _BLOCK.finditer(text):
        between, end = text[end : match.start()], match.end()
        language, source = match["language"], match["source"]
        if language == "text" and found and found[-1].language == "python" and not between.strip():
            found[-1] = replace(found[-1], prints=source)
            continue
        marked, named = _NOT_RUN.search(between), _NAMED.search(between)
        if language == "python":
            named = _FILE.match(source)
        line = text.count("\n", 0, match.start("source")) + 1
        not_run = " ".join(marked["why"].split()) if marked else ""
        found.append(Block(page, line, language, source, not_run=not_run, file=named["name"] if named else ""))
    return found


def commands(block: Block) -> list[Command]:
    """The commands of a `console` block."""
    parts = re.split(r"^\$ ", block.source, flags=re.MULTILINE)
    assert not parts[0].strip(), f"{block.page.name}:{block.line} begins with what no command prints"
    return [Command(*part.split("\n", 1)) for part in parts[1:]]


def links(page: Path) -> list[str]:
    """The targets of a page's links, outside of its blocks."""
    return [match["target"] for match in _LINK.finditer(_BLOCK.sub("", page.read_text("utf-8")))]


def printed(wanted: str, seen: str) -> bool:
    """Whether something prints what a page says; `...` in the page stands for anything, ends of lines do not count."""
    pattern = ".*".join(map(re.escape, _even(wanted).split(_ANY)))
    return re.fullmatch(pattern, _even(seen), re.DOTALL) is not None


def _even(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
