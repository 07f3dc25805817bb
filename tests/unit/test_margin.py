"""Every comparison leaves what was seen beside what was allowed, and what it leaves is bounded and said."""

from __future__ import annotations

import json
import math
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from conformance.arm import parse_arm
from conformance.compare import Difference, compare
from conformance.margin import MOST_STEPS, Margin, Margins, Meter, kept, ratio_of, thinned
from conformance.square import Found
from conformance.stage import FINAL, Stage
from conformance.telling import message
from conformance.trace import Trace
from conformance.verdict import Verdict, verdict_from_data, verdict_to_data, without_steps

FIT, LOOP = parse_arm("fit/single/graph"), parse_arm("loop/single/graph")


class Flat:
    """An allowance that is the same everywhere."""

    def of(self, key: object, value: object) -> float:
        return 0.5

    def of_log(self, kind: str, when: int, name: str, value: float) -> float:
        return 0.5


def trace(arm: object, steps: int = 2, **moved: float) -> Trace:
    made = Trace(arm, 1, steps=steps)  # type: ignore[arg-type]
    for step in range(steps):
        for name in ("kernel", "bias"):
            value = 1.0 + moved.get(f"{name}_{step}", 0.0)
            made.values[step, Stage.GRADIENT, name] = (np.array([value], np.float32),)
        made.logs[step, "loss"] = 1.0
    made.epoch_logs[0, "loss"] = 1.0 + moved.get("epoch", 0.0)
    made.values[FINAL, Stage.WEIGHTS, "kernel"] = (np.array([1.0], np.float32),)
    return made


def rows(margins: Margins) -> dict[tuple[int | None, int | None, str], Margin]:
    return {(row.step, row.epoch, row.stage.value): row for row in margins.rows}


def many(steps: int) -> Margins:
    meter = Meter()
    for step in range(steps):
        meter.note(step, Stage.LOSS, "loss", float(step), 1.0)
        meter.note(step, Stage.WEIGHTS, "kernel", 0.5, 1.0)
    meter.note(FINAL, Stage.WEIGHTS, "kernel", 0.0, 0.0)
    return meter.margins(("a", "b"))


def test_of_each_stage_of_each_step_the_quantity_that_is_furthest_off_is_kept() -> None:
    found = rows(compare(trace(FIT, bias_1=0.25, kernel_1=0.125), trace(LOOP), Flat()).margins)  # type: ignore[arg-type]
    assert found[1, None, "gradient"] == Margin(
        stage=Stage.GRADIENT, step=1, variable="bias", seen=0.25, allowed=0.5, ratio=0.5, compared=2
    )
    assert found[0, None, "gradient"].ratio == 0
    assert set(found) == {
        (0, None, "gradient"),
        (0, None, "logs"),
        (1, None, "gradient"),
        (1, None, "logs"),
        (None, None, "weights"),
        (None, 0, "logs"),
    }


def test_what_is_within_its_allowance_and_what_is_not_are_both_kept() -> None:
    found = rows(compare(trace(FIT, bias_0=2.0, epoch=0.25), trace(LOOP), Flat()).margins)  # type: ignore[arg-type]
    assert found[0, None, "gradient"].exceeds
    assert not found[None, 0, "logs"].exceeds
    assert found[None, 0, "logs"].ratio == 0.5


def test_where_the_same_bits_are_due_nothing_is_allowed_and_any_difference_is_infinitely_much() -> None:
    found = rows(compare(trace(FIT, bias_0=2.0), trace(LOOP)).margins)
    assert (found[0, None, "gradient"].allowed, found[0, None, "gradient"].ratio) == (0.0, math.inf)
    assert found[1, None, "gradient"].ratio == 0
    assert [ratio_of(*pair) for pair in ((0.0, 0.0), (1.0, 0.0), (1.0, 4.0))] == [0, math.inf, 0.25]


def test_as_many_quantities_are_in_the_rows_as_were_compared() -> None:
    comparison = compare(trace(FIT), trace(LOOP))
    assert sum(row.compared for row in comparison.margins.rows) == comparison.compared


def test_what_is_measured_anew_replaces_what_was_noted_before() -> None:
    meter = Meter()
    meter.note(0, Stage.LOSS, "loss", 3.0, 1.0)
    meter.forget(Stage.LOSS, [0])
    assert not meter.has(0, Stage.LOSS)
    meter.note(0, Stage.LOSS, "loss", 3.0, 4.0)
    assert [(row.ratio, row.compared) for row in meter.margins().rows] == [(0.75, 1)]


def test_of_many_steps_those_furthest_off_are_kept_and_the_others_counted() -> None:
    found = many(MOST_STEPS + 6)
    assert found.left_out == 6
    assert [row.step for row in found.rows if row.stage is Stage.LOSS] == [*range(6, MOST_STEPS + 6)]
    assert found.rows[-1].step is None
    assert kept(many(4), 4).left_out == 0


def test_a_search_keeps_of_each_stage_the_row_that_is_furthest_off() -> None:
    found = thinned(many(4))
    assert [(row.stage.value, row.step, row.ratio) for row in found.rows] == [("weights", 0, 0.5), ("loss", 3, 3.0)]
    assert found.left_out == 2
    made = without_steps(Verdict(case=None, verdict="conforms", comparisons=(many(4),)))
    assert made.comparisons == (found,)


@pytest.mark.parametrize("seen", [0.5, math.inf])
def test_comparisons_go_to_json_and_back(seen: float) -> None:
    meter = Meter()
    meter.note(0, Stage.LOSS, "loss", seen, 0.0)
    made = Verdict(case=None, verdict="diverges", comparisons=(meter.margins(("a", "b")),))
    data = json.loads(json.dumps(verdict_to_data(made), allow_nan=False))
    assert data["comparisons"][0]["rows"][0]["ratio"] == "inf"
    assert verdict_from_data(data) == made


def test_a_verdict_from_before_there_were_comparisons_is_read() -> None:
    data = verdict_to_data(Verdict(case=None, verdict="conforms"))
    del data["comparisons"]
    assert verdict_from_data(data).comparisons == ()


def test_a_row_is_as_short_as_it_can_be() -> None:
    row = Margin(stage=Stage.LOSS, step=1, variable="loss", seen=0.0, allowed=0.0, ratio=0.0)
    assert msgspec.to_builtins(row) == {
        "stage": "loss", "step": 1, "variable": "loss", "seen": 0.0, "allowed": 0.0, "ratio": 0.0,
    }  # fmt: skip


def found(**given: object) -> Found:
    fields: dict[str, object] = {"step": 2, "stage": Stage.BATCH, "name": "x", "magnitude": 0.5, "allowed": 0.0}
    return Found("both", FIT, LOOP, Difference(**{**fields, **given}))  # type: ignore[arg-type]


def told(**given: object) -> str:
    return message(found(**given), cast(Any, None))


def test_a_message_says_what_keeps_two_values_from_being_so_far_apart() -> None:
    shapes = told(magnitude=math.inf, seen=np.zeros((4, 3)), wanted=np.zeros((8, 3)))
    assert shapes.startswith("batch[step 2] x: of shape (4, 3) in the one, of shape (8, 3) in the other [")
    numbers = told(magnitude=math.inf, seen=np.full(2, np.nan), wanted=np.zeros(2))
    assert "finite in the one" in numbers
    assert "inf " not in shapes + numbers


def test_a_message_tells_a_constant_only_where_it_does_not_read_as_1() -> None:
    assert "= 2 x the other's" in told(ratio=2.0)
    assert "x the other's" not in told(ratio=1.0000001)
