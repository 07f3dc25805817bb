"""`*.case.json` files as tests."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import conformance
from conformance.case import Case
from conformance.plugin import cases

# The stand-in's verdict on a case is told by its seed.
CONFORMS, DIVERGES, UNSUPPORTED = 0, 1, 2


def _case(seed: int) -> Case:
    found = conformance.load_case(Path(__file__).parents[2] / "cases" / "scalar_loss.case.json")
    return msgspec.structs.replace(found, seed=seed)


@pytest.fixture
def project(stand_in: pytest.Pytester) -> pytest.Pytester:
    """A project with case files and a test in Python."""
    folder = stand_in.mkdir("found")
    for name, seed in (("right", CONFORMS), ("wrong", DIVERGES), ("odd", UNSUPPORTED)):
        conformance.save_case(_case(seed), folder / f"{name}.case.json")
    conformance.save_case(_case(DIVERGES), folder / "original.case.json")
    conformance.save_case(_case(DIVERGES), folder / "case.json")
    stand_in.makepyfile("def test_it():\n    pass\n")
    return stand_in


@pytest.mark.parametrize("options", [("-pno:xdist",), ("-n2",), ("-n2", "--dist=loadfile")], ids=" ".join)
def test_each_is_a_test_that_fails_without_a_traceback(project: pytest.Pytester, options: tuple[str, ...]) -> None:
    result = project.runpytest_subprocess(*options, "-rs")
    result.assert_outcomes(passed=2, failed=1, skipped=1)
    told = result.stdout.str()
    failed = told.partition("= FAILURES =")[2].partition("= conformance =")[0].splitlines()
    assert [line for line in failed if line and not line.startswith(("=", "_", "[gw"))] == [
        "diverges: trial/single/graph differs from fit/single/graph",
        "  first wrong: step 3, loss",
        "    loss[step 3] said",
        "  wrong arm: trial/single/graph",
        "  cause: mask_ignored: said",
        "  cure: said",
        "  signature: trainer/loss/mask_ignored",
    ]
    assert "  tests: found/wrong.case.json::conforms" in told
    assert "unsupported: said" in told


def test_they_are_judged_in_the_sessions_arms(project: pytest.Pytester) -> None:
    project.runpytest_subprocess("found/right.case.json", "--conformance-replicas=1,2", "--conformance-executions=xla")
    assert (project.path / "asked.txt").read_text("utf-8").splitlines() == ["devices 2", "check 1 2 xla"]


def test_their_ids_are_stable_and_select_them(project: pytest.Pytester) -> None:
    ids = ["found/odd.case.json::conforms", "found/right.case.json::conforms", "found/wrong.case.json::conforms"]
    result = project.runpytest_subprocess("--collect-only", "-q", "-m", "conformance")
    assert [line for line in result.outlines if "::" in line] == ids
    project.runpytest_subprocess(ids[1]).assert_outcomes(passed=1)


@pytest.mark.parametrize("text", ['{"seed": "\x1b[31m"}', "no json", "[" * 100_000], ids=["no case", "no json", "deep"])
def test_a_malformed_one_is_a_line_and_the_others_run(stand_in: pytest.Pytester, text: str) -> None:
    stand_in.makepyfile("def test_it():\n    pass\n")
    (stand_in.path / "bad.case.json").write_text(text, "utf-8")
    result = stand_in.runpytest_subprocess("--continue-on-collection-errors")
    result.assert_outcomes(passed=1, errors=1)
    block = result.stdout.str().partition("ERROR collecting bad.case.json")[2].partition("= short test")[0]
    (line,) = [line for line in block.splitlines()[1:] if line.strip("=")]
    assert "bad.case.json: " in line
    assert "\x1b" not in line


@pytest.mark.parametrize("options", [("-oconformance_collect_cases=false",), ("-pno:conformance",)], ids=" ".join)
def test_they_can_be_turned_off(project: pytest.Pytester, options: tuple[str, ...]) -> None:
    project.runpytest_subprocess(*options).assert_outcomes(passed=1)


def test_what_a_session_reports_is_no_test_of_the_next(project: pytest.Pytester) -> None:
    report = ("found/right.case.json", "--conformance-report=out")
    project.runpytest_subprocess(*report).assert_outcomes(passed=1)
    conformance.save_case(_case(CONFORMS), project.path / "out" / "minimal.case.json")
    project.runpytest_subprocess("out", "--conformance-report=out").assert_outcomes()


def test_a_case_that_was_made_smaller_is_no_test() -> None:
    assert cases.is_case(Path("found/my.case.json"))
    assert not cases.is_case(Path("found/original.case.json"))
    assert not cases.is_case(Path("found/case.json"))
