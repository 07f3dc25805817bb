"""Comparing is total: every quantity gets an answer, and the first difference is the first in the order of training."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from conformance.arm import Arm, Placement, parse_arm
from conformance.compare import Comparison, Difference, compare, ulps_apart
from conformance.raised import Raised
from conformance.square import executions, square
from conformance.stage import FINAL, STAGES, Stage
from conformance.tolerance import Allowance, constant_ratio, distance, ulp
from conformance.trace import Trace

FIT, LOOP = parse_arm("fit/single/graph"), parse_arm("loop/single/graph")


def floats(*values: float) -> Any:
    return np.array(values, np.float32)


def trace(arm: Arm = FIT, steps: int = 2, **changes: Any) -> Trace:
    """A training in which every quantity is a number of its own; `changes` are by `stage_step`."""
    made = Trace(arm, 1, steps=steps)
    for step in range(steps):
        for stage in STAGES[:-1]:
            value = changes.get(f"{stage.value}_{step}", floats(step + 1, stage.order + 1))
            if value is not None:
                made.values[step, stage, "w"] = value if isinstance(value, tuple) else (value,)
        made.logs[step, "loss"] = changes.get(f"logs_{step}", step + 0.5)
    made.epoch_logs[0, "loss"] = changes.get("epoch", 2.0)
    made.values[FINAL, Stage.WEIGHTS, "w"] = (changes.get("final", floats(7.0)),)
    return made


def first(suspect: Trace, reference: Trace, allowance: Allowance | None = None) -> Difference:
    found = compare(suspect, reference, allowance).first
    assert found is not None
    return found


def test_the_same_bits_are_no_difference_and_all_are_counted() -> None:
    comparison = compare(trace(FIT), trace(LOOP))
    assert comparison == Comparison(None, 2 * 8 + 2 + 1 + 1)


@pytest.mark.parametrize("stage", STAGES[:-1], ids=lambda stage: stage.value)
def test_one_ulp_in_any_stage_is_a_difference_where_the_same_bits_are_due(stage: Stage) -> None:
    moved = np.nextafter(floats(2, stage.order + 1), np.float32(9))
    found = first(trace(**{f"{stage.value}_1": moved}), trace(LOOP))
    assert (found.step, found.stage, found.name, found.ulps, found.allowed) == (1, stage, "w", 1, 0.0)


def test_an_ulp_in_what_is_reported_and_in_what_is_left_is_one_too() -> None:
    assert first(trace(logs_1=1.5000001), trace(LOOP)).stage is Stage.LOGS
    assert first(trace(final=floats(7.0000005)), trace(LOOP)).step == FINAL
    found = first(trace(epoch=2.5), trace(LOOP))
    assert (found.step, found.epoch, found.stage) == (None, 0, Stage.LOGS)


def test_the_first_difference_is_the_first_in_the_order_of_training() -> None:
    other = floats(8, 8)
    assert first(trace(loss_1=other, state_0=other), trace(LOOP)).place == (0.0, Stage.STATE.order, "w")
    assert first(trace(loss_1=other, outputs_1=other, weights_1=other), trace(LOOP)).stage is Stage.OUTPUTS
    assert first(trace(logs_0=9.0, batch_1=other), trace(LOOP)).stage is Stage.BATCH


def test_a_nan_equals_only_a_nan() -> None:
    nan = floats(np.nan, 3)
    assert compare(trace(loss_0=nan), trace(LOOP, loss_0=nan)).first is None
    assert first(trace(loss_0=nan), trace(LOOP)).magnitude == np.inf
    assert first(trace(LOOP), trace(loss_0=nan)).magnitude == np.inf
    assert first(trace(loss_0=nan), trace(LOOP, loss_0=floats(np.nan, 4))).magnitude == 1.0
    assert compare(trace(epoch=np.nan), trace(LOOP, epoch=np.nan)).first is None
    assert first(trace(epoch=np.nan), trace(LOOP)).magnitude == np.inf


def test_an_infinity_equals_only_itself() -> None:
    assert compare(trace(loss_0=floats(np.inf)), trace(LOOP, loss_0=floats(np.inf))).first is None
    assert first(trace(loss_0=floats(np.inf)), trace(LOOP, loss_0=floats(-np.inf))).magnitude == np.inf


def test_zeros_of_both_signs_and_types_of_one_value() -> None:
    assert compare(trace(loss_0=floats(0.0)), trace(LOOP, loss_0=floats(-0.0))).first is None
    found = first(trace(loss_0=np.array([1.0], np.float64)), trace(LOOP, loss_0=floats(1.0)))
    assert (found.stage, found.magnitude) == (Stage.LOSS, 0.0)
    assert found.note == "loss[step 0] w is float64, and float32 in the other"


def test_a_shape_of_its_own_is_infinitely_far() -> None:
    found = first(trace(loss_0=floats(1)), trace(LOOP))
    assert (found.magnitude, found.ulps, found.ratio) == (np.inf, None, None)


def test_a_missing_step_is_a_difference_whoever_misses_it() -> None:
    for suspect, reference in ((trace(steps=1), trace(LOOP)), (trace(), trace(LOOP, steps=1))):
        found = first(suspect, reference)
        assert (found.step, found.stage, found.magnitude) == (1, Stage.BATCH, np.inf)
        assert "has batch here" in found.note


def test_what_an_arm_never_records_is_skipped_and_said() -> None:
    blind = {f"outputs_{step}": None for step in range(2)}
    comparison = compare(trace(**blind), trace(LOOP))
    assert comparison.first is None
    assert comparison.skipped == ("outputs w: only loop/single/graph records it",)


def test_nothing_compared_is_a_difference() -> None:
    found = first(Trace(FIT, 1), Trace(LOOP, 1))
    assert (found.name, found.magnitude, found.note) == ("everything", np.inf, "nothing could be compared")


def test_raising_alone_is_a_difference_and_comes_first() -> None:
    failed = Trace(FIT, 1, error=Raised("ValueError", "no"), reached=Stage.OUTPUTS)
    for found in (first(failed, trace(LOOP)), first(trace(LOOP), failed)):
        assert (found.raised, found.stage, found.name) == (FIT, Stage.LOSS, "ValueError")
        assert found.place < first(trace(batch_0=floats(9)), trace(LOOP)).place
    both = Trace(LOOP, 1, error=Raised("TypeError", "neither"))
    assert compare(failed, both).first is None


def test_writing_into_the_callers_arrays_is_a_difference() -> None:
    wrote = trace()
    wrote.data_intact = False
    assert "fit/single/graph wrote into the arrays" in first(wrote, trace(LOOP)).note
    assert "fit/single/graph wrote into the arrays" in first(trace(LOOP), wrote).note


def test_replicas_that_hold_different_weights_are_a_difference_even_where_both_arms_do() -> None:
    copies = (floats(1, 7), floats(2, 7))
    found = first(trace(weights_0=copies), trace(LOOP, weights_0=copies))
    assert found.note == "the replicas of fit/single/graph hold different values"


class Allowed:
    """An allowance of one size for everything."""

    def __init__(self, size: float) -> None:
        self.size = size

    def of(self, key: Any, value: Any) -> float:
        return self.size

    def of_log(self, kind: str, when: int, name: str, value: float) -> float:
        return self.size


def test_what_is_allowed_is_no_difference_and_the_margin_is_reported() -> None:
    suspect, reference = trace(loss_1=floats(2.25, 3)), trace(LOOP)
    comparison = compare(suspect, reference, cast("Allowance", Allowed(0.5)))
    assert (comparison.first, comparison.worst) == (None, 0.5)
    found = first(suspect, reference, cast("Allowance", Allowed(0.125)))
    assert (found.magnitude, found.allowed) == (0.25, 0.125)
    assert compare(trace(loss_0=floats(np.nan, 3)), reference, cast("Allowance", Allowed(1e9))).first is not None


def test_across_placements_shares_are_added_rows_put_together_and_copies_taken_once() -> None:
    split = Trace(parse_arm("fit/mirrored:2/graph"), 2, steps=1)
    whole = Trace(FIT, 1, steps=1)
    for stage, parts, together in (
        (Stage.BATCH, (floats(1, 2), floats(3)), floats(1, 2, 3)),
        (Stage.LOSS, (floats(0.25), floats(0.5)), floats(0.75)),
        (Stage.LOCAL_GRADIENT, (floats(1), floats(2)), floats(3)),
        (Stage.GRADIENT, (floats(3), floats(3)), floats(3)),
        (Stage.STATE, (floats(1), floats(3)), floats(2)),
    ):
        split.values[0, stage, "w"], whole.values[0, stage, "w"] = parts, (together,)
    assert compare(split, whole, cast("Allowance", Allowed(0.0))).first is None


# Distances.


def test_ulps_are_counted_along_the_floats_across_zero() -> None:
    tiny = np.float32(np.nextafter(np.float32(0), np.float32(1)))
    assert ulps_apart(floats(0.0), floats(-0.0)) == 0
    assert ulps_apart(floats(tiny), floats(0.0)) == 1
    assert ulps_apart(floats(tiny), floats(-tiny)) == 2
    assert ulps_apart(floats(1.0), floats(np.nextafter(np.float32(1), np.float32(2)))) == 1
    assert ulps_apart(floats(1.0, -1.0), floats(1.0, 1.0)) == 2 * int(floats(1.0).view(np.int32)[0])


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_ulps_of_every_width(kind: Any) -> None:
    one = np.array([1.0], kind)
    assert ulps_apart(one, np.nextafter(one, kind(2))) == 1
    largest = np.array([np.finfo(kind).max], kind)
    assert ulps_apart(-largest, largest) == 2 * int(largest.view(f"i{one.dtype.itemsize}")[0])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (floats(1), floats(1, 2)),
        (floats(np.nan), floats(1)),
        (floats(np.inf), floats(1)),
        (floats(), floats()),
        (np.array([1]), np.array([2])),
        (np.array([1.0], np.float64), floats(1)),
    ],
    ids=["shapes", "nan", "infinity", "empty", "integers", "widths"],
)
def test_ulps_that_mean_nothing_are_none(one: Any, other: Any) -> None:
    assert ulps_apart(one, other) is None


_FINITE = arrays.arrays(np.float32, 3, elements=st.floats(-(2.0**60), 2.0**60, width=32))


@given(_FINITE, _FINITE)
def test_ulps_are_a_distance(one: Any, other: Any) -> None:
    apart = ulps_apart(one, other)
    assert apart == ulps_apart(other, one)
    assert (apart == 0) == np.array_equal(one, other)
    assert (distance(one, other) == 0.0) == np.array_equal(one, other)


def test_a_constant_ratio_is_one_other_than_one() -> None:
    wanted = floats(1, -2, 3)
    assert constant_ratio(2 * wanted, wanted, 1e-6) == pytest.approx(2.0)
    assert constant_ratio(-wanted, wanted, 1e-6) == pytest.approx(-1.0)
    assert constant_ratio(0 * wanted, wanted, 1e-6) == pytest.approx(0.0)
    assert constant_ratio(wanted, wanted, 1e-6) is None
    assert constant_ratio(wanted * np.float32(1 + 1e-7), wanted, 1e-6) is None


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        (floats(1, 2), floats(1, 1)),
        (floats(1, 2), floats(0, 0)),
        (floats(np.inf), floats(1)),
        (floats(1), floats(1, 1)),
        (np.array([2]), np.array([1])),
        (floats(), floats()),
    ],
    ids=["no constant", "of nothing", "infinite", "shapes", "integers", "empty"],
)
def test_a_ratio_that_is_no_constant_is_none(seen: Any, wanted: Any) -> None:
    assert constant_ratio(seen, wanted, 1e-9) is None


def test_an_ulp_is_that_of_the_largest_finite_element() -> None:
    assert ulp(floats(1, -8, np.inf, np.nan)) == np.spacing(np.float32(8))
    assert ulp(np.array([3])) == ulp(floats(np.nan)) == ulp(floats()) == 0.0


# The square.

SINGLE, MIRRORED = Placement(), Placement(2, True)
NAMES = {"F": ("fit", SINGLE), "f": ("fit", MIRRORED), "L": ("loop", SINGLE), "l": ("loop", MIRRORED)}


def differing(*sides: str, step: int = 0) -> Any:
    """Compares by a list of the sides that differ: F, L on one device, f, l on replicas."""

    def side(suspect: Arm, reference: Arm) -> Comparison | None:
        corners = [(arm.trainer, arm.placement) for arm in (suspect, reference)]
        spelt = {name for name, corner in NAMES.items() if corner in corners}
        if not any(set(side) == spelt for side in sides):
            return Comparison(None, 1)
        return Comparison(Difference(step, Stage.LOSS, f"{suspect}-{reference}", 1.0, 0.0), 1)

    return side


def seen(*sides: str, trainers: tuple[str, str] = ("fit", "loop")) -> list[tuple[str, str | None]]:
    found = square(trainers, (SINGLE, MIRRORED), "graph", differing(*sides))
    return [(item.axis, item.wrong and f"{item.wrong.trainer}/{item.wrong.placement}") for item in found]


@pytest.mark.parametrize(
    ("sides", "wanted"),
    [
        ((), []),
        # The suspect is the odd corner, then the reference.
        (("fl", "fF"), [("both", "fit/mirrored:2")]),
        (("fl", "lL"), [("both", "loop/mirrored:2")]),
        # Both move alike: the distribution. One trainer differs everywhere: the trainer.
        (("fF", "lL"), [("distribution", "fit/mirrored:2")]),
        (("FL", "fl"), [("trainer", None)]),
        (("FL", "fl", "fF", "lL"), [("trainer", None), ("distribution", "loop/mirrored:2")]),
    ],
    ids=["nothing", "fit on replicas", "loop on replicas", "distribution", "trainer", "everything"],
)
def test_the_sides_that_differ_say_which_axis_is_at_fault(
    sides: tuple[str, ...], wanted: list[tuple[str, str | None]]
) -> None:
    assert seen(*sides) == wanted


def test_a_trainer_alone_is_held_against_itself() -> None:
    assert seen("fF", trainers=("fit", "fit")) == [("distribution", "fit/mirrored:2")]
    assert seen("lL", "FL", "fl", trainers=("fit", "fit")) == []


def test_the_suspect_of_an_odd_corner_is_the_corner() -> None:
    (found,) = square(("fit", "loop"), (SINGLE, MIRRORED), "graph", differing("fl", "lL"))
    assert (str(found.suspect), str(found.reference)) == ("loop/mirrored:2/graph", "fit/mirrored:2/graph")


def test_arms_that_cannot_be_run_leave_no_difference() -> None:
    assert square(("fit", "loop"), (SINGLE, MIRRORED), "graph", lambda suspect, reference: None) == []


def test_executions_are_held_against_the_first_one() -> None:
    asked: list[tuple[str, str]] = []

    def side(suspect: Arm, reference: Arm) -> Comparison:
        asked.append((str(suspect), str(reference)))
        return Comparison(Difference(0, Stage.LOSS, "loss", 1.0, 0.0) if suspect.trainer == "fit" else None, 1)

    arms = [Arm(trainer, SINGLE, execution) for trainer in ("fit", "loop") for execution in ("graph", "eager")]
    (found,) = executions(arms, "graph", side)
    assert (found.axis, str(found.suspect)) == ("execution", "fit/single/eager")
    assert asked == [("fit/single/eager", "fit/single/graph"), ("loop/single/eager", "loop/single/graph")]
