"""The pages say what the code says, and the clauses are numbered sentences with sources."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from conformance.causes import CAUSES
from conformance.referee.clause import CHAPTERS, CLAUSES, Clause, clause
from conformance.referee.semantics import causes_page, escaped, registered, semantics_page, sources

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
COMMAND = "python docs/make.py"
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
"""Comes with rich, which prints with it."""

every = pytest.mark.parametrize("item", registered(), ids=lambda item: item.number)


def test_the_pages_are_what_the_code_says() -> None:
    made = {"semantics.md": semantics_page(), "causes.md": causes_page()}
    stale = [name for name, page in made.items() if _read(DOCS / name) != page]
    assert stale == [], f"write the pages anew: {COMMAND}"


def _read(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def test_the_command_that_the_failure_names_is_there() -> None:
    assert (ROOT / COMMAND.split()[1]).exists()
    assert COMMAND in semantics_page()
    assert COMMAND in causes_page()


def test_neither_page_needs_a_framework() -> None:
    code = (
        "import sys, conformance.causes, conformance.referee.semantics as pages\n"
        "pages.semantics_page(), pages.causes_page()\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (ran.returncode, ran.stdout.strip()) == (0, "[]"), ran.stderr


# The clauses.


@every
def test_a_clause_is_a_sentence(item: Clause) -> None:
    assert re.match(r"[A-Z]", item.sentence)
    assert re.search(r"[^.]\.$", item.sentence)


def problems(source: str) -> list[str]:
    """What keeps a source from being found: it is no address, no file of a repository, no paper with its year."""
    found = [
        re.search(r"https?://\S+", source),
        re.match(r"[\w.-]+/[\w.-]+, [\w./-]+\.\w+", source),
        re.search(r"[A-Z]\w+.* (19|20)\d\d\b", source),
    ]
    return [] if any(found) else [source]


@every
def test_a_clause_has_a_source_that_can_be_found(item: Clause) -> None:
    parts = item.source.split("; ")
    assert len([part for part in parts if not problems(part)]) > 0


@pytest.mark.parametrize("source", ["the documentation", "Kingma & Ba", "Layer.__call__, training", "2014"])
def test_a_source_that_cannot_be_found_is_seen(source: str) -> None:
    assert problems(source) == [source]


def test_numbers_leave_no_gaps() -> None:
    chapters = {
        chapter: [item.place[1] for item in items] for chapter, items in groupby(registered(), lambda i: i.place[0])
    }
    assert chapters == {chapter: list(range(1, len(chapters.get(chapter, ())) + 1)) for chapter in CHAPTERS}


def test_every_module_of_clauses_is_read() -> None:
    modules = (ROOT / "conformance" / "referee").glob("*.py")
    registering = {path.stem for path in modules if re.search(r"^@clause\(", path.read_text("utf-8"), re.MULTILINE)}
    assert registering == {item.function.__module__.rpartition(".")[2] for item in registered()}


def test_a_clause_without_a_docstring_is_refused() -> None:
    def silent() -> None: ...

    with pytest.raises(ValueError, match=r"clause 1\.99, silent, has no docstring"):
        clause("1.99", source="https://keras.io/")(silent)
    assert "1.99" not in CLAUSES


def test_a_number_is_not_given_twice() -> None:
    def another() -> None:
        """Another sentence."""

    taken = registered()[0]
    with pytest.raises(ValueError, match=rf"clause {taken.number} is {taken.name} already"):
        clause(taken.number, source="https://keras.io/")(another)
    assert CLAUSES[taken.number] is taken


@pytest.mark.parametrize("number", ["4", "4.0", "04.1", "4.1.1", "99.1", ""])
def test_what_is_no_number_is_refused(number: str) -> None:
    def numbered() -> None:
        """A sentence."""

    with pytest.raises(ValueError, match="is not the number of a clause"):
        clause(number, source="https://keras.io/")(numbered)


# The pages.


@pytest.mark.parametrize(
    ("formula", "shown"),
    [
        ("w = a * b * c", r"w = a \* b \* c"),
        ("s_n and a_n", r"s\_n and a\_n"),
        ("0 where |z| < l", r"0 where \|z\| \< l"),
        ("from [0, 1] to $x", r"from \[0, 1\] to \$x"),
        (r"\alpha", r"\\alpha"),
        ("`batch_size` times x_1", r"`batch_size` times x\_1"),
    ],
)
def test_a_formula_is_shown_as_it_is(formula: str, shown: str) -> None:
    assert escaped(formula) == shown
    assert shown_of(shown) == formula.replace("`", "")


def shown_of(markdown: str) -> str:
    """What a reader sees of a paragraph: its text and code, without the tags; fails where it is no paragraph."""
    opened, inline, closed = MARKDOWN.parse(markdown)
    assert (opened.type, closed.type) == ("paragraph_open", "paragraph_close")
    seen = {"text", "text_special", "code_inline"}
    kinds = {token.type for token in inline.children or ()}
    assert kinds <= {*seen, "html_inline", "strong_open", "strong_close"}
    return "".join(token.content for token in inline.children or () if token.type in seen)


@every
def test_the_page_shows_each_sentence_whole(item: Clause) -> None:
    line = f'<a id="{item.number}"></a>**{item.number}** '
    (found,) = [one for one in semantics_page().splitlines() if one.startswith(line)]
    assert shown_of(found) == f"{item.number} {item.sentence}".replace("`", "")


def test_a_formula_that_is_not_escaped_would_be_seen() -> None:
    with pytest.raises(AssertionError):
        shown_of("w = a *b* c")
    assert shown_of("w = a **b** c") != "w = a **b** c"


@every
def test_the_page_of_causes_shows_each_sentence_whole(item: Clause) -> None:
    replaced = [entry for entry in CAUSES.values() if entry.clause == item.number]
    assert all(f") {escaped(item.sentence)}" in _section(entry.name) for entry in replaced)


def _section(name: str) -> str:
    return causes_page().partition(f"## `{name}`")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", CAUSES)
def test_the_page_of_causes_has_sentence_stage_and_advice(name: str) -> None:
    entry, section = CAUSES[name], _section(name)
    assert shown_of(section.split("\n\n")[1]) == entry.sentence
    assert escaped(entry.advice) in section
    assert f"`{entry.stage.value}`" in section or entry.clause is None


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("https://keras.io/api/, apply_step", [r"<https://keras.io/api/>, apply\_step"]),
        ("Ioffe & Szegedy 2015; https://keras.io/", [r"Ioffe \& Szegedy 2015", "<https://keras.io/>"]),
        ("owner/name, src/a_b.py, f", [r"[src/a\_b.py](https://github.com/owner/name/blob/master/src/a_b.py), f"]),
    ],
)
def test_addresses_are_links(source: str, shown: list[str]) -> None:
    assert sources(replace(registered()[0], source=source)) == shown


def test_links_between_the_pages_arrive() -> None:
    semantics, causes = semantics_page(), causes_page()
    numbers = set(re.findall(r'<a id="([\d.]+)"></a>', semantics))
    names = set(re.findall(r"^## `(\w+)`$", causes, re.MULTILINE))
    assert numbers == {item.number for item in registered()}
    assert names == set(CAUSES)
    assert set(re.findall(r"\(semantics\.md#([\d.]+)\)", causes)) <= numbers
    assert set(re.findall(r"\((?:causes\.md)?#(\w+)\)", semantics + causes)) == names


def test_the_causes_of_a_clause_stand_beside_it() -> None:
    page = semantics_page()
    for entry in CAUSES.values():
        if entry.clause is not None:
            told = page.partition(f'<a id="{entry.clause}">')[2].partition("<a id=")[0]
            assert f"(causes.md#{entry.name})" in told
