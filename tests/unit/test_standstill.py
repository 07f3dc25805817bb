"""A training that leaves its weights as they were is told from one that moves them, and how it did is read off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conformance.arm import parse_arm
from conformance.raised import Raised
from conformance.stage import FINAL, Stage
from conformance.standstill import how, stood_still, unwatched
from conformance.trace import Trace

KERNEL = np.array([1.0, np.nan, -2.0], "float32")


def trace(*, moved: float = 0.0, gradient: float | None = None, rate: float = 0.1, **more: Any) -> Trace:
    """Two steps; the last moves one weight by `moved`."""
    made = Trace(parse_arm("trial/single/graph"), 1, steps=2, rates={0: rate, 1: rate}, calls={0: (1,), 1: (1,)})
    made.start[Stage.WEIGHTS, "kernel"] = (KERNEL,)
    made.start[Stage.STATE, "seed"] = (np.zeros(1),)
    for step in (0, 1, FINAL):
        after = KERNEL + np.float32(moved) * np.array([1, 0, 0], "float32") * (step != 0)
        made.values[step, Stage.WEIGHTS, "kernel"] = (after.astype("float32"),)
        made.values[step, Stage.STATE, "seed"] = (np.ones(1),)
        if gradient is not None and step != FINAL:
            made.values[step, Stage.LOCAL_GRADIENT, "kernel"] = (np.full(3, gradient),)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_weights_that_are_the_same_bits_at_every_step_stood_still_whatever_the_states_did() -> None:
    assert stood_still(trace())


def test_a_weight_that_moves_by_an_ulp_at_the_last_step_did_not_stand_still() -> None:
    assert not stood_still(trace(moved=float(np.spacing(np.float32(1.0)))))


def test_weights_that_nobody_recorded_did_not_stand_still() -> None:
    assert not stood_still(Trace(parse_arm("trial/single/graph"), 1))


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (trace(applied=False), "the optimizer is never called, and no weight is assigned"),
        (trace(applied=False, calls={}), "neither is the optimizer called nor, under a tape, the model"),
        (trace(applied=False, steps=0, calls={}), "the optimizer is never called, and no weight is assigned"),
        (trace(gradient=0.0), "at each of 2 steps, with gradients that are all zero"),
        (trace(gradient=1.0, rate=0.0), "at each of 2 steps, with a learning rate of 0"),
        (trace(gradient=1.0), "at each of 2 steps, and the weights are afterwards what they were before"),
        (trace(foreign=("a", "b")), "variables of another model, and none of the given one's: a, b"),
        (trace(foreign=tuple("abcde")), "none of the given one's: a, b, c and 2 more"),
    ],
)
def test_how_a_training_stood_still_is_told(made: Trace, told: str) -> None:
    (line,) = how(made)
    assert told in line


def test_only_what_ran_and_called_no_optimizer_is_unwatched() -> None:
    assert unwatched(trace(applied=False))
    assert not unwatched(trace())
    assert not unwatched(trace(applied=False, moved=1.0))
    assert not unwatched(trace(applied=False, error=Raised("ValueError", "no")))
