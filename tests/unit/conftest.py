"""A finding and a run as no real one would be: everything in them that a stranger writes may be anything."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from conformance.case import Case, Data, Input, Loss, Model, Node, Optimizer, Schedule, to_json
from conformance.costs import VALUE, Change, Costs, Traced
from conformance.events import (
    CaseJudged,
    CaseStarted,
    DivergenceSeen,
    Event,
    FindingMade,
    Problem,
    RunEnded,
    RunStarted,
    WorkerDied,
    WorkerReady,
)
from conformance.finding import REPRODUCED, Environment, Finding, slug
from conformance.frozen import FrozenMap
from conformance.margin import Margins, Meter
from conformance.raised import Raised
from conformance.stage import STAGES, Stage
from conformance.verdict import ArmReport, Cause, Divergence, Observation, Verdict, verdict_to_data

FIT, LOOP = "fit/mirrored:2/graph", "loop/mirrored:2/graph"


def case() -> Case:
    """Two inputs, a line that passes two rows, a layer called again, two outputs."""
    nodes = (
        Node(name="hidden", layer="Dense", config=FrozenMap(units=3, kernel_regularizer={"l2": 0.5}), inputs=("a",)),
        Node(name="again", shares="hidden", inputs=("hidden",)),
        Node(name="joined", layer="Concatenate", inputs=("again", "a", "b")),
        Node(name="one", layer="Dense", config=FrozenMap(units=1), inputs=("joined",)),
        Node(name="two", layer="Dense", config=FrozenMap(units=2), inputs=("hidden",)),
    )
    return Case(
        model=Model(
            kind="functional",
            inputs=(Input(name="a", shape=(3,)), Input(name="b", shape=(2,))),
            nodes=nodes,
            outputs=("one", "two"),
        ),
        losses=(Loss(name="mean_squared_error"), Loss(name="huber")),
        optimizer=Optimizer(name="SGD", config=FrozenMap(learning_rate=0.125, clipnorm=0.5)),
        data=Data(rows=21, batch_size=8),
        schedule=Schedule(epochs=2),
    )


def margins(arms: tuple[str, str], allowed: float, seen: float, name: str, steps: int) -> Margins:
    """From step 1 on the gradient is off."""
    meter = Meter()
    for step in range(steps):
        for stage in STAGES:
            off = seen if step and stage.order >= Stage.GRADIENT.order else 0.25 * allowed
            meter.note(step, stage, name, off, allowed)
    meter.note(None, Stage.LOGS, name, math.inf, allowed, epoch=0)
    return meter.margins(arms)


@pytest.fixture
def made_finding() -> Callable[..., Finding]:
    """Takes a text that stands wherever a stranger may write, and the number of steps."""

    def make(text: str = "said", steps: int = 4, *, raised: bool = False) -> Finding:
        found = Divergence(
            arms=(FIT, LOOP),
            axis="both",
            step=1,
            stage=Stage.GRADIENT,
            variable=text if text != "said" else "model/hidden/kernel",
            magnitude=0.5,
            allowed=1e-6,
            ratio=2.0,
            message=text,
        )
        cause = Cause(name="clip_order", explanation=text, advice=f"Do `{text}`.", exact=True, evidence=(text,))
        item = Observation(
            divergence=found, cause=cause, signature="distribution/gradient/clip_order/clipnorm", wrong_arm=FIT
        )
        error = Raised(text, text) if raised else None
        arms = (
            ArmReport(arm=FIT, status="raised" if raised else "ran", seconds=0.5, raised=error, reason=text),
            ArmReport(arm=LOOP, status="ran", seconds=0.25),
        )
        again = Change(kind=VALUE, argument=text, before=text, after=text)
        function = Traced(function=text, file=text, line=1, traces=3, changes=(again,))
        costs = (Costs(arm=FIT, prepare=0.5, first_step=1.0, step=0.001, functions=(function,)),)
        comparisons = (
            margins((FIT, LOOP), 0.0, 0.5, text, steps),
            margins((FIT, "referee"), 1e-6, 0.5, text, steps),
            margins((LOOP, "referee"), 1e-6, 1e-7, text, steps),
        )
        return Finding(
            verdict=Verdict(
                case=case(),
                verdict="diverges",
                arms=arms,
                observations=(item,),
                rounding=(text,),
                comparisons=comparisons,
                costs=costs,
            ),
            original=case(),
            environment=Environment("3.11", "2.21.0", "3.15.1", "2.4", "0.1", text, text),
            attempts=1,
            repro_status=REPRODUCED,
            repro_output=text,
        )

    return make


@pytest.fixture
def made_run(made_finding: Callable[..., Finding]) -> Callable[..., list[Event]]:
    """Takes such a text too; three signatures, the second of which was never minimized."""

    def make(text: str = "said") -> list[Event]:
        finding = made_finding(text)
        shown = verdict_to_data(finding.verdict)
        signatures = [finding.signature, "trainer/logs/unexplained", "both/batch/batch_skipped"]

        def judged(index: int, *found: str, outcome: str = "diverges") -> list[Event]:
            return [
                CaseStarted(index=index, case=to_json(case())),
                CaseJudged(
                    index=index, seconds=1.5, outcome=outcome, signatures=found, message=text, path=text, verdict=shown
                ),
            ]

        def minimized(signature: str, wrong: str | None) -> Event:
            return FindingMade(
                signature=signature,
                message=text,
                cause=signature.split("/")[2],
                explanation=text,
                advice=text,
                wrong_arm=wrong,
                folder=f"out/findings/{slug(signature)}",
                repro="",
                repro_status=REPRODUCED,
                layers=1,
                attempts=4,
                seconds=2.0,
            )

        return [
            RunStarted(arms=(FIT, text), seed=3, workers=2, report="out", examples=10),
            WorkerReady(environment=finding.environment),
            *judged(0, outcome="conforms"),
            *judged(1, signatures[0]),
            *judged(2, signatures[0], signatures[1]),
            *judged(3, signatures[2]),
            *judged(4, outcome="unsupported"),
            DivergenceSeen(signature=signatures[0], message=text),
            minimized(signatures[0], FIT),
            minimized(signatures[2], None),
            CaseStarted(index=5, case=text),
            WorkerDied(reason=text, case=text, path=text),
            Problem(message=text),
            RunEnded(
                outcomes={"conforms": 1, "diverges": 3, "unsupported": 1},
                signatures={},
                findings=2,
                seconds=9.0,
                report="out",
            ),
        ]

    return make


HOSTILE = {
    "markup": "</script></style><img src=x onerror=alert(1)><b>bold</b><!-- ${7*7} {{ 7*7 }} {% raw %}",
    "quotes": '"\'`"\' onmouseover="x" ``` | ) ](javascript:alert(1)) <javascript:alert(2)>',
    "escapes": "\x1b[31mred\x1b]0;title\x07\x00\x9b31m\r\nnext\ttab",
    "long": "unbroken" * 625,
    "long words": "word " * 1000,
    "right to left": "\u202eevil\u202c \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u2067x\u2069",
    "combining": "e" + "\u0301" * 200 + " \U0001f469\u200d\U0001f52c \u6f22\u5b57" * 20,
    "surrogates": "half \ud800 of a pair \udfff",
}


@pytest.fixture(params=HOSTILE.values(), ids=HOSTILE.keys())
def hostile(request: pytest.FixtureRequest) -> str:
    """What a stranger may write."""
    text: str = request.param
    return text


@pytest.fixture
def everything_hostile() -> str:
    """All of it in one."""
    return " ".join(HOSTILE.values())
