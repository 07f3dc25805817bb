"""`conformance.given` in sessions of its own: Hypothesis's options and decorators do what they do elsewhere."""

from __future__ import annotations

import json
from itertools import groupby

import pytest

import conformance
from conformance import drawn
from conformance.errors import UsageError
from conformance.failure import MOST_LINES
from conformance.plugin import hooks

# A stand-in of a loop is judged by what it says of a case.
LOOP = """
import conformance
from conformance.api import judged
from hypothesis import example, settings, strategies as st, Phase

def loop(case):
    return judged("diverges" if case.data.rows > 5 else "conforms")

# Some seeds draw none for long.
def forgets(case):
    return judged("diverges" if any("kernel_regularizer" in node.config for node in case.model.nodes) else "conforms")

def refuses(case):
    return judged("unsupported")

def seen(case):
    with open("cases.txt", "a") as file:
        print(case.data.rows, case.seed, file=file)

SMALL = dict(max_layers=1, losses=["mean_squared_error"])
"""

QUIET = "-pno:cacheprovider"


def _run(pytester: pytest.Pytester, source: str, *options: str, seed: str = "1") -> pytest.RunResult:
    """Run it on the same draws each time; without a seed where the database is asked, which Hypothesis keeps by it."""
    pytester.makepyfile(test_drawn=LOOP + source)
    return pytester.runpytest_subprocess(QUIET, *([f"--hypothesis-seed={seed}"] if seed else []), *options)


def _cases(pytester: pytest.Pytester) -> list[str]:
    path = pytester.path / "cases.txt"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


WRONG = """
@settings(max_examples=400)
@conformance.given(loop=forgets)
def test_loop():
    pass
"""
SMALLEST = """\
E   Failing test case: test_loop(
E       case=Case(
E           model=Model(
E               inputs=(Input(name='input_1', shape=(1,)),),
E               nodes=(Node(name='dense', layer='Dense', config={'kernel_regularizer': {'l2': 0.125}, 'units': 1},
E                   inputs=('input_1',)),),
E               outputs=('dense',)),
E           losses=(Loss(name='mean_squared_error'),),
E           optimizer=Optimizer(name='SGD', config={'learning_rate': 0.125}),
E           data=Data(rows=2, batch_size=2, pattern='ones')),
E   )
"""


@pytest.mark.parametrize("options", [(), ("-n2",), ("-pno:xdist",)], ids=["alone", "two workers", "without xdist"])
def test_a_loop_that_is_wrong_fails_on_the_smallest_case(stand_in: pytest.Pytester, options: tuple[str, ...]) -> None:
    result = _run(stand_in, WRONG, *options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">*@conformance.given(loop=forgets)",
            "E*DivergenceError: diverges: trial/single/graph differs from fit/single/graph",
            "*= conformance =*",
            "trainer/loss/mask_ignored",
            "  tests: test_drawn.py::test_loop",
        ]
    )
    assert SMALLEST in result.stdout.str()
    result.stdout.no_fnmatch_line("*def inner*")
    result.stdout.no_fnmatch_line("*Explanation:*")


def _asked(pytester: pytest.Pytester) -> list[str]:
    path = pytester.path / "asked.txt"
    lines = path.read_text("utf-8").splitlines()
    path.unlink()
    return [line.split()[0] for line in lines if not line.startswith("devices")]


def test_a_failure_is_no_longer_than_a_screen(stand_in: pytest.Pytester) -> None:
    long = "what is said of a cause may be long, and is then cut; " * 20
    source = f"""
def wordy(case):
    return judged("diverges" if forgets(case).verdict == "diverges" else "conforms", text={long!r})

@settings(max_examples=400)
@conformance.given(loop=wordy)
def test_loop():
    pass
"""
    told = [line for line in _run(stand_in, source).outlines if line.startswith("E ")]
    assert len(told) <= MOST_LINES
    assert "E     example: code for @example(case=...), with the names of conformance.case" in told


def test_the_smallest_case_is_not_looked_for_again(stand_in: pytest.Pytester) -> None:
    _run(stand_in, WRONG, seed="").assert_outcomes(failed=1)
    assert "judge" in _asked(stand_in)
    result = _run(stand_in, WRONG, seed="")
    result.assert_outcomes(failed=1)
    assert SMALLEST in result.stdout.str()
    assert _asked(stand_in) == ["check"]


def test_a_smallest_case_that_has_come_right_does_not_hide_the_first(stand_in: pytest.Pytester) -> None:
    _run(stand_in, WRONG, seed="").assert_outcomes(failed=1)
    cured = """
def forgets(case, old=forgets):
    return judged() if case.model.nodes[0].name == "dense" else old(case)
"""
    result = _run(stand_in, cured + WRONG, seed="")
    result.assert_outcomes(failed=1)
    assert "kernel_regularizer" in result.stdout.str()
    assert SMALLEST not in result.stdout.str()


def test_without_the_phase_nothing_is_made_smaller(stand_in: pytest.Pytester) -> None:
    source = WRONG.replace("max_examples=400", "max_examples=400, phases=[Phase.generate]")
    _run(stand_in, source).assert_outcomes(failed=1)
    assert set(_asked(stand_in)) == {"check"}


def test_a_test_that_runs_twice_fails_twice(stand_in: pytest.Pytester) -> None:
    source = """
import pytest

@settings(max_examples=30, database=None)
@conformance.given(loop=loop, **SMALL)
def judge():
    pass

@pytest.mark.parametrize("time", [1, 2])
def test_twice(time):
    judge()
"""
    result = _run(stand_in, source)
    result.assert_outcomes(failed=2)
    assert result.stdout.str().count("Data(rows=6, batch_size=6, ") == 2
    # What Hypothesis shrinks by is not judged, and what it draws in the second run is.
    assert [what for what, _ in groupby(_asked(stand_in))] == ["check", "judge", "check", "judge"]


def test_what_the_body_says_of_a_case_is_shrunk_by_hypothesis(stand_in: pytest.Pytester) -> None:
    source = """
@settings(max_examples=30)
@conformance.given(loop=lambda case: judged(), **SMALL)
def test_case(case):
    assert case.data.rows <= 5
"""
    result = _run(stand_in, source)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Data(rows=6,*"])


def test_the_smallest_case_is_one_that_was_asked_for(stand_in: pytest.Pytester) -> None:
    source = """
@settings(max_examples=400)
@conformance.given(loop=forgets, optimizers=["Adam"], losses=iter(["log_cosh"]), feeds=["generator"])
def test_loop():
    pass
"""
    result = _run(stand_in, source)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*'kernel_regularizer'*", "*name='log_cosh'*", "*name='Adam'*", "*feed='generator'*"])


def test_what_failed_comes_first_from_the_database(stand_in: pytest.Pytester) -> None:
    source = """
@settings(max_examples=30, phases=[Phase.reuse, Phase.generate, Phase.shrink])
@conformance.given(**SMALL)
def test_case(case):
    seen(case)
    assert case.data.rows <= 5
"""
    _run(stand_in, source, seed="").assert_outcomes(failed=1)
    *_, smallest = _cases(stand_in)
    _run(stand_in, source, seed="").assert_outcomes(failed=1)
    assert _cases(stand_in)[0] == smallest
    assert smallest.startswith("6 ")


def test_the_seed_decides_what_is_drawn(stand_in: pytest.Pytester) -> None:
    source = """
@settings(max_examples=5, database=None)
@conformance.given(**SMALL)
def test_case(case):
    seen(case)
"""
    drawn_by_seed = []
    for seed in ("1", "1", "2"):
        _run(stand_in, source, seed=seed).assert_outcomes(passed=1)
        drawn_by_seed.append(_cases(stand_in))
    first, again, other = drawn_by_seed
    assert len(first) == 5
    assert first == again != other


def test_an_explicit_example_is_judged(stand_in: pytest.Pytester) -> None:
    source = """
from conformance import strategies
import hypothesis
six = hypothesis.find(strategies.cases(**SMALL), lambda case: case.data.rows == 6)

@settings(max_examples=3, phases=[Phase.explicit])
@example(six)
@conformance.given(loop=loop, **SMALL)
def test_by_place():
    pass

@settings(max_examples=3, phases=[Phase.explicit])
@conformance.given(loop=loop, **SMALL)
@example(case=six)
def test_by_name(case):
    pass
"""
    result = _run(stand_in, source)
    result.assert_outcomes(failed=2)
    assert result.stdout.str().count("Failing explicit example") == 2
    result.stdout.no_fnmatch_line("*_raise_to_user*")


def test_a_test_that_takes_the_verdict_says_itself_what_it_should_be(stand_in: pytest.Pytester) -> None:
    source = """
import pytest

@pytest.fixture(scope="module")
def allowed():
    return ("diverges", "conforms")

class TestIt:
    @settings(max_examples=20, database=None)
    @conformance.given(loop=loop, **SMALL)
    def test_verdict(self, allowed, verdict):
        seen_verdicts.add(verdict.verdict)

    @settings(max_examples=20, database=None)
    @conformance.given(**SMALL)
    def test_both(self, verdict, allowed, case):
        assert verdict.verdict == ("conforms", "diverges")[case.seed % 2]

def test_seen():
    assert seen_verdicts == {"diverges", "conforms"}

seen_verdicts = set()
"""
    _run(stand_in, source).assert_outcomes(passed=3)


def test_the_arms_are_those_of_the_decorator_or_else_of_the_session(stand_in: pytest.Pytester) -> None:
    source = """
@settings(max_examples=1, database=None)
@conformance.given(loop=loop, **SMALL)
def test_a(verdict):
    pass

@settings(max_examples=1, database=None)
@conformance.given(loop=loop, replicas=3, executions=("xla",), **SMALL)
def test_b(verdict):
    pass

@settings(max_examples=1, database=None)
@conformance.given(loop=loop, replicas=(2, 4), **SMALL)
def test_c(verdict):
    pass
"""
    _run(stand_in, source, "--conformance-replicas=1,5", "--conformance-executions=eager").assert_outcomes(passed=3)
    asked = (stand_in.path / "asked.txt").read_text("utf-8").splitlines()
    assert asked == ["devices 5", "check 1 5 eager", "check 1 3 xla", "check 2 4 eager"]


def test_only_the_deadline_of_every_test_is_lifted(stand_in: pytest.Pytester) -> None:
    source = """
from datetime import timedelta
from hypothesis import given

@conformance.given(**SMALL)
def test_usual(case):
    pass

@settings(max_examples=7)
@conformance.given(**SMALL)
def test_other_settings(case):
    pass

@settings(deadline=500)
@conformance.given(**SMALL)
def test_own(case):
    pass

@given(st.integers())
def test_of_hypothesis(number):
    pass

def test_deadlines(request):
    told = {item.name: item.obj._hypothesis_internal_use_settings for item in request.session.items[:-1]}
    assert told["test_usual"].deadline is told["test_other_settings"].deadline is None
    assert told["test_other_settings"].max_examples == 7
    assert told["test_own"].deadline == timedelta(milliseconds=500)
    assert told["test_of_hypothesis"].deadline == timedelta(milliseconds=200)
"""
    # CI has a profile of Hypothesis's own that has no deadline.
    _run(stand_in, source, "--hypothesis-profile=default").assert_outcomes(passed=5)


def test_cases_that_cannot_be_judged_are_counted(stand_in: pytest.Pytester) -> None:
    source = """
from hypothesis import HealthCheck

@settings(max_examples=5, suppress_health_check=list(HealthCheck), database=None)
@conformance.given(loop=refuses, **SMALL)
def test_loop(case):
    raise AssertionError
"""
    result = _run(stand_in, source, "--hypothesis-show-statistics")
    result.stdout.fnmatch_lines(["*unsupported: said*"])


def test_what_the_baseline_knows_passes(stand_in: pytest.Pytester) -> None:
    entry = {"signature": "trainer/loss/mask_ignored", "sentence": "We know."}
    (stand_in.path / "known.json").write_text(json.dumps({"format": 2, "findings": [entry]}), "utf-8")
    source = WRONG.replace("max_examples=400", "max_examples=30").replace("loop=forgets", "loop=loop, **SMALL")
    _run(stand_in, source, "--conformance-baseline=known.json").assert_outcomes(passed=1)


def test_the_marker_selects_tests_over_drawn_cases(stand_in: pytest.Pytester) -> None:
    result = _run(stand_in, WRONG + "\ndef test_other():\n    pass\n", "-mconformance", "--collect-only", "-q")
    result.stdout.fnmatch_lines(["test_drawn.py::test_loop", "*1/2 tests collected*"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"max_layers": 0}, "max_layers=0 should be a whole number"),
        ({"replicas": ()}, r"replicas=\(\) should be whole numbers"),
        ({"replicas": "2"}, "replicas='2' should be whole numbers"),
        ({"losses": "mse"}, "losses='mse' should be a collection"),
    ],
)
def test_what_cannot_be_drawn_is_said_when_the_test_is_made(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        conformance.given(**arguments)  # type: ignore[arg-type]


def test_a_test_that_could_see_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="takes neither case nor verdict"):
        conformance.given()(lambda: None)
    with pytest.raises(UsageError, match="takes 'rest' by its place"):
        conformance.given()(lambda case, **rest: None)


def test_the_plugin_knows_the_mark_of_the_decorator() -> None:
    assert hooks.GIVEN == drawn.MARK
