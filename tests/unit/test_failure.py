"""The message of an assertion that fails: everything that is needed, and an end."""

from __future__ import annotations

import msgspec
import pytest

from conformance.failure import MARGIN, MOST_LINES, WIDTHS, failure
from conformance.raised import Raised
from conformance.stage import Stage
from conformance.verdict import ArmReport, Cause, Divergence, Observation, Verdict

HOSTILE = "\x1b[31mred\x1b]0;title\x07 \x00\u202e\r\n" + "word " * 400 + "unbroken" * 300

ARMS = ("trial/single/graph", "fit/single/graph")


def observation(text: str = "said", name: str = "mask_ignored", **changes: object) -> Observation:
    found = Divergence(
        arms=ARMS,
        axis="trainer",
        step=3,
        stage=Stage.GRADIENT,
        variable="dense/kernel",
        magnitude=1.0,
        allowed=0.0,
        message=f"gradient[step 3] dense/kernel = 2 x the other's; {text}",
    )
    cause = Cause(name=name, explanation=f"Why {text}", advice=f"Do {text}", exact=True, evidence=(f"seen {text}",))
    return Observation(
        divergence=msgspec.structs.replace(found, **changes),
        cause=cause,
        signature=f"trainer/gradient/{name}",
        wrong_arm=ARMS[0],
    )


def verdict(*observations: Observation, outcome: str = "diverges", **rest: object) -> Verdict:
    reports = tuple(ArmReport(arm=arm, status="ran") for arm in ARMS)
    return msgspec.structs.replace(
        Verdict(case=None, verdict=outcome, arms=reports, observations=observations),
        **rest,
    )


def test_it_names_arms_step_stage_seen_cause_cure_and_signature() -> None:
    assert failure(verdict(observation()), width=100).splitlines() == [
        "diverges: trial/single/graph differs from fit/single/graph",
        "  first wrong: step 3, gradient of dense/kernel",
        "    gradient[step 3] dense/kernel = 2 x the other's; said",
        "  wrong arm: trial/single/graph",
        "  cause: mask_ignored (reproduces every step): Why said",
        "    seen said",
        "  cure: Do said",
        "  signature: trainer/gradient/mask_ignored",
    ]


def test_an_arm_that_is_held_against_the_referee_says_so() -> None:
    head, where, *_ = failure(
        verdict(observation(arms=(ARMS[0], "referee"), step=None, epoch=1)), width=100
    ).splitlines()
    assert head == "diverges: trial/single/graph differs from the referee, textbook training in float64"
    assert where == "  first wrong: epoch 1, gradient of dense/kernel"


def test_an_arm_that_raises_is_told_with_the_users_line() -> None:
    raised = Raised("ValueError", "no gradients", line="/loops.py:3: optimizer.apply_gradients(pairs)")
    arms = (ArmReport(arm=ARMS[0], status="raised", raised=raised), ArmReport(arm=ARMS[1], status="ran"))
    told = failure(verdict(observation(step=None, variable="ValueError"), arms=arms), width=100)
    assert told.splitlines()[1] == "  raises: ValueError at /loops.py:3: optimizer.apply_gradients(pairs)"


def test_what_else_there_is_is_counted_in_a_line() -> None:
    told = failure(
        verdict(
            observation(),
            observation(name="clip_order"),
            observation(name="weight_decay"),
            observation(name="clip_order"),
            flaky=("a", "b"),
            remarks=("c", "d"),
        ),
        width=100,
    )
    *_, remark, last = told.splitlines()
    assert remark == "  remark: c"
    assert last == "  also: 3 further divergences (clip_order, weight_decay), 2 flaky differences, 1 further remark"


@pytest.mark.parametrize("outcome", ["diverges", "raises", "unsupported"])
def test_what_is_said_of_the_data_is_said_whatever_the_verdict(outcome: str) -> None:
    told = failure(verdict(outcome=outcome, remarks=(f"the data {HOSTILE}",)), width=80)
    assert told.splitlines()[-1].startswith("  remark: the data red")


def test_the_place_of_the_repro_or_report_stays_one_word() -> None:
    path = "/very/long" * 30
    assert failure(verdict(observation()), report=path, width=60).splitlines()[-1] == f"  report: {path}"
    assert failure(verdict(observation(), repro=path), report="r", width=60).splitlines()[-1] == f"  repro: {path}"


@pytest.mark.parametrize("width", [WIDTHS[0], 80, WIDTHS[1]])
def test_nothing_makes_it_longer_wider_or_dangerous(width: int) -> None:
    many = [observation(HOSTILE, f"{HOSTILE}{number}", variable=HOSTILE) for number in range(50)]
    told = failure(verdict(*many, repro=HOSTILE, flaky=(HOSTILE,), remarks=(HOSTILE,), rounding=("r",)), width=width)
    lines = told.split("\n")
    assert len(lines) <= MOST_LINES
    assert all(len(line) <= width for line in lines[:-1])
    assert all(line.isprintable() for line in lines)
    assert "[31m" not in told
    assert [line for line in lines if line.startswith("  cure: Do red")]


@pytest.mark.parametrize("outcome", ["raises", "unsupported"])
def test_a_verdict_without_divergence_says_its_reason(outcome: str) -> None:
    told = failure(verdict(outcome=outcome, reason=f"because {HOSTILE}"), width=80)
    assert told.startswith(f"{outcome}: because red")
    assert len(told.splitlines()) <= 4


def test_a_reason_that_is_not_known_leaves_the_arms() -> None:
    assert failure(verdict(outcome="diverges")) == f"diverges: {', '.join(ARMS)}"


def test_it_is_as_wide_as_the_terminal_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    long = verdict(observation("word " * 100))
    widest = {}
    for columns in (20, 90, 400):
        monkeypatch.setenv("COLUMNS", str(columns))
        widest[columns] = max(map(len, failure(long).splitlines()))
    assert widest[20] <= WIDTHS[0] < widest[90] <= 90 - MARGIN < widest[400] <= WIDTHS[1]
