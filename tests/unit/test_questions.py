"""The page of questions is the one that its data makes, and names and links only what there is."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from conformance.causes import CAUSES

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs"))

import pages
import questions

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "questions.md"
WORDS = 1500
"""As many as are read in some five minutes, lines of code not counted."""


def test_the_page_is_the_one_that_its_data_makes() -> None:
    assert PAGE.read_text("utf-8") == questions.questions_page(), "run `python docs/make.py`"


def test_a_question_is_asked_once() -> None:
    assert len({item.name for item in questions.EVERY}) == len(questions.EVERY)
    assert len({item.asks for item in questions.EVERY}) == len(questions.EVERY)


def test_every_loop_that_was_asked_about_is_of_a_question_and_every_question_has_one() -> None:
    """Read from the source, for the loops import TensorFlow."""
    names: list[str] = []
    for path in sorted((ROOT / "tests" / "quality" / "loops").glob("asked_*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        (table,) = [
            node.value
            for node in tree.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "ASKED"
        ]
        if isinstance(table, ast.Dict):
            names += [key.value for key in table.keys if isinstance(key, ast.Constant)]
        elif isinstance(table, ast.DictComp) and isinstance(table.generators[0].iter, ast.Tuple):
            names += [row.elts[0].value for row in table.generators[0].iter.elts]  # type: ignore[attr-defined]
    assert sorted(names) == sorted(item.name for item in questions.EVERY)


@pytest.mark.parametrize("question", questions.EVERY, ids=lambda item: item.name)
def test_an_answer_is_whole(question: questions.Question) -> None:
    assert question.asks.endswith("?")
    assert question.wrong.endswith(".")
    assert question.threads
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", thread) for thread in question.threads)
    assert (question.cause is None) == (question.side == questions.NOBODY)
    # What is wrong has a cure, and what is not has none.
    assert (question.cause is None) != bool(question.instead or question.cure)
    assert question.cause is None or question.cause in CAUSES


def test_the_page_links_threads_of_the_data_and_files_that_are_there() -> None:
    for link in pages.links(PAGE):
        target, _, anchor = link.partition("#")
        if link.startswith(questions.GITHUB):
            assert any(link == questions.address(thread) for item in questions.EVERY for thread in item.threads)
            continue
        assert "://" not in link, link
        assert (PAGE.parent / target).exists(), link
        assert not anchor or f"`{anchor}`" in (PAGE.parent / target).read_text("utf-8"), link


def test_the_page_is_read_in_minutes() -> None:
    text = re.sub(r"^```.*?^```$", "", PAGE.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert len(re.sub(r"\]\([^)]*\)", "]", text).split()) < WORDS
