"""Options: on the command line, in the ini file and in `[tool.conformance]`, in this order."""

from __future__ import annotations

import json

import pytest

from conformance import baseline
from conformance.plugin import options

ASKS = "def test_it(conformance):\n    conformance.check(verdict='diverges')\n"


def _asked(pytester: pytest.Pytester) -> list[str]:
    path = pytester.path / "asked.txt"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


@pytest.mark.parametrize("workers", [("-pno:xdist",), ("-n1",)], ids=["alone", "worker"])
def test_the_command_line_goes_before_the_ini_file_and_that_before_the_table(
    stand_in: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    stand_in.makepyfile(ASKS)
    stand_in.makefile(".toml", pyproject="[tool.conformance]\nreplicas = [1, 3]\nexecutions = 'eager'\n")
    stand_in.runpytest_subprocess(*workers).assert_outcomes(passed=1)
    assert _asked(stand_in) == ["devices 3", "check 1 3 eager"]
    stand_in.makeini("[pytest]\nconformance_replicas = 1,2\n")
    stand_in.runpytest_subprocess(*workers).assert_outcomes(passed=1)
    assert _asked(stand_in) == ["devices 2", "check 1 2 eager"]
    stand_in.runpytest_subprocess(*workers, "--conformance-replicas=4", "--conformance-executions=graph,xla")
    assert _asked(stand_in) == ["devices 4", "check 4 graph xla"]


def test_what_a_test_says_goes_before_all(stand_in: pytest.Pytester) -> None:
    stand_in.makepyfile("def test_it(conformance):\n    conformance.assert_conforms(replicas=(1, 6))\n")
    stand_in.runpytest_subprocess("--conformance-replicas=2").assert_outcomes(passed=1)
    assert _asked(stand_in) == ["devices 2", "check 1 6 graph"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[tool.conformance]\nreplica = 2\n", "*does not know 'replica'; it takes report, sarif, baseline, replicas*"),
        ("[tool.conformance]\nreplicas = 0\n", "*replicas in [[]tool.conformance[]] = 0 should be whole numbers*"),
        ("[tool.conformance]\nreport = 3\n", "*report in [[]tool.conformance[]] = 3 should be a path"),
        ("[tool]\nconformance = 3\n", "*tool.conformance should be a table*"),
    ],
)
def test_a_table_that_is_wrong_is_one_line(pytester: pytest.Pytester, table: str, said: str) -> None:
    pytester.makefile(".toml", pyproject=table)
    result = pytester.runpytest_subprocess("--rootdir=.", "-pno:xdist")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line]
    result.stderr.fnmatch_lines([f"ERROR: {said}"])
    assert "conformance" in line


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--conformance-replicas=two",), "ERROR: --conformance-replicas = 'two' should be whole numbers from 1 to*"),
        (("--conformance-replicas=",), "ERROR: --conformance-replicas = '' should be whole numbers*"),
        (("--conformance-executions=fast",), "ERROR: --conformance-executions = 'fast' should be names among graph*"),
        (("-oconformance_collect_cases=maybe",), "ERROR: conformance_collect_cases in * should be true or false"),
        (("--conformance-baseline=missing.json",), "ERROR: the baseline: *missing.json: No such file or directory"),
        (
            ("--conformance-replicas=" + "9" * 5000,),
            "ERROR: --conformance-replicas = '9*9... (5,002 characters) should*",
        ),
        (
            ("--conformance-max-retraces=" + "9" * 5000,),
            "ERROR: --conformance-max-retraces = '9*... (5,002 * should*",
        ),
        (("--conformance-executions=\x1b[31m",), "ERROR: --conformance-executions = '\\x1b[[]31m' should be names*"),
        (("--conformance-report=",), "ERROR: --conformance-report = '' should be a path"),
        (("--conformance-report=taken",), "ERROR: the report directory *taken: *taken is a file; name a directory"),
        (("--conformance-report=taken/below",), "ERROR: the report directory *taken/below: Not a directory"),
        (("--conformance-report=/proc/none",), "ERROR: the report directory /proc/none: No such file or directory"),
        (("--conformance-report=/proc/self",), "ERROR: the report directory /proc/self: No such file or directory; *"),
        (("--conformance-sarif=.",), "ERROR: the SARIF file * is a directory; name a file"),
        (("--conformance-sarif=taken/out.sarif",), "ERROR: the SARIF file */taken/out.sarif: *taken is a file*"),
        (
            ("--conformance-sarif=/proc/none.sarif",),
            "ERROR: the SARIF file /proc/none.sarif: No such file*",
        ),
    ],
)
def test_a_value_that_is_wrong_is_one_line(pytester: pytest.Pytester, given: tuple[str, ...], said: str) -> None:
    (pytester.path / "taken").write_text("")
    result = pytester.runpytest_subprocess(*given, "-pno:xdist")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert len([line for line in result.errlines if line]) == 1
    result.stderr.fnmatch_lines([said])


def test_a_session_that_only_looks_leaves_what_an_earlier_one_wrote(stand_in: pytest.Pytester) -> None:
    stand_in.makepyfile(ASKS)
    stand_in.makeini("[pytest]\nconformance_report = out\nconformance_sarif = out.sarif\n")
    stand_in.runpytest_subprocess("-pno:xdist").assert_outcomes(passed=1)
    written = {path: path.read_bytes() for path in stand_in.path.rglob("out*/verdicts*")}
    written[stand_in.path / "out.sarif"] = (stand_in.path / "out.sarif").read_bytes()
    assert len(written) == 2
    for looks in ("--collect-only", "--fixtures", "--help", "--setup-plan"):
        stand_in.runpytest_subprocess("-pno:xdist", looks)
        assert {path: path.read_bytes() for path in written} == written


def test_a_report_directory_that_another_session_writes_is_refused(stand_in: pytest.Pytester) -> None:
    stand_in.makepyfile(
        "import subprocess, sys\n"
        "def test_it(conformance):\n    conformance.check(verdict='diverges')\n"
        "    command = [sys.executable, '-m', 'pytest', '-pno:xdist', '--conformance-report=out', '-k', 'none']\n"
        "    done = subprocess.run(command, capture_output=True, text=True)\n"
        "    assert done.returncode == 4\n"
        "    (line,) = [line for line in done.stderr.splitlines() if line]\n"
        "    assert 'out is being written by another run; name another directory, or wait' in line\n"
    )
    result = stand_in.runpytest_subprocess("-pno:xdist", "--conformance-report=out")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["conformance: 1 diverges, in *out"])


def test_a_finding_whose_verdict_cannot_be_written_is_told_and_the_test_fails_by_it(stand_in: pytest.Pytester) -> None:
    stand_in.makepyfile(
        "import pathlib, shutil\n"
        "def test_it(conformance):\n"
        "    for path in ('out', 'deep'):\n"
        "        shutil.rmtree(path)\n        pathlib.Path(path).write_text('')\n"
        "    conformance.assert_conforms(verdict='diverges')\n"
    )
    result = stand_in.runpytest_subprocess(
        "-pno:xdist", "--conformance-report=out", "--conformance-sarif=deep/out.sarif"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E*cause: mask_ignored*", "trainer/loss/mask_ignored", "problem: not written: *out: Not a directory"]
    )
    result.stdout.fnmatch_lines(["problem: not written: */deep/out.sarif: *"])


def test_a_path_is_relative_to_the_place_that_says_it(stand_in: pytest.Pytester) -> None:
    stand_in.makepyfile(ASKS)
    stand_in.makefile(".toml", pyproject="[tool.conformance]\nreport = 'of_table'\nsarif = 'of_table.sarif'\n")
    below = stand_in.mkdir("below")
    (below / "pytest.ini").write_text("[pytest]\nconformance_report = of_ini\n", "utf-8")
    stand_in.runpytest_subprocess("--rootdir=.", "--confcutdir=.", "-c", "below/pytest.ini").assert_outcomes(passed=1)
    assert (below / "of_ini" / "verdicts-main.jsonl").exists()
    assert (stand_in.path / "of_table.sarif").exists()
    assert not (stand_in.path / "of_table").exists()


def test_every_option_is_in_one_group_and_in_the_ini_file(pytester: pytest.Pytester) -> None:
    told = pytester.runpytest_subprocess("--help").stdout.str()
    group = told.partition("conformance of Keras training:")[2].partition("\n\n")[0]
    assert [option for option in options.OPTIONS.values() if option.flag not in group] == []
    assert [option for option in options.OPTIONS.values() if f"  {option.ini} (" not in told] == []


def test_the_corpus_is_called_as_it_is_elsewhere() -> None:
    assert options.CORPUS == baseline.CORPUS


KNOWN = """
def test_known(conformance):
    assert conformance.assert_conforms(verdict="diverges").verdict == "known"

def test_news(conformance):
    conformance.assert_conforms(verdict="diverges", signature=("trainer/loss/mask_ignored", "trainer/loss/clip_order"))
"""


@pytest.mark.parametrize("workers", [("-pno:xdist",), ("-n2",)], ids=["alone", "workers"])
def test_known_findings_pass_with_a_line_in_the_summary(stand_in: pytest.Pytester, workers: tuple[str, ...]) -> None:
    stand_in.makepyfile(KNOWN)
    entry = {"signature": "trainer/loss/mask_ignored", "sentence": "We know \x1b[31m."}
    (stand_in.path / "known.json").write_text(json.dumps({"format": 2, "findings": [entry]}), "utf-8")
    result = stand_in.runpytest_subprocess(*workers, "--conformance-baseline=known.json")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*signature: trainer/loss/clip_order",
            "*= conformance =*",
            "trainer/loss/clip_order",
            "known: trainer/loss/mask_ignored: We know .; *::test_known, *::test_news",
        ]
    )


RETRACED = """
import sys
from conformance.costs import Change, Costs, Traced
from conformance.verdict import Verdict

def judged(*args, **kwargs):
    change = Change(kind="value", argument="step", before="0", after="1")
    function = Traced(function="mine", file="loops.py", line=7, traces=4, changes=(change,))
    costs = Costs(arm="trial/single/graph", prepare=0.1, functions=(function,))
    return Verdict(case=None, verdict="conforms", costs=(costs,))

def test_it(conformance, monkeypatch):
    monkeypatch.setattr(sys.modules["conformance.api"], "check", judged)
    conformance.assert_conforms()
"""


def test_a_loop_that_is_traced_too_often_is_told_and_fails_only_where_that_was_asked_for(
    stand_in: pytest.Pytester,
) -> None:
    stand_in.makepyfile(RETRACED)
    told = "retraced: trial/single/graph traces mine (loops.py:7) 4 times: step 0 -> 1, *tensor*; test_*.py::test_it"
    result = stand_in.runpytest_subprocess("-pno:xdist")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([told])
    stand_in.runpytest_subprocess("-pno:xdist", "--conformance-max-retraces=3").assert_outcomes(passed=1)
    stand_in.makefile(".toml", pyproject="[tool.conformance]\nmax_retraces = 2\n")
    result = stand_in.runpytest_subprocess("-n1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E  *retraces: 3 beyond the first trace, at most 2 allowed [[]trial/single/graph[]]", told]
    )
    stand_in.makeini("[pytest]\nconformance_max_retraces = -1\n")
    result = stand_in.runpytest_subprocess("-pno:xdist")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*conformance_max_retraces in *= '-1' should be a whole number of at least 0"])
