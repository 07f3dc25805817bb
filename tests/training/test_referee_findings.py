"""Findings of one arm alone: judged, made smaller, told in a script that a clean process agrees with, and replayed."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from conformance.arm import Arm, Placement, parse_arm
from conformance.attribution import REFEREE, Told, attributed, cause_of, divergence_of
from conformance.case import Case, Data, Input, Loss, Model, Node, Optimizer
from conformance.environment import environment
from conformance.finding import NOT_REPRODUCED, REPRODUCED, Finding
from conformance.frozen import FrozenMap
from conformance.judge import Plan, judge_case
from conformance.minimize import Shrinking, confirmed, plan_for, signatures
from conformance.referee.departure import Departure, Judgement, Named
from conformance.replay import STILL, replay_folders
from conformance.reports.folder import write_finding
from conformance.reports.repro import script
from conformance.reports.verify import verify_text
from conformance.stage import Stage
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


@pytest.mark.parametrize("signature", FOUND)
def test_a_script_of_the_finding_shows_both_numbers_in_a_clean_process(signature: str) -> None:
    verdict = judged(signature)
    assert verdict.signature == signature
    found = verdict.divergence
    assert found is not None
    assert found.expected is not None
    source = script(verdict)
    assert "model.fit(" in source
    assert "loop" not in source
    status, output = verify_text(source)
    assert status == REPRODUCED, output
    expected, seen = numbers(output, "expected"), numbers(output, "seen")
    assert np.allclose(expected, [float.fromhex(value) for value in found.expected.values], rtol=1e-6, atol=0)
    assert np.isclose(np.abs(np.subtract(seen, expected)).max(), found.magnitude, rtol=1e-3)


def test_a_script_conforms_once_keras_gives_what_is_expected() -> None:
    """What Keras gives in the last of several steps, expected in the place of what it should give."""
    verdict = judged("referee/update/averaged_every_step")
    (item, *_) = verdict.observations
    expected = Expected(shape=(1,), values=((-0.125).hex(),))
    case = verdict.case
    assert case is not None
    still = msgspec.structs.replace(
        case, optimizer=Optimizer(name="SGD", config=FrozenMap(learning_rate=0.125, use_ema=True))
    )
    found = msgspec.structs.replace(item.divergence, expected=expected, variable="learning_rate", step=1)
    found = msgspec.structs.replace(found, expected=Expected(shape=(), values=((0.125).hex(),)))
    told = msgspec.structs.replace(item, divergence=found)
    status, output = verify_text(script(msgspec.structs.replace(verdict, case=still, observations=(told,))))
    assert status == NOT_REPRODUCED
    assert output.endswith("CONFORMS\n[exit code 0]\n"), output


@pytest.mark.parametrize("signature", FOUND)
def test_a_smaller_case_shows_the_same_finding(signature: str) -> None:
    verdict = judged(signature)
    case = verdict.case
    assert case is not None
    # Another epoch and a metric are of no use to it.
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
