"""The pytest plugin in sessions of its own, each a process with a project of its own.

The engine is stood in for by two lines of `conformance.api`: what is under test is what the plugin does with a verdict.
"""

from __future__ import annotations

import json
import pickle
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import conformance

TESTS = """
import pytest

def test_conforms(conformance):
    conformance.assert_conforms()

def test_diverges(conformance):
    conformance.assert_conforms(verdict="diverges")

def test_looks(conformance):
    assert conformance.check(verdict="raises").verdict == "raises"

def test_of_something_else():
    pass
"""


@pytest.fixture
def project(stand_in: pytest.Pytester) -> pytest.Pytester:
    """A project with tests that use the fixture."""
    stand_in.makepyfile(test_training=TESTS)
    return stand_in


def _verdicts(pytester: pytest.Pytester, report: str) -> dict[str, dict[str, Any]]:
    lines = [
        json.loads(line)
        for path in sorted((pytester.path / report).glob("verdicts-*.jsonl"))
        for line in path.read_text("utf-8").splitlines()
    ]
    assert len({line["test"] for line in lines}) == len(lines)
    return {line["test"].rpartition("::")[2]: line for line in lines}


@pytest.mark.parametrize("options", [(), ("-n2",), ("-pno:xdist",)], ids=["alone", "two workers", "without xdist"])
def test_verdicts_reach_the_tests_and_the_report(project: pytest.Pytester, options: tuple[str, ...]) -> None:
    result = project.runpytest_subprocess(*options, "--conformance-report=out/verdicts")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        [f"conformance: 1 conforms, 1 diverges, 1 raises, in {project.path / 'out' / 'verdicts'}"]
    )
    verdicts = _verdicts(project, "out/verdicts")
    assert {test: line["verdict"] for test, line in verdicts.items()} == {
        "test_conforms": "conforms",
        "test_diverges": "diverges",
        "test_looks": "raises",
    }
    assert verdicts["test_diverges"].keys() >= {"arms", "divergence", "wrong_arm", "cause", "signature", "repro"}


def test_without_the_option_nothing_is_written(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.no_fnmatch_line("conformance: *conforms*")
    assert list(project.path.rglob("*.jsonl")) == []


def test_a_second_session_leaves_no_verdicts_of_the_first(project: pytest.Pytester) -> None:
    project.runpytest_subprocess("-n2", "--conformance-report=out")
    (project.path / "out" / "notes.txt").write_text("kept")
    project.runpytest_subprocess("--conformance-report=out", "-k", "looks")
    assert _verdicts(project, "out").keys() == {"test_looks"}
    assert (project.path / "out" / "notes.txt").exists()


def test_a_worker_that_dies_has_already_said_its_verdicts(stand_in: pytest.Pytester) -> None:
    pytester = stand_in
    pytester.makepyfile("import os\ndef test_dies(conformance):\n    conformance.check()\n    os._exit(3)")
    pytester.runpytest_subprocess("-n1", "--max-worker-restart=0", "--conformance-report=out")
    assert _verdicts(pytester, "out").keys() == {"test_dies"}


# What machines read: properties of a failing test, and SARIF.

LOOPS = """
def train_step(model, x, y, loss_fn):
    predictions = model(x)
    return loss_fn(y, predictions)
"""

FINDING_TESTS = """
import pytest
from loops import train_step

def test_fails(conformance):
    conformance.assert_conforms(train_step, verdict="diverges")

def test_looks(conformance):
    conformance.check(train_step=train_step, verdict="diverges")

def test_fit_alone(conformance):
    conformance.check(verdict="diverges")

def test_cannot(conformance):
    conformance.check(train_step, verdict="unsupported")

def test_hostile(conformance):
    conformance.assert_conforms(train_step, verdict="diverges", text="\\x1b[31m]]><b>&\\x00\\u202e [x](y)")
"""


@pytest.fixture
def finds(stand_in: pytest.Pytester) -> pytest.Pytester:
    """A project whose loop has a finding."""
    stand_in.makepyfile(loops=LOOPS, test_training=FINDING_TESTS)
    return stand_in


@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["alone", "two workers"])
def test_findings_reach_the_properties_of_the_test_and_sarif(finds: pytest.Pytester, options: tuple[str, ...]) -> None:
    result = finds.runpytest_subprocess(*options, "--junitxml=out.xml", "--conformance-sarif=deep/out.sarif")
    result.assert_outcomes(passed=3, failed=2)
    junit = ET.parse(finds.path / "out.xml").iter("testcase")  # noqa: S314 - pytest has just written it
    tests = {item.get("name"): item for item in junit}
    told = {
        name: {item.get("name"): item.get("value") for item in test.iter("property")} for name, test in tests.items()
    }
    assert told["test_fails"] == {
        "signature": "trainer/loss/mask_ignored",
        "cause": "mask_ignored",
        "wrong_arm": "trial/single/graph",
    }
    assert told["test_looks"] == {}
    (run,) = json.loads((finds.path / "deep" / "out.sarif").read_text("utf-8"))["runs"]
    places = {
        (item["artifactLocation"]["uri"], item["region"]["startLine"])
        for result in run["results"]
        for item in [result["locations"][0]["physicalLocation"]]
    }
    # The loop's line that makes the loss; the test's own where fit alone is on trial.
    assert places == {("loops.py", 3), ("test_training.py", 10)}
    assert sum(result["occurrenceCount"] for result in run["results"]) == 4
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"] == "test_training.py::test_cannot: unsupported: said"


def test_a_session_without_findings_writes_sarif_that_says_so(project: pytest.Pytester) -> None:
    project.runpytest_subprocess("--conformance-sarif=out.sarif", "-k", "something_else")
    (run,) = json.loads((project.path / "out.sarif").read_text("utf-8"))["runs"]
    assert (run["results"], run["tool"]["driver"]["rules"]) == ([], [])


def test_the_marker_selects_the_tests_that_use_the_fixture(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--strict-markers", "-m", "conformance", "--collect-only", "-q")
    result.stdout.fnmatch_lines(["*3/4 tests collected (1 deselected)*"])


def test_the_header_names_the_versions(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--collect-only")
    others = f"keras {metadata.version('keras')}, hypothesis {metadata.version('hypothesis')}"
    result.stdout.fnmatch_lines([f"conformance {conformance.__version__}: *, {others}"])


def test_the_header_says_when_there_is_no_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    from conformance.plugin import header, options

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    versions, _ = header.header(options.Settings())
    assert versions == f"conformance {conformance.__version__}: no TensorFlow installed"


def test_a_failure_names_the_exception_as_users_import_it_and_what_is_raised_can_be_pickled(
    stand_in: pytest.Pytester,
) -> None:
    stand_in.makepyfile(test_it="def test_it(conformance):\n    conformance.assert_conforms(verdict='diverges')\n")
    result = stand_in.runpytest_subprocess()
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_it - conformance.DivergenceError: diverges:*"])
    for made in (conformance.DivergenceError("said"), conformance.RetracedError("said")):
        again = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own
        assert (type(again), again.args) == (type(made), made.args)


def test_the_type_of_the_fixture_can_be_imported_to_annotate_a_test(stand_in: pytest.Pytester) -> None:
    stand_in.makepyfile(
        "from conformance.plugin import Judge\n"
        "def test_it(conformance: Judge) -> None:\n    assert type(conformance) is Judge\n"
    )
    stand_in.runpytest_subprocess().assert_outcomes(passed=1)


def test_the_plugin_can_be_turned_off(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_subprocess("-p", "no:conformance")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("conformance *")
    refused = pytester.runpytest_subprocess("-p", "no:conformance", "--conformance-report=out")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR


# pytest's own plugins load what they load; what counts is what comes on top of it with ours.
ASK = """
import sys

def pytest_sessionfinish():
    print("\\nloaded:", *sorted({"tensorflow", "keras", "hypothesis", "numpy"} & set(sys.modules)))
"""


def _loaded(pytester: pytest.Pytester, *options: str) -> set[str]:
    pytester.makeconftest(ASK)
    result = pytester.runpytest_subprocess("-s", "--collect-only", *options)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    (line,) = [line for line in result.outlines if line.startswith("loaded:")]
    return set(line.split()[1:])


def test_a_session_with_the_plugin_loads_no_more_than_one_without(pytester: pytest.Pytester) -> None:
    assert _loaded(pytester) == _loaded(pytester, "-p", "no:conformance") == set()


@pytest.mark.parametrize("heavy", ["hypothesis", "numpy", "tensorflow", "keras"])
def test_a_plugin_that_loads_more_would_be_seen(pytester: pytest.Pytester, heavy: str) -> None:
    from conformance import plugin

    if heavy in ("tensorflow", "keras"):
        # A stand-in: the name is what is looked for, and the real one takes seconds.
        pytester.makepyfile(**{heavy: ""})
    source = Path(plugin.__file__).read_text("utf-8")
    pytester.makepyfile(heavy_plugin=f"{source}\nimport {heavy}\n")
    pytester.syspathinsert()
    assert heavy in _loaded(pytester, "-p", "no:conformance", "-p", "heavy_plugin")
