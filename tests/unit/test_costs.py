"""What training costs, in words and as data; no part of the judgement."""

from __future__ import annotations

import json

import pytest

from conformance import defaults
from conformance.costs import (
    ADVICE,
    FUNCTION,
    REPLICA,
    SHAPE,
    VALUE,
    Change,
    Costs,
    Traced,
    beyond,
    partial,
    retraced,
    seconds,
)
from conformance.errors import RetracedError
from conformance.retracing import Leaf, changes, is_partial, printable, unwrapped
from conformance.verdict import Verdict, verdict_from_data, verdict_to_data

TRIAL, FIT = "trial/single/graph", "fit/single/graph"
STEP = Change(kind=VALUE, argument="step", before="0", after="1")
ROWS = Change(kind=SHAPE, argument="x", before="(16, 4)", after="(11, 4)")


def costs(*functions: Traced, arm: str = TRIAL) -> Costs:
    return Costs(arm=arm, prepare=0.25, first_step=1.5, step=0.003, functions=functions, reading=0.009)


def traced(traces: int, *seen: Change, partial: int = 0, replicas: int = 0, file: str | None = "a/loops.py") -> Traced:
    return Traced(
        function="train_batch",
        file=file,
        line=None if file is None else 7,
        traces=traces,
        partial=partial,
        replicas=replicas,
        changes=seen,
    )


MANY = traced(4, STEP)
PARTIAL = traced(2, ROWS, partial=1)


def verdict(*found: Costs) -> Verdict:
    return Verdict(case=None, verdict="conforms", costs=found)


def test_a_function_traced_at_each_batch_is_told_with_the_argument_and_the_cure() -> None:
    (line,) = retraced([costs(MANY)])
    assert line == (
        f"{TRIAL} traces train_batch (loops.py:7) 4 times: step 0 -> 1, each Python value has a trace of its own;"
        " pass a tensor, as in `tf.constant(step)`"
    )
    assert line in str(verdict(costs(MANY)))


def test_a_smaller_last_batch_is_told_as_what_it_is_and_not_in_the_verdict() -> None:
    assert list(retraced([costs(PARTIAL)])) == []
    assert "retraced" not in str(verdict(costs(PARTIAL)))
    (line,) = partial([costs(PARTIAL)])
    assert "once more for its last, partial batch (x (16, 4) -> (11, 4))" in line


def test_beside_another_reason_the_smaller_last_batch_is_not_told() -> None:
    (line,) = retraced([costs(traced(5, STEP, ROWS))])
    assert "(11, 4)" not in line


def test_a_function_made_anew_is_told_without_an_argument() -> None:
    (line,) = retraced([costs(traced(3, Change(kind=FUNCTION)))])
    assert line.endswith(f"3 times: another function, {ADVICE[FUNCTION]}")


def test_a_trace_a_replica_is_no_retrace() -> None:
    item = costs(traced(2, Change(kind=REPLICA), replicas=1))
    assert item.retraces == 0
    assert list(retraced([item])) == []
    assert beyond([item], 0) is None


def test_what_frameworks_trace_is_counted_and_laid_to_nobody() -> None:
    item = costs(traced(3, STEP, file=None))
    assert (item.traces, item.retraces) == (3, 0)
    assert list(retraced([item])) == []


def test_more_retraces_than_are_allowed_fail_an_assertion_and_no_others() -> None:
    assert beyond([costs(MANY)], None) is None
    assert beyond([costs(MANY)], 3) is None
    assert beyond([costs(MANY, arm=FIT)], 0) is None
    told = beyond([costs(MANY), costs(PARTIAL, arm="trial/single/eager")], 2)
    assert told is not None
    assert told.splitlines()[0] == f"retraces: 3 beyond the first trace, at most 2 allowed [{TRIAL}]"
    assert "step 0 -> 1" in told
    assert "eager" not in told


def test_a_smaller_last_batch_counts_where_no_retrace_is_allowed() -> None:
    told = beyond([costs(PARTIAL)], 0)
    assert told is not None
    assert "x (16, 4) -> (11, 4), its last, partial batch" in told


def test_a_verdict_is_held_against_the_limit_of_the_session() -> None:
    defaults.hold(verdict(costs(MANY)))
    defaults.use(defaults.Defaults(max_retraces=2))
    try:
        with pytest.raises(RetracedError, match="3 beyond the first trace") as caught:
            defaults.hold(verdict(costs(MANY)))
        assert isinstance(caught.value.verdict, Verdict)
        defaults.hold(verdict(costs(PARTIAL)))
    finally:
        defaults.use(defaults.Defaults())


def test_costs_survive_json_and_what_was_not_counted_stays_so() -> None:
    made = verdict(costs(MANY, PARTIAL), Costs(arm=FIT, prepare=0.5, functions=None))
    data = json.loads(json.dumps(verdict_to_data(made), allow_nan=False))
    assert verdict_from_data(data) == made
    assert data["costs"][1]["functions"] is None
    del data["costs"]
    assert verdict_from_data(data).costs == ()


def test_the_share_of_the_data_is_that_of_a_step_which_reads_nothing_ahead() -> None:
    assert costs().waiting == pytest.approx(0.75)
    assert Costs(arm=FIT, prepare=0.1, step=0.1).waiting is None
    assert Costs(arm=FIT, prepare=0.1, reading=0.1).waiting is None


def test_a_line_says_what_was_not_measured() -> None:
    assert str(costs(MANY)) == (
        f"{TRIAL}: prepared in 250 ms, first step 1.5 s, a step 3 ms, traces 4, a batch of the data 9 ms, 75% of a step"
        " that reads nothing ahead"
    )
    assert str(Costs(arm=FIT, prepare=2, functions=None)) == (
        f"{FIT}: prepared in 2 s, a step not measured, traces not counted"
    )
    assert seconds(0.0) == "0 ms"


def tensor(*shape: int | None, dtype: str = "float32") -> Leaf:
    return Leaf("tensor", dtype, shape, raw=(dtype, shape))


def value(given: object) -> Leaf:
    return Leaf("value", repr(given), raw=given)


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        (tensor(16, 4), tensor(11, 4), "shape: x (16, 4) -> (11, 4)"),
        (tensor(4), tensor(4, dtype="float64"), "dtype: x float32 -> float64"),
        (value(0), value(1), "value: x 0 -> 1"),
        (value(0), tensor(), "structure: x 0 -> float32"),
        (Leaf("object", "Dense", raw=1), Leaf("object", "Dense", raw=2), "object: x Dense -> another Dense"),
    ],
)
def test_a_change_says_what_changed_from_what_to_what(before: Leaf, after: Leaf, wanted: str) -> None:
    assert [f"{change.kind}: {change}" for change in changes({"x": before}, {"x": after})] == [wanted]
    assert list(changes({"x": before}, {"x": before})) == []


def test_an_argument_that_is_gone_is_a_change_of_structure() -> None:
    (change,) = changes({"x": value(0), "y": value(1)}, {"x": value(0)})
    assert (change.kind, str(change)) == ("structure", "y 1 -> nothing")


@pytest.mark.parametrize(
    ("before", "after", "is_one"),
    [
        ({"x": tensor(16, 4), "y": tensor(16)}, {"x": tensor(11, 4), "y": tensor(11)}, True),
        ({"x": tensor(16, 4)}, {"x": tensor(None, 4)}, True),
        ({"x": tensor(11, 4)}, {"x": tensor(16, 4)}, False),
        ({"x": tensor(16, 4)}, {"x": tensor(16, 3)}, False),
        ({"x": tensor(16, 4), "step": value(0)}, {"x": tensor(11, 4), "step": value(1)}, False),
        ({"x": tensor(16, 4)}, {"x": tensor(16, 4)}, False),
        ({"x": tensor()}, {"x": tensor(1)}, False),
    ],
)
def test_a_partial_batch_has_fewer_rows_and_nothing_else(
    before: dict[str, Leaf], after: dict[str, Leaf], is_one: bool
) -> None:
    assert is_partial(before, after) is is_one


def test_what_strangers_write_does_nothing_to_a_terminal() -> None:
    assert (
        printable("a\x1b[31m\u202eb\n")
        == "a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"
    )
    assert len(printable("x" * 1000)) == 60


def test_a_function_is_found_below_what_is_put_around_it() -> None:
    import functools

    def inner() -> None: ...

    @functools.wraps(inner)
    def outer() -> None: ...

    assert unwrapped(functools.partial(outer)) is inner
