"""Findings of one arm alone: judged, made smaller, told in a script that a clean process agrees with, and replayed."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from conformance import cases
from conformance.arm import Arm, Placement, parse_arm
from conformance.attribution import REFEREE, Told, attributed, cause_of, divergence_of
from conformance.case import Case, Data, Input, Loss, Model, Node, Optimizer
from conformance.environment import environment
from conformance.finding import NOT_REPRODUCED, REPRODUCED, Finding
from conformance.frozen import FrozenMap
from conformance.judge import Judge, judge_case
from conformance.minimize import Shrinking, confirmed, plan_for, signatures
from conformance.plan import Plan
from conformance.prepare import release
from conformance.referee.departure import Departure, Judgement, Named
from conformance.replay import STILL, replay_folders
from conformance.reports.folder import write_finding
from conformance.reports.repro import script
from conformance.reports.verify import verify_text
from conformance.stage import Stage
from conformance.training import training
from conformance.verdict import Expected, Observation, Verdict

SINGLE, MIRRORED = Placement(), Placement(2, True)
PLAN = Plan(placements=(SINGLE,), executions=("graph",))


def case(*nodes: tuple[str, Mapping[str, Any]], optimizer: str, data: Data, indices: int = 0, **options: Any) -> Case:
    """A chain of these layers, each called by its class in lower case."""
    names = [layer.lower() for layer, _ in nodes]
    chain = zip(nodes, names, ["x", *names], strict=False)
    given = Input(name="x", shape=(2,), below=indices) if indices else Input(name="x", shape=(1,))
    return Case(
        model=Model(
            inputs=(given,),
            nodes=tuple(
                Node(name=name, layer=layer, config=FrozenMap(config), inputs=(before,))
                for (layer, config), name, before in chain
            ),
            outputs=(names[-1],),
        ),
        losses=(Loss(name="mean_squared_error"),),
        optimizer=Optimizer(name=optimizer, config=FrozenMap(learning_rate=0.125, **options)),
        data=data,
    )


ROW_BY_ROW = Data(rows=3, batch_size=1, pattern="small_integers")
CASES = {
    # Both rows of the batch look up both rows of the embedding.
    "referee/update/sparse_gradient_not_summed/Embedding": case(
        ("Embedding", {"input_dim": 3, "output_dim": 1}),
        ("Flatten", {}),
        ("Dense", {"units": 1}),
        optimizer="Adam",
        data=Data(rows=2, batch_size=2, pattern="ones"),
        indices=2,
    ),
    "referee/update/averaged_every_step": case(
        ("Dense", {"units": 1}), optimizer="SGD", data=ROW_BY_ROW, use_ema=True, gradient_accumulation_steps=2
    ),
    "referee/weights/constrained_every_step": case(
        ("Dense", {"units": 1, "kernel_constraint": {"max_norm": 0.125}}),
        optimizer="SGD",
        data=ROW_BY_ROW,
        gradient_accumulation_steps=2,
    ),
}
FOUND = sorted(CASES)


@functools.cache
def judged(signature: str) -> Verdict:
    return judge_case(CASES[signature], PLAN)


def numbers(output: str, name: str) -> list[float]:
    """The numbers that a script prints behind `expected:` or `seen:`."""
    (line,) = [line for line in output.split("\n") if line.startswith(f"{name}:")]
    return [float(text) for text in line.split(":")[1].split()]


@functools.cache
def shown(signature: str) -> tuple[str, str]:
    """What became of the finding's script in a clean process, and what it printed."""
    return verify_text(script(judged(signature)))


@pytest.mark.parametrize("signature", FOUND)
def test_a_script_of_the_finding_shows_both_numbers_in_a_clean_process(signature: str) -> None:
    found = judged(signature).divergence
    assert judged(signature).signature == signature
    assert found is not None
    assert found.expected is not None
    status, output = shown(signature)
    assert status == REPRODUCED, output
    expected, seen = numbers(output, "expected"), numbers(output, "seen")
    assert np.allclose(expected, [float.fromhex(value) for value in found.expected.values], rtol=1e-6, atol=0)
    assert np.isclose(np.abs(np.subtract(seen, expected)).max(), found.magnitude, rtol=1e-3)


def test_a_script_conforms_where_keras_gives_what_is_expected() -> None:
    signature = "referee/update/averaged_every_step"
    verdict = judged(signature)
    (item, *_) = verdict.observations
    seen = numbers(shown(signature)[1], "seen")
    expected = Expected(shape=(len(seen),), values=tuple(value.hex() for value in seen))
    found = msgspec.structs.replace(item.divergence, expected=expected)
    agrees = msgspec.structs.replace(verdict, observations=(msgspec.structs.replace(item, divergence=found),))
    status, output = verify_text(script(agrees))
    assert status == NOT_REPRODUCED
    assert output.endswith("CONFORMS\n[exit code 0]\n"), output


def test_a_script_of_one_arm_trains_that_arm_alone_with_plain_fit() -> None:
    for signature in FOUND:
        source = script(judged(signature))
        assert source.count("model.fit(x, y, ") == 1
        assert "GradientTape" not in source
        assert "by definition: " in " ".join(source.split())


@pytest.mark.parametrize("signature", FOUND)
def test_a_smaller_case_shows_the_same_finding(signature: str) -> None:
    verdict = judged(signature)
    case = verdict.case
    assert case is not None
    # A metric and another batch are of no use to it.
    larger = msgspec.structs.replace(case, metrics=("mean_absolute_error",), data=_more_rows(case.data))
    shrinking = Shrinking(larger, verdict.observations[0], PLAN, 60.0, most=4)
    smallest = confirmed(shrinking, shrinking.simplified(larger), PLAN)
    assert smallest.signature == signature
    assert smallest.case is not None
    assert smallest.case != larger
    assert script(smallest)


def _more_rows(data: Data) -> Data:
    return msgspec.structs.replace(data, rows=data.rows + data.batch_size)


@pytest.mark.parametrize("signature", FOUND)
def test_one_arm_is_enough_to_derive_the_finding(signature: str) -> None:
    plan = plan_for(judged(signature).observations[0], PLAN)
    assert [str(arm) for arm in plan.arms] == ["fit/single/graph"]
    assert signature in signatures(judge_case(CASES[signature], plan, quick=True))


def test_a_finding_that_is_still_there_is_replayed_as_such(tmp_path: Path) -> None:
    verdict = judged("referee/weights/constrained_every_step")
    finding = Finding(verdict=verdict, original=verdict.case, environment=environment())
    (replayed,) = replay_folders(write_finding(finding, script(verdict), tmp_path))
    assert replayed.status == STILL
    assert replayed.message.endswith("[fit/single/graph against the referee]")


# Which arms a signature needs. The axis of what the referee says follows from which arms have it.


def said(arms: Sequence[Arm], having: frozenset[Arm], name: str, placements: Sequence[Placement]) -> list[Told]:
    """What the referee says of these arms, of which some have a deviation."""
    zero, one = np.zeros(1, np.float32), np.ones(1)
    departure = Departure(Stage.LOSS, 0, "loss", zero, one, 1.0, 1e-6, (Named(name, True),))
    return attributed({arm: Judgement(arm, [departure] if arm in having else []) for arm in arms}, placements)


def observed(told: Told) -> Observation:
    return Observation(divergence=divergence_of(told), cause=cause_of(told), signature=told.signature)


ARMS = Plan(placements=(SINGLE, MIRRORED)).arms
SUBSETS = [frozenset(arms) for size in (1, 2, 3, 4) for arms in itertools.combinations(ARMS, size)]


@pytest.mark.parametrize("placements", [(SINGLE, MIRRORED), (MIRRORED, SINGLE), (MIRRORED,), (SINGLE,)])
@pytest.mark.parametrize("name", ["weight_decay", "replica_mean_of_means"])
@pytest.mark.parametrize("having", SUBSETS, ids=lambda arms: " ".join(sorted(map(str, arms))))
def test_the_fewest_arms_give_the_same_signature(
    having: frozenset[Arm], name: str, placements: tuple[Placement, ...]
) -> None:
    plan = Plan(placements=placements)
    for told in said(plan.arms, having & set(plan.arms), name, placements):
        fewer = plan_for(observed(told), plan)
        assert set(fewer.arms) <= set(plan.arms)
        assert told.suspect in fewer.arms
        again = said(fewer.arms, having & set(fewer.arms), name, fewer.placements)
        assert [item.signature for item in again] == [told.signature]
        if told.axis == REFEREE:
            assert fewer.arms == (told.suspect,)


def test_the_execution_is_the_suspects_own() -> None:
    plan = Plan(executions=("eager",))
    (told,) = said(plan.arms, frozenset(plan.arms), "weight_decay", plan.placements)
    assert plan_for(observed(told), plan).arms == (parse_arm("fit/single/eager"),)


@pytest.mark.parametrize(("ulps", "cause"), [(1, "numeric_precision"), (8, "numeric_precision"), (9, "unexplained")])
def test_a_few_units_in_the_last_place_between_two_right_arms_are_rounding_and_still_a_line(
    ulps: int, cause: str
) -> None:
    judge = Judge(training(cases.load("rows_43_in_16")), Plan(executions=("eager",)), quick=True)
    trace = judge.trace(parse_arm("fit/single/eager"))
    assert trace is not None
    key = next(key for key in trace.values if key[1] is Stage.LOCAL_GRADIENT)
    moved = trace.values[key][0].copy()
    for _ in range(ulps):
        moved.flat[0] = np.nextafter(moved.flat[0], np.float32(np.inf))
    trace.values[key] = (moved,)
    verdict = judge.verdict()
    assert [item.cause.name for item in verdict.observations] == [cause]
    assert verdict.observations[0].signature == f"trainer/local_gradient/{cause}"
    release()


def test_gradients_in_parts_are_those_of_the_loss_that_the_arm_had() -> None:
    # On replicas of 1 and 0 rows the mean loses a factor of two that the sum does not.
    heads = tuple(Node(name=name, layer="Dense", config=FrozenMap(units=1), inputs=("flatten",)) for name in "ab")
    two = Case(
        model=Model(
            kind="functional",
            inputs=(Input(name="x", shape=(2,), below=3),),
            nodes=(
                Node(name="embedding", layer="Embedding", config=FrozenMap(input_dim=3, output_dim=2), inputs=("x",)),
                Node(name="flatten", layer="Flatten", inputs=("embedding",)),
                *heads,
            ),
            outputs=("a", "b"),
        ),
        losses=(
            Loss(name="mean_squared_error", config=FrozenMap(reduction="sum"), weight=3.0),
            Loss(name="mean_squared_error", weight=0.5),
        ),
        optimizer=Optimizer(name="Adam", config=FrozenMap(learning_rate=0.125)),
        data=Data(rows=5, batch_size=4, pattern="small_integers"),
    )
    found = signatures(judge_case(two, Plan(("fit",), (MIRRORED,)), quick=True))
    assert any("sparse_gradient_not_summed" in signature for signature in found)
    assert any("replica_mean_of_means" in signature for signature in found)
    assert not any("unexplained" in signature for signature in found), found
