"""Devices are there before the first test that needs them, and who comes too late is told what to do."""

from __future__ import annotations

import pytest


def _asked(pytester: pytest.Pytester) -> list[str]:
    path = pytester.path / "asked.txt"
    return path.read_text("utf-8").splitlines() if path.exists() else []


NEEDS = """
import pytest

def asked():
    try:
        return open("asked.txt").read().split()
    except OSError:
        return []

at_import = asked()

def test_other():
    pass

{decorator}
def test_needs({argument}):
    print("at import:", *at_import)
    print("in the test:", *asked())
"""


@pytest.mark.parametrize(
    ("decorator", "argument"),
    [("", "conformance"), ("@pytest.mark.conformance", "")],
    ids=["fixture", "marker"],
)
def test_they_are_made_for_the_first_test_that_needs_them(
    stand_in: pytest.Pytester, decorator: str, argument: str
) -> None:
    stand_in.makepyfile(NEEDS.format(decorator=decorator, argument=argument))
    result = stand_in.runpytest_subprocess("-s", "-k", "needs")
    result.stdout.fnmatch_lines(["*at import:", "in the test: devices 1*"])
    (stand_in.path / "asked.txt").unlink()
    stand_in.runpytest_subprocess("-k", "other").assert_outcomes(passed=1, deselected=1)
    assert _asked(stand_in) == []


@pytest.mark.parametrize("workers", [("-pno:xdist",), ("-n1",)], ids=["alone", "worker"])
def test_those_that_were_asked_for_are_made_before_test_modules_are_imported(
    stand_in: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    stand_in.makepyfile(NEEDS.format(decorator="", argument="conformance") + "    assert at_import == asked()\n")
    stand_in.runpytest_subprocess(*workers, "--conformance-replicas=1,2").assert_outcomes(passed=2)
    # Once, and not in a controlling process that runs no test.
    assert _asked(stand_in) == ["devices 2"]


def test_collecting_alone_makes_none(stand_in: pytest.Pytester) -> None:
    stand_in.makepyfile(NEEDS.format(decorator="", argument="conformance"))
    stand_in.runpytest_subprocess("--collect-only", "--conformance-replicas=1,2")
    assert _asked(stand_in) == []


def test_who_comes_too_late_is_told_the_option_that_cures_it(
    stand_in: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATE", "1")
    stand_in.makepyfile("def test_late(conformance):\n    conformance.assert_conforms(replicas=(1, 3))\n")
    result = stand_in.runpytest_subprocess()
    result.stdout.fnmatch_lines(
        ["E *DeviceError: TensorFlow already started with 1; or set `conformance_replicas = 1,3` in pytest's ini file*"]
    )
    result.stdout.no_fnmatch_line("*judge.py*")


def test_where_the_option_came_too_late_the_session_says_so_in_a_line(
    stand_in: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STARTED", "1")
    stand_in.makepyfile(NEEDS.format(decorator="", argument="conformance"))
    result = stand_in.runpytest_subprocess("--conformance-replicas=1,2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line]
    assert line == "ERROR: TensorFlow already started with 1, and 2 are needed"
