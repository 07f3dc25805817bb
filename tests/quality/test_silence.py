"""An arm against itself has to be silent; the same arm with a fault must not be."""

from __future__ import annotations

import pytest
from faults import FAULTS
from hunt import drawn

from conformance.arm import Arm
from conformance.case import Case
from conformance.compare import Comparison, compare
from conformance.prepare import PreparedArm, release
from conformance.trace import Trace
from conformance.training import training

CASES = 10


def _trace(case: Case, arm: Arm) -> Trace:
    """What an arm does that is prepared for itself alone, from the case up."""
    return PreparedArm(arm, training(case)).run()


def _against_itself(case: Case, arm: Arm) -> Comparison:
    first, second = _trace(case, arm), _trace(case, arm)
    release()
    assert first.error is None
    assert first.values is not second.values
    return compare(first, second)


@pytest.mark.parametrize("trainer", ["fit", "loop"])
def test_an_arm_prepared_twice_agrees_with_itself_in_every_bit(trainer: str) -> None:
    for case in drawn()[:CASES]:
        comparison = _against_itself(case, Arm(trainer, execution="eager"))
        assert comparison.first is None, (case, comparison.first)
        # Batch, outputs, loss, gradient, update and weights at the least.
        assert comparison.compared > 6


def test_an_arm_with_a_fault_disagrees_with_itself_without() -> None:
    fault = next(fault for fault in FAULTS if fault.name == "gradient_slightly_off")
    arm = Arm("fit", execution="eager")
    case = drawn()[0]
    with fault.planted():
        faulty = _trace(case, arm)
    first = compare(faulty, _trace(case, arm)).first
    release()
    assert first is not None
    assert first.stage.value == fault.stage
    assert first.ratio == pytest.approx(1.001, rel=1e-5)


def test_the_same_cases_are_drawn_again() -> None:
    before = drawn()
    drawn.cache_clear()
    assert drawn() == before
    assert len(set(before)) == len(before) == 100
