"""Sessions of every kind tell the same findings: alone, distributed in any way, cut short, run again, killed."""

from __future__ import annotations

import json

import pytest

TESTS = """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_wrong(conformance, number):
    conformance.assert_conforms(verdict="diverges", text="wrong \\x1b[31m[red]")

class TestMore:
    def test_other(self, conformance):
        conformance.check(verdict="diverges", signature="both/loss/clip_order")

    def test_right(self, conformance):
        conformance.assert_conforms()
"""

SUMMARY = [
    "*= conformance =*",
    "both/loss/clip_order",
    "  loss[[]step 3[]] said",
    "  cause: clip_order: said",
    "  tests: test_it.py::TestMore::test_other",
    "trainer/loss/mask_ignored",
    "  loss[[]step 3[]] wrong [[]red[]]",
    "  cause: mask_ignored: wrong [[]red[]]",
    "  tests: test_it.py::test_wrong[[]0[]], test_it.py::test_wrong[[]1[]], test_it.py::test_wrong[[]2[]] and 1 more",
]


@pytest.fixture
def project(stand_in: pytest.Pytester) -> pytest.Pytester:
    """A project with two findings."""
    stand_in.makepyfile(test_it=TESTS)
    return stand_in


@pytest.mark.parametrize(
    "options",
    [(), ("-pno:xdist",), *(("-n2", f"--dist={dist}") for dist in ("load", "loadscope", "worksteal", "each"))],
    ids=lambda options: " ".join(options) or "plain",
)
def test_the_summary_tells_every_finding_once_by_its_signature(
    project: pytest.Pytester, options: tuple[str, ...]
) -> None:
    result = project.runpytest_subprocess(*options)
    times = 2 if "--dist=each" in options else 1
    result.assert_outcomes(passed=2 * times, failed=4 * times)
    told = result.stdout.str().partition("= conformance =")[2].splitlines()[1:9]
    # Alone the findings come as they are met, from several processes sorted by test.
    blocks = sorted([told[:4], told[4:]])
    assert blocks == sorted(
        [
            [line.replace("[[]", "[").replace("[]]", "]") for line in block]
            for block in (
                SUMMARY[1:5],
                SUMMARY[5:],
            )
        ]
    )


def test_the_summary_names_the_folder_of_a_finding_and_the_failure_its_repro(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--conformance-report=out", "-k", "wrong", "--junitxml=out.xml")
    folder = project.path / "out" / "findings" / "trainer-loss-mask-ignored"
    result.stdout.fnmatch_lines([f"E*repro: {folder / 'repro.py'}", f"  folder: {folder}"])
    assert f'<property name="repro" value="{folder / "repro.py"}"' in (project.path / "out.xml").read_text("utf-8")


def test_a_finding_that_no_fixture_saw_is_told_too(stand_in: pytest.Pytester) -> None:
    stand_in.makepyfile(
        "import conformance\nfrom conformance.api import judged\n"
        "def test_it():\n    raise conformance.DivergenceError('said', judged('diverges'))\n"
    )
    result = stand_in.runpytest_subprocess()
    result.stdout.fnmatch_lines(["trainer/loss/mask_ignored", "  tests: *::test_it"])


def test_a_session_without_findings_has_no_section(stand_in: pytest.Pytester) -> None:
    stand_in.makepyfile("def test_it(conformance):\n    conformance.assert_conforms()\n")
    result = stand_in.runpytest_subprocess()
    result.stdout.no_fnmatch_line("*= conformance =*")


DIES = {
    "the fixture": "def test_dies(conformance):\n    conformance.check(verdict='diverges')\n    os._exit(3)",
    "the function": "def test_dies():\n    try:\n        conformance.assert_conforms(verdict='diverges')\n"
    "    finally:\n        os._exit(3)",
}


@pytest.mark.parametrize("report", [(), ("--conformance-report=out",)], ids=["without a report", "with a report"])
@pytest.mark.parametrize("dies", DIES.values(), ids=DIES)
def test_a_worker_that_dies_loses_no_finding(stand_in: pytest.Pytester, dies: str, report: tuple[str, ...]) -> None:
    stand_in.makepyfile(test_it=f"import os\nimport conformance\n{dies}")
    options = ("-n1", "--max-worker-restart=0", "--conformance-sarif=out.sarif")
    result = stand_in.runpytest_subprocess(*options, *report)
    result.stdout.fnmatch_lines(["*= conformance =*", "trainer/loss/mask_ignored", "  tests: test_it.py::test_dies"])
    assert "trainer/loss/mask_ignored" in (stand_in.path / "out.sarif").read_text("utf-8")


def test_only_what_failed_runs_again(project: pytest.Pytester) -> None:
    project.runpytest_subprocess().assert_outcomes(passed=2, failed=4)
    result = project.runpytest_subprocess("--lf")
    result.assert_outcomes(failed=4)
    result.stdout.no_fnmatch_line("both/loss/clip_order")


def test_a_session_that_stops_at_the_first_failure_tells_it(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("-x")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["trainer/loss/mask_ignored", "  tests: test_it.py::test_wrong[[]0[]]"])


def test_without_the_plugin_the_fixture_is_missing_in_pytests_own_words(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("-pno:conformance")
    result.assert_outcomes(errors=6)
    result.stdout.fnmatch_lines(["E*fixture 'conformance' not found"])


def test_the_header_names_the_arms(stand_in: pytest.Pytester) -> None:
    result = stand_in.runpytest_subprocess("--conformance-replicas=1,8", "--conformance-executions=graph,eager")
    result.stdout.fnmatch_lines(
        ["conformance arms: single, mirrored:8 in graph, eager where a test names none; 8 logical devices, made*"]
    )


RAISES = """
def mine(case):
    raise KeyError("mine")

def test_it(conformance):
    conformance.check(mine, case=0)
"""


def test_what_the_users_own_code_raises_is_shown_without_the_engine(stand_in: pytest.Pytester) -> None:
    stand_in.makepyfile(test_it=RAISES)
    told = stand_in.runpytest_subprocess().stdout.str()
    assert 'raise KeyError("mine")' in told
    assert "judge.py" not in told
    assert "judge.py" in stand_in.runpytest_subprocess("--full-trace").stdout.str()


def test_where_the_engine_itself_fails_its_frames_are_shown(stand_in: pytest.Pytester) -> None:
    stand_in.makepyfile(
        "def test_ours():\n    from conformance.plugin.summary import findings\n    list(findings([None]))\n"
    )
    told = stand_in.runpytest_subprocess().stdout.str()
    assert "summary.py" in told


# The module's function, which no fixture is asked for.

FUNCTION = """
import json
import conformance
from conformance import assert_conforms

assert_conforms()

entry = {"signature": "both/loss/clip_order", "sentence": "Ours."}
with open("own.json", "w") as file:
    json.dump({"format": 2, "findings": [entry]}, file)

def test_right():
    assert_conforms()

def test_wrong():
    assert_conforms(verdict="diverges")

def test_session():
    assert assert_conforms(verdict="diverges", signature="both/loss/known").verdict == "known"

def test_own(conformance):
    for judge in (assert_conforms, conformance.assert_conforms):
        assert judge(verdict="diverges", signature="both/loss/clip_order", baseline="own.json").verdict == "known"

def test_looks():
    assert conformance.check(verdict="diverges", signature="both/loss/known").verdict == "diverges"
"""


@pytest.mark.parametrize("options", [("-pno:xdist",), ("-n1",)], ids=["alone", "a worker"])
def test_what_the_function_asserts_is_kept_as_what_the_fixture_does(
    stand_in: pytest.Pytester, options: tuple[str, ...]
) -> None:
    stand_in.makepyfile(test_it=FUNCTION)
    entry = {"signature": "both/loss/known", "sentence": "The session's."}
    (stand_in.path / "known.json").write_text(json.dumps({"format": 2, "findings": [entry]}), "utf-8")
    result = stand_in.runpytest_subprocess(
        *options, "--conformance-report=out", "--conformance-baseline=known.json", "--junitxml=out.xml"
    )
    result.assert_outcomes(passed=4, failed=1)
    folder = stand_in.path / "out" / "findings" / "trainer-loss-mask-ignored"
    result.stdout.fnmatch_lines([f"E*repro: {folder / 'repro.py'}"])
    told = result.stdout.str().partition("= conformance =")[2]
    assert told.count("trainer/loss/mask_ignored") == 1
    assert f"  tests: test_it.py::test_wrong\n  folder: {folder}\n" in told
    assert "known: both/loss/known: The session's.; test_it.py::test_session\n" in told
    assert "known: both/loss/clip_order: Ours.; test_it.py::test_own\n" in told
    assert "conformance: 1 conforms, 1 diverges, 3 known, in " in told
    assert f'<property name="repro" value="{folder / "repro.py"}"' in (stand_in.path / "out.xml").read_text("utf-8")
    assert [path.name for path in (stand_in.path / "out" / "findings").iterdir()] == ["trainer-loss-mask-ignored"]


def test_without_the_plugin_the_function_asserts_as_elsewhere(stand_in: pytest.Pytester) -> None:
    stand_in.makepyfile(test_it=FUNCTION.replace("conformance.assert_conforms)", "assert_conforms)"))
    result = stand_in.runpytest_subprocess("-pno:conformance", "-k", "not own")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["E*DivergenceError: diverges: trial/single/graph differs from fit/single/graph"])
    result.stdout.no_fnmatch_line("*= conformance =*")


def test_where_an_exception_has_ended_what_replicas_need_the_test_says_what_cures_it(stand_in: pytest.Pytester) -> None:
    stand_in.makepyfile(
        "from conformance.errors import ABORTED\n"
        "def test_it(conformance):\n    conformance.assert_conforms(verdict='unsupported', text=ABORTED)\n"
    )
    told = " ".join(stand_in.runpytest_subprocess().stdout.str().replace("\nE", " ").split())
    assert "a new process cures that: run this test in a session of its own" in told


DIES = """
import os

def dies(case):
    os._exit(3)

def test_wrong(conformance):
    conformance.assert_conforms(verdict="diverges")

def test_dies(conformance):
    conformance.check(dies, case=1)
"""


def test_a_process_that_dies_while_a_training_is_judged_is_named_by_its_test(stand_in: pytest.Pytester) -> None:
    stand_in.makepyfile(test_it=DIES)
    distributed = stand_in.runpytest_subprocess("-n1", "--max-worker-restart=0", "--conformance-report=out")
    distributed.stdout.fnmatch_lines(
        ["trainer/loss/mask_ignored", "died: test_it.py::test_dies: its process died while a training was judged"]
    )
    # Alone there is nobody left who could tell it, but the next session.
    assert stand_in.runpytest_subprocess("-pno:xdist", "--conformance-report=out").ret == 3
    assert "mask_ignored" in (stand_in.path / "out" / "verdicts-main.jsonl").read_text("utf-8")
    looks = stand_in.runpytest_subprocess("-pno:xdist", "--conformance-report=out", "--collect-only")
    looks.stdout.no_fnmatch_line("conformance: *")
    result = stand_in.runpytest_subprocess("-pno:xdist", "--conformance-report=out", "-k", "wrong")
    result.stdout.fnmatch_lines(
        ["died: test_it.py::test_dies: an earlier session died while a training was judged", "conformance: 1 diverges*"]
    )
    again = stand_in.runpytest_subprocess("-pno:xdist", "--conformance-report=out", "-k", "wrong")
    again.stdout.no_fnmatch_line("died: *")


# What a shell starts in the background ignores the signal, and so does all that it starts.
INTERRUPT = "signal.signal(signal.SIGINT, signal.default_int_handler); os.kill(os.getpid(), signal.SIGINT)"
INTERRUPTED = DIES.replace("os._exit(3)", INTERRUPT).replace("os\n", "os, signal\n", 1)


def test_a_session_that_is_interrupted_tells_and_keeps_what_it_has_found(stand_in: pytest.Pytester) -> None:
    stand_in.makepyfile(test_it=INTERRUPTED)
    options = ("-pno:xdist", "--conformance-report=out", "--conformance-sarif=out.sarif")
    result = stand_in.runpytest_subprocess(*options)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["trainer/loss/mask_ignored", "  tests: test_it.py::test_wrong"])
    result.stdout.fnmatch_lines(["conformance: 1 diverges, in *out"])
    result.stdout.no_fnmatch_line("died: *")
    assert "trainer/loss/mask_ignored" in (stand_in.path / "out.sarif").read_text("utf-8")


UNUSUAL = """
import unittest

import conformance as package
from conformance.api import judged
import pytest

class TestOfUnittest(unittest.TestCase):
    def test_unit(self):
        raise package.DivergenceError("of unittest", judged("diverges", signature="both/loss/of_unittest"))

def in_a_doctest():
    \"\"\"
    >>> getfixture("conformance").check(verdict="diverges", signature="both/loss/of_a_doctest").verdict
    'diverges'
    \"\"\"

@pytest.fixture(scope="session")
def wide(conformance):
    return conformance

def test_too_wide(wide):
    pass

@pytest.mark.parametrize("name", ["a b", "[x]", "\N{GREEK SMALL LETTER ALPHA}"])
def test_named(conformance, name):
    conformance.assert_conforms(verdict="diverges", signature="both/loss/of_a_parameter")
"""


@pytest.mark.parametrize(
    "options",
    [
        ("-q", "-Werror", "--strict-markers", "--strict-config", "--import-mode=importlib", "--tb=short"),
        ("-n2", "--dist=loadgroup", "--tb=native", "-vv"),
        pytest.param(("-n2", "--dist=no", "--tb=line", "-p", "no:cacheprovider"), marks=pytest.mark.nightly),
        pytest.param(("-s", "--tb=no", "--showlocals", "--rootdir=."), marks=pytest.mark.nightly),
    ],
    ids=" ".join,
)
def test_tests_of_every_kind_are_told_with_every_option_and_from_elsewhere(
    stand_in: pytest.Pytester, options: tuple[str, ...]
) -> None:
    # Called from another directory, whose conftest.py is the stand-in.
    folder = stand_in.mkdir("deep")
    (folder / "test_it.py").write_text(UNUSUAL, "utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nconformance_report = of_ini\n", "utf-8")
    result = stand_in.runpytest_subprocess("deep", "-p", "conftest", "--doctest-modules", *options)
    result.assert_outcomes(failed=4, passed=1, errors=1)
    told = result.stdout.str()
    for name in ("of_unittest", "of_a_doctest", "of_a_parameter"):
        assert f"\nboth/loss/{name}\n" in told
    if "--tb=no" not in options:
        assert "ScopeMismatch: You tried to access the function scoped fixture conformance" in told
    assert "INTERNALERROR" not in told
    assert "judge.py" not in told
