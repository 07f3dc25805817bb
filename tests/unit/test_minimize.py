"""Shrinking keeps the best it has, whatever happens, and asks the fewest arms that show the finding."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from conformance import minimize
from conformance.arm import Placement, parse_placement
from conformance.case import Case
from conformance.cases import load
from conformance.minimize import Shrinking, confirmed, with_fewer_replicas
from conformance.plan import Plan
from conformance.simplicity import simplicity

SIGNATURE = "distribution/gradient/clip_order/clipnorm"
CASE = load("clipnorm")
PLAN = Plan(placements=(Placement(), parse_placement("mirrored:4")))
HOUR = 3600.0


def seen(arms: tuple[str, str] = ("fit/mirrored:4/graph", "fit/single/graph"), axis: str = "distribution") -> Any:
    """An observation, as far as it is looked at."""
    return SimpleNamespace(signature=SIGNATURE, divergence=SimpleNamespace(axis=axis, arms=arms))


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Case, Plan], bool]], list[tuple[Case, Plan]]]:
    """Put a function in the place of the judge; what it is asked."""

    def put(shows: Callable[[Case, Plan], bool]) -> list[tuple[Case, Plan]]:
        asked: list[tuple[Case, Plan]] = []

        def judge_case(case: Case, plan: Plan, *, quick: bool = False) -> Any:
            asked.append((case, plan))
            found = (seen(),) if shows(case, plan) else ()
            return SimpleNamespace(case=case, observations=found)

        monkeypatch.setattr(minimize, "judge_case", judge_case)
        monkeypatch.setattr(minimize, "_with", lambda verdict, observations: verdict)
        return asked

    return put


def test_without_time_the_case_stays_what_it_was(judged: Any) -> None:
    judged(lambda case, plan: True)
    shrinking = Shrinking(CASE, seen(), PLAN, 0.0)
    assert shrinking.simplified(CASE) == CASE
    assert shrinking.attempts == 0


def test_the_best_so_far_is_kept_when_attempts_run_out(judged: Any) -> None:
    judged(lambda case, plan: True)
    shrinking = Shrinking(CASE, seen(), PLAN, HOUR, most=1)
    smallest = shrinking.simplified(CASE)
    assert simplicity(smallest) < simplicity(CASE)
    assert smallest == shrinking.best == shrinking.kept[-1]


def test_an_attempt_that_raises_shows_nothing_and_loses_nothing(judged: Any) -> None:
    def shows(case: Case, plan: Plan) -> bool:
        if len(case.optimizer.config) == 1:
            raise RuntimeError("out of memory")
        return True

    judged(shows)
    shrinking = Shrinking(CASE, seen(), PLAN, HOUR)
    smallest = shrinking.simplified(CASE)
    assert shrinking.raised > 0
    assert set(smallest.optimizer.config) == {"learning_rate", "clipnorm"}
    assert len(smallest.model.nodes) == 1


def larger(case: Case) -> Case:
    """The case with more of everything that this finding does not need."""
    data = replace(case.data, rows=4 * case.data.rows, pattern="normal")
    return replace(case, data=data, schedule=replace(case.schedule, epochs=3))


def test_a_smallest_case_that_the_corpus_has_is_tried_before_all_else(judged: Any) -> None:
    found = larger(CASE)
    asked = judged(lambda case, plan: case in (found, CASE))
    shrinking = Shrinking(found, seen(), PLAN, HOUR)
    before = len(asked)
    assert shrinking.simplified(found) == CASE
    assert asked[before][0] == CASE


@pytest.mark.parametrize("shows", [True, False])
def test_what_the_loop_alone_shows_is_told_of_fit_where_the_corpus_has_a_case_of_it(judged: Any, shows: bool) -> None:
    found = larger(CASE)
    in_loop = seen(("loop/mirrored:2/graph", "loop/single/graph"))
    asked = judged(lambda case, plan: case in (found, CASE) and (shows or plan.trainers != ("fit",)))
    plan = Plan(placements=(Placement(), parse_placement("mirrored:2")))
    shrinking = Shrinking(found, in_loop, plan, HOUR)
    assert shrinking.simplified(found) == CASE
    assert asked[0][1].trainers == ("fit",)
    assert asked[-1][1].trainers == (("fit",) if shows else ("loop",))


def test_a_case_of_the_corpus_that_does_not_show_the_finding_here_stands_in_nobodys_way(judged: Any) -> None:
    found = larger(CASE)
    judged(lambda case, plan: case != CASE and "clipnorm" in case.optimizer.config)
    shrinking = Shrinking(found, seen(), PLAN, HOUR)
    smallest = shrinking.simplified(found)
    assert shrinking.take_known() is None
    assert simplicity(smallest) < simplicity(found)
    assert smallest != CASE


def test_what_hypothesis_ended_with_is_left_for_something_simpler_that_was_seen(judged: Any) -> None:
    judged(lambda case, plan: True)
    shrinking = Shrinking(CASE, seen(), PLAN, HOUR, most=2)
    small = load("clipvalue")
    assert shrinking(small)
    assert simplicity(shrinking.simplified(CASE)) <= simplicity(small)


def test_hypothesis_tries_nothing_that_would_outlast_its_share(judged: Any) -> None:
    asked = judged(lambda case, plan: True)
    shrinking = Shrinking(CASE, seen(), Plan(), HOUR, cost=HOUR / 2)
    before = len(asked)
    assert not shrinking(load("clipvalue"))
    assert len(asked) == before
    assert simplicity(shrinking.simplified(CASE)) < simplicity(CASE)


@pytest.mark.parametrize("enough", [True, False])
def test_two_replicas_are_asked_where_two_show_it(judged: Any, enough: bool) -> None:
    asked = judged(lambda case, plan: enough or plan.replicas == 4)
    shrinking = Shrinking(CASE, seen(), PLAN, HOUR, most=3)
    verdict = confirmed(shrinking, shrinking.simplified(CASE), PLAN)
    wanted = 2 if enough else 4
    assert verdict.case != CASE
    assert {plan.replicas for _, plan in asked[1:]} == {wanted}
    assert shrinking.whole.trainers == PLAN.trainers


def test_fewer_replicas_leave_no_placement_twice() -> None:
    plan = Plan(placements=(Placement(), parse_placement("mirrored:2"), parse_placement("mirrored:4")))
    assert list(map(str, with_fewer_replicas(plan).placements)) == ["single", "mirrored:2"]


def test_on_one_device_what_shows_eagerly_is_asked_eagerly(judged: Any) -> None:
    asked = judged(lambda case, plan: True)
    shrinking = Shrinking(CASE, seen(("fit/single/graph", "loop/single/graph"), "trainer"), Plan(), HOUR, most=3)
    shrinking.simplified(CASE)
    assert {plan.executions for _, plan in asked} == {("eager",)}


def test_what_is_not_confirmed_is_gone_back_from_in_leaps_and_at_last_to_the_start(judged: Any) -> None:
    judged(lambda case, plan: True)
    shrinking = Shrinking(CASE, seen(), PLAN, HOUR)
    smallest = shrinking.simplified(CASE)
    asked = judged(lambda case, plan: case == CASE and plan == PLAN)
    assert confirmed(shrinking, smallest, PLAN).case == CASE
    keys = [simplicity(case) for case, _ in asked]
    assert keys == sorted(keys)
    assert len(asked) <= 2 + len(shrinking.kept).bit_length()


def test_a_finding_that_is_gone_is_an_error(judged: Any) -> None:
    judged(lambda case, plan: True)
    shrinking = Shrinking(CASE, seen(), PLAN, HOUR, most=1)
    smallest = shrinking.simplified(CASE)
    judged(lambda case, plan: False)
    with pytest.raises(AssertionError, match="no longer shows it"):
        confirmed(shrinking, smallest, PLAN)
