"""What a verdict tells of its comparisons is what it judged by."""

from __future__ import annotations

import pytest

from conformance import cases
from conformance.arm import Placement
from conformance.judge import judge_case
from conformance.margin import Margins
from conformance.plan import Plan
from conformance.stage import STAGES, Stage
from conformance.verdict import Verdict, verdict_from_data, verdict_to_data

pytestmark = pytest.mark.usefixtures("devices")

FIT, LOOP = "fit/mirrored:2/graph", "loop/mirrored:2/graph"


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    return judge_case(cases.load("rows_43_in_16"), Plan(placements=(Placement(), Placement(2, True))), quick=True)


def of(verdict: Verdict, *arms: str) -> Margins:
    return next(item for item in verdict.comparisons if item.arms == arms)


def test_the_first_row_that_exceeds_is_the_divergence(verdict: Verdict) -> None:
    found = verdict.divergence
    assert found is not None
    first = next(row for row in of(verdict, *found.arms).rows if row.exceeds)
    assert (first.step, first.stage, first.variable) == (found.step, found.stage, found.variable)
    assert first.seen == pytest.approx(found.magnitude, rel=1e-5)
    assert first.allowed == pytest.approx(found.allowed, rel=1e-5)


def test_trainers_in_one_mode_are_compared_bit_for_bit_at_every_stage(verdict: Verdict) -> None:
    rows = of(verdict, "fit/single/graph", "loop/single/graph").rows
    assert {row.stage for row in rows} >= set(STAGES) - {Stage.STATE}
    assert {(row.seen, row.allowed, row.ratio) for row in rows if row.stage is not Stage.LOGS} == {(0, 0, 0)}


def test_the_referee_leaves_rows_of_every_arm_and_of_every_step(verdict: Verdict) -> None:
    for arm in ("fit/single/graph", "loop/single/graph", FIT, LOOP):
        rows = of(verdict, arm, "referee").rows
        assert {row.step for row in rows if row.stage is Stage.GRADIENT} == {0, 1, 2}
    assert not [row for row in of(verdict, "fit/single/graph", "referee").rows if row.exceeds]
    wrong = [row for row in of(verdict, FIT, "referee").rows if row.exceeds and row.stage is Stage.LOSS]
    assert [row.step for row in wrong] == [2]


def test_comparisons_of_a_real_verdict_go_to_json_and_back(verdict: Verdict) -> None:
    assert verdict_from_data(verdict_to_data(verdict)).comparisons == verdict.comparisons
