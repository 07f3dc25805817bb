"""The message of an assertion that fails: everything that is needed, and an end."""

from __future__ import annotations

import msgspec
import pytest

from conformance.failure import MARGIN, MOST_LINES, WIDTHS, divergence_error, failure
from conformance.raised import Raised
from conformance.stage import Stage
from conformance.verdict import (
    EVERY_ARM,
    UNJUDGED,
    ArmReport,
    Cause,
    Divergence,
    Observation,
    Verdict,
    verdict_from_data,
    verdict_to_data,
    without_steps,
)

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


def of_fit(**changes: object) -> Observation:
    """A fault of `fit` beside a loop."""
    return msgspec.structs.replace(observation(arms=ARMS[::-1]), **({"wrong_arm": ARMS[1]} | changes))


def test_a_loop_that_is_right_is_told_so_in_the_first_line() -> None:
    told = verdict(of_fit())
    assert told.acquitted == (ARMS[1],)
    assert failure(told, width=100).splitlines()[0] == (
        "diverges, and your loop is right: fit/single/graph differs from trial/single/graph"
    )
    assert str(told).splitlines()[0] == "diverges, and your loop is right: fit/single/graph is wrong"


@pytest.mark.parametrize(
    "told",
    [
        verdict(observation()),
        verdict(of_fit(), observation()),
        verdict(of_fit(wrong_arm=None)),
        verdict(of_fit(), flaky=("once",)),
        verdict(of_fit(), not_compared=(f"{UNJUDGED} of trial/single/graph: it raises",)),
        verdict(of_fit(), arms=(ArmReport(arm=ARMS[0], status="unsupported"), ArmReport(arm=ARMS[1], status="ran"))),
        verdict(of_fit(), arms=(ArmReport(arm=ARMS[1], status="ran"),)),
        verdict(outcome="conforms"),
    ],
)
def test_a_loop_is_called_right_only_where_it_was_judged_and_everything_wrong_is_not_its(told: Verdict) -> None:
    assert told.acquitted == ()
    assert "is right" not in failure(told).splitlines()[0]
    assert "is right" not in str(told).splitlines()[0]


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
    assert told.splitlines()[1:3] == [
        "  raises: ValueError: no gradients",
        "  line: /loops.py:3: optimizer.apply_gradients(pairs)",
    ]


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


RAISED = Raised(
    "ValueError",
    "Dimensions must be equal, but are 5 and 2.",
    "model/mine",
    "AddV2",
    "(4, 10) float32",
    "/layers.py:3: return a + b",
    "Mine",
    "(4, 5) float32, (4, 2) float32",
    "Traceback\n  \x1b[31mdeep",
)


def raises(*raised: Raised, **rest: object) -> Verdict:
    arms = tuple(ArmReport(arm=arm, status="raised", raised=item) for arm, item in zip(ARMS, raised, strict=True))
    return verdict(outcome="raises", arms=arms, reason=str(raised[0]), **rest)


def test_what_every_arm_raises_is_told_by_layer_operation_inputs_and_line() -> None:
    assert failure(raises(RAISED, RAISED), width=100).splitlines() == [
        "raises in every arm: ValueError: Dimensions must be equal, but are 5 and 2.",
        "  layer: model/mine (Mine)",
        "  operation: AddV2 of (4, 5) float32, (4, 2) float32",
        "  inputs: (4, 10) float32",
        "  line: /layers.py:3: return a + b",
    ]


@pytest.mark.parametrize("outcome", ["raises", "diverges"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_long_exception_is_told_by_its_beginning_and_its_end(outcome: str, width: int) -> None:
    long = Raised("ValueError", "the tables differ: " + "many words " * 40 + "so join them")
    shown = observation(step=None)
    made = msgspec.structs.replace(raises(long, long), verdict=outcome, observations=(shown,))
    told = " ".join(failure(made, width=width).split())
    assert "ValueError: the tables differ: many words" in told
    assert "words so join them" in told


def test_an_arm_that_raises_something_else_is_told_as_well() -> None:
    *_, last = failure(raises(RAISED, Raised("TypeError", "no")), width=100).splitlines()
    assert last == f"  otherwise {ARMS[1]}: TypeError: no"


@pytest.mark.parametrize("outcome", ["raises", "diverges"])
def test_a_hostile_exception_makes_it_neither_longer_nor_dangerous(outcome: str) -> None:
    hostile = Raised(*([HOSTILE] * 9))
    shown = observation(HOSTILE, HOSTILE, step=None)
    made = msgspec.structs.replace(
        raises(hostile, Raised(HOSTILE + "2", HOSTILE)),
        verdict=outcome,
        observations=(shown, shown),
        flaky=(HOSTILE,),
        repro="r",
    )
    told = failure(made, width=WIDTHS[0])
    assert len(told.splitlines()) <= MOST_LINES
    assert all(line.isprintable() and len(line) <= WIDTHS[0] for line in told.split("\n"))


def test_the_exception_has_the_traceback_as_its_cause_and_no_frames() -> None:
    error = divergence_error(raises(RAISED, RAISED))
    assert str(error.__cause__) == f"what {ARMS[0]} raised, where it surfaced:\nTraceback\n  deep"
    assert error.__cause__ is not None
    assert error.__cause__.__traceback__ is None
    assert divergence_error(verdict(observation())).__cause__ is None


def test_what_was_raised_goes_to_json_and_back() -> None:
    data = verdict_to_data(raises(RAISED, RAISED))
    assert data["raised"]["operands"] == RAISED.operands
    assert verdict_from_data(data).raised == RAISED
    assert verdict_to_data(verdict(observation()))["raised"] is None


def test_a_stream_of_verdicts_has_no_tracebacks() -> None:
    shown = without_steps(raises(RAISED, RAISED)).raised
    assert shown == msgspec.structs.replace(RAISED, traceback=None)


def test_a_verdict_in_words_has_the_layer_and_nothing_twice() -> None:
    told = str(raises(RAISED, RAISED, observations=(observation(step=None, axis=EVERY_ARM),)))
    assert "\n  layer: model/mine (Mine)\n" in told
    assert told.count("Dimensions must be equal") == 1
