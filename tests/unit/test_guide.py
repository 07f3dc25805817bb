"""The guide names only what there is: options, pages, causes; and what it shows and does not run is counted."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from conformance import cases, cli
from conformance.baseline import load_baseline

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import pages  # noqa: E402 - after its folder is on the path

NOT_RUN = 0
"""How many blocks of code are shown and not run."""


def _blocks(*languages: str) -> Iterator[pages.Block]:
    return (block for page in pages.GUIDE for block in pages.blocks(page) if block.language in languages)


def _lines() -> Iterator[str]:
    for block in _blocks("sh"):
        # What is joined and what is continued, a command a line.
        yield from re.split(r"\n|&&", block.source.replace("\\\n", " "))
    for block in _blocks("console"):
        yield from (command.line for command in pages.commands(block))
    for block in _blocks("yaml"):
        yield from re.findall(r"(?:run: *|^ +)(conformance .*)$", block.source, re.MULTILINE)


def test_no_page_names_an_option_that_the_command_line_does_not_have() -> None:
    lines = [line for text in _lines() if (line := text.strip()).startswith("conformance ")]
    assert lines
    for line in lines:
        _, *arguments = shlex.split(line, comments=True)
        _parse(arguments, line)


def _parse(arguments: list[str], line: str) -> None:
    name, command, rest = cli.commands.resolve_command(click.Context(cli.commands), arguments)
    assert command is not None, line
    if not {"-h", "--help"} & set(rest):
        command.make_context(name, list(rest))


@pytest.mark.parametrize("line", ["conformance rin", "conformance run --colour", "conformance run --examples none"])
def test_what_the_command_line_does_not_have_is_noticed(line: str) -> None:
    with pytest.raises((click.ClickException, AssertionError)):
        _parse(shlex.split(line)[1:], line)


def test_the_options_of_the_pytest_plugin_are_there(pytestconfig: pytest.Config) -> None:
    named = {name for page in pages.GUIDE for name in re.findall(r"--conformance-[\w-]*\w", page.read_text("utf-8"))}
    assert "--conformance-report" in named
    for name in named:
        # One that does not exist is an error.
        pytestconfig.getoption(name)


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    left_out = [block for block in _blocks("python", "console") if block.not_run]
    assert len(left_out) == NOT_RUN, [(block.page.name, block.line) for block in left_out]


def _called(page: Path) -> list[str]:
    """The commands of a page that are run."""
    return [command.line for block in _blocks("console") if block.page == page for command in pages.commands(block)]


@pytest.mark.parametrize("page", pages.GUIDE, ids=lambda page: page.stem)
def test_tests_that_a_page_shows_as_a_file_are_run_by_a_command_of_the_page(page: Path) -> None:
    if any(block.file.endswith(".py") for block in pages.blocks(page)):
        assert any(line.startswith("pytest ") for line in _called(page))


def test_a_baseline_that_a_page_shows_is_one(tmp_path: Path) -> None:
    shown = [block for block in _blocks("json") if block.file]
    assert shown
    for block in shown:
        (tmp_path / block.file).write_text(block.source, "utf-8")
        assert load_baseline(tmp_path / block.file).findings


def test_everything_that_the_corpus_records_of_replicas_is_told() -> None:
    """A case that is added to the corpus gets a line of the page, with what to do about it."""
    told = pages.links(ROOT / "docs" / "several_gpus.md")
    recorded = [entry for entry in cases.entries() if any(name != "single" for name in entry.placements)]
    recorded = [entry for entry in recorded if any(seen.signatures for seen in entry.verdicts)]
    assert recorded
    assert [entry.name for entry in recorded if f"../cases/{entry.name}.case.json" not in told] == []


def test_the_first_page_leads_to_every_page() -> None:
    first = pages.links(ROOT / "docs" / "index.md")
    assert {path.name for path in pages.PAGES[1:]} - {"index.md"} <= {link.partition("#")[0] for link in first}
    assert "docs/index.md" in pages.links(ROOT / "README.md")


@pytest.mark.parametrize("page", pages.GUIDE, ids=lambda page: page.stem)
def test_links_lead_to_what_is_there(page: Path) -> None:
    for link in pages.links(page):
        target, _, anchor = link.partition("#")
        # An address that nobody checked is not linked.
        assert "://" not in link, link
        file = page.parent / target if target else page
        assert file.exists(), link
        if anchor and file.suffix == ".md":
            text = file.read_text("utf-8")
            assert anchor in _anchors(text) or f'id="{anchor}"' in text, link


def _anchors(text: str) -> list[str]:
    """What the titles of a page are linked by."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


def test_what_is_printed_may_leave_parts_out() -> None:
    assert pages.printed("one ... three", "one two three\n")
    assert not pages.printed("one three", "one two three")
    assert not pages.printed("one ...", "two one")
