"""What callbacks leave between two steps is what the next one begins with."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.arm import parse_arm
from conformance.stage import Stage
from conformance.trace import Trace


def trace() -> Trace:
    made = Trace(parse_arm("fit/single/graph"), 1)
    made.start = {(Stage.WEIGHTS, "w"): (np.float32([0]),), (Stage.WEIGHTS, "v"): (np.float32([1]),)}
    made.values = {(0, Stage.WEIGHTS, "w"): (np.float32([2]),), (0, Stage.WEIGHTS, "v"): (np.float32([3]),)}
    return made


@pytest.mark.parametrize(("step", "left"), [(0, {"w": 9.0, "v": 1.0}), (1, {"w": 9.0, "v": 3.0})])
def test_a_step_begins_with_what_the_callbacks_left(step: int, left: dict[str, float]) -> None:
    made = trace()
    plain = made.before(step, Stage.WEIGHTS)
    made.begun = {(step, Stage.WEIGHTS, "w"): (np.float32([9]),), (step + 1, Stage.WEIGHTS, "v"): (np.float32([9]),)}
    found = made.before(step, Stage.WEIGHTS)
    assert {name: float(values[0][0]) for name, values in found.items()} == left
    assert found["v"] == plain["v"]


def test_what_is_no_variable_of_a_training_is_not_begun_with() -> None:
    made = trace()
    made.begun = {(1, Stage.WEIGHTS, "u"): (np.float32([9]),)}
    assert set(made.before(1, Stage.WEIGHTS)) == {"w", "v"}
