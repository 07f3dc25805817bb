"""Hand-written loops, as people write them: each mistake is called by its name, and what is right conforms."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "loops"))

from loop_catalog import LOOPS, Loop

import conformance
from conformance.causes import CAUSES
from conformance.verdict import CONFORMS, DIVERGES, Verdict

WRONG = [loop for loop in LOOPS if loop.cause is not None]
CORRECT = [loop for loop in LOOPS if loop.cause is None]
GATE = 12
"""So many correct loops, and one wrong loop a name, are tested with every change; the others take minutes."""

NIGHTLY = {"replica_reported_loss", "replica_fixed_batch_divisor", "replica_batch_size"}
"""Names whose loops are whole ones on replicas, which TensorFlow traces anew at each call: ten seconds each."""


def marked(loops: list[Loop], gate: list[Loop]) -> list[object]:
    """Parameters of a test, those that are not in the gate for the nightly session."""
    return [pytest.param(loop, id=loop.name, marks=() if loop in gate else pytest.mark.nightly) for loop in loops]


FIRST = list({loop.cause: loop for loop in reversed(WRONG) if loop.cause not in NIGHTLY}.values())

# Two trainings that are both right: rounding is no divergence.
ROUNDING = "rounding_amplified"

# Names that no loop of one's own is needed for, or that are given where nothing has a name.
NOT_OF_A_LOOP = {
    "raises_in_one_arm",
    "raises_in_every_arm",
    "unexplained",
    "batch_skipped",
    "callbacks_not_called",
}


def check(loop: Loop) -> Verdict:
    return conformance.check(loop.loop, replicas=loop.replicas, executions=loop.executions, **loop.arguments())


@pytest.mark.parametrize("loop", marked(WRONG, FIRST))
def test_a_mistake_is_called_by_its_name_and_by_no_other(loop: Loop) -> None:
    verdict = check(loop)
    names = {item.cause.name for item in verdict.observations}
    if loop.cause == ROUNDING:
        assert verdict.verdict == CONFORMS or names == {ROUNDING}, str(verdict)
        return
    assert verdict.verdict == DIVERGES, str(verdict)
    assert loop.cause in names, str(verdict)
    assert names <= {loop.cause, *loop.also}, str(verdict)


@pytest.mark.parametrize("loop", marked(CORRECT, CORRECT[:GATE]))
def test_a_correct_loop_conforms_whatever_its_style(loop: Loop) -> None:
    verdict = check(loop)
    assert verdict.verdict == CONFORMS, str(verdict)
    assert verdict.compared > 0


def test_every_name_that_a_loop_can_earn_has_a_loop() -> None:
    assert {loop.cause for loop in WRONG} == set(CAUSES) - NOT_OF_A_LOOP


def test_there_are_correct_loops_of_at_least_ten_styles() -> None:
    assert len(CORRECT) >= 10
