"""The page of questions is held to what happens: each loop is called what the page says, and its lines cure it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).parent / "loops"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs"))

import asked_on_one_device
import asked_on_replicas
from parts import Asked
from questions import EVERY, LOOP, NOBODY, Question

import conformance
from conformance.verdict import CONFORMS, DIVERGES, Verdict

MODULES: dict[str, ModuleType] = {
    name: module for module in (asked_on_one_device, asked_on_replicas) for name in module.ASKED
}
GATE = {
    "transfer_learning",
    "train_step_of_a_classifier",
    "accumulated_losses",
    "divided_by_a_constant",
}
"""Those that are tested with every change; all of them take minutes, and most have others of their cause beside them
in `test_loops.py`."""

CURED = [question for question in EVERY if question.instead]


def marked(questions: list[Question]) -> list[object]:
    return [
        pytest.param(item, id=item.name, marks=() if item.name in GATE else pytest.mark.nightly) for item in questions
    ]


def check(asked: Asked) -> Verdict:
    return conformance.check(asked.loop, replicas=asked.replicas, **asked.arguments())


@pytest.mark.parametrize("question", marked(list(EVERY)))
def test_the_verdict_is_the_answer_of_the_page(question: Question) -> None:
    verdict = check(MODULES[question.name].ASKED[question.name])
    if question.side == NOBODY:
        assert verdict.verdict == CONFORMS, str(verdict)
        return
    assert verdict.verdict == DIVERGES, str(verdict)
    assert {item.cause.name for item in verdict.observations} == {question.cause}, str(verdict)
    trainers = {(item.wrong_arm or "").partition("/")[0] for item in verdict.observations}
    assert trainers == {"trial" if question.side == LOOP else "fit"}, str(verdict)


@pytest.mark.nightly
@pytest.mark.parametrize("question", CURED, ids=lambda item: item.name)
def test_with_the_lines_of_the_page_it_conforms(question: Question, tmp_path: Path) -> None:
    verdict = check(cured(question, tmp_path).ASKED[question.name])
    assert verdict.verdict == CONFORMS, str(verdict)


def cured(question: Question, folder: Path) -> ModuleType:
    """The module of a loop with the page's lines in the function of its name.

    As a file, for TensorFlow reads the source of what it compiles.
    """
    origin = MODULES[question.name]
    source = Path(str(origin.__file__)).read_text("utf-8")
    before, start, after = source.partition(f"\ndef {question.name}(")
    assert start, f"no function is called {question.name}"
    body, end, rest = after.partition("\n\n\n")
    for old, new in question.instead:
        (line,) = [line for line in body.splitlines() if line.strip() == old]
        margin = line.removesuffix(old)
        body = f"{body}\n".replace(f"{line}\n", "".join(f"{margin}{part}\n" for part in new.splitlines())).rstrip("\n")
    file = folder / f"{origin.__name__}_{question.name}.py"
    file.write_text(before + start + body + end + rest, "utf-8")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
