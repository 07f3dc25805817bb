"""The pytest plugin: two options, a marker, a header line and the fixture `conformance`.

pytest loads this module in every session of every project that has the package installed, so it imports nothing that
such a session has not paid for already: no TensorFlow, Keras, Hypothesis or NumPy. The engine is imported by the first
test that asks for a judgement.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conformance import __version__

if TYPE_CHECKING:
    from conformance.verdict import Verdict

TENSORFLOWS = (
    "tensorflow",
    "tensorflow-cpu",
    "tf-nightly",
    "tf-nightly-cpu",
    "tensorflow-intel",
    "tensorflow-macos",
    "tensorflow-rocm",
)
"""The distributions that bring TensorFlow, the usual ones first."""

VERDICTS = "verdicts-*.jsonl"
"""The files in the report directory, one a process; several processes never write into one file."""

_FOUND = pytest.StashKey[dict[str, list[Any]]]()
_CARRIED = "conformance_found"
"""What a test has found, on the test and on its report."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, in a group of their own."""
    group = parser.getgroup("conformance", "conformance of Keras training")
    group.addoption(
        "--conformance-report",
        metavar="DIR",
        # A string, and absolute: it is sent to the workers of pytest-xdist as it is.
        type=os.path.abspath,
        help="write every verdict of the fixture `conformance` into DIR, one JSON object a line",
    )
    group.addoption(
        "--conformance-sarif",
        metavar="FILE",
        type=os.path.abspath,
        help="write the findings of the fixture `conformance` into FILE as SARIF 2.1.0, at the lines of the loops",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and empty the report directory of an earlier session's verdicts."""
    config.addinivalue_line("markers", "conformance: judges a training; every test that uses the fixture has it")
    report = _report(config)
    if report is not None and not hasattr(config, "workerinput"):
        report.mkdir(parents=True, exist_ok=True)
        for stale in report.glob(VERDICTS):
            stale.unlink()
    if config.getoption("conformance_sarif", default=None) is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SarifWriter(Path(config.getoption("conformance_sarif"))), "conformance-sarif")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that use the fixture, so that `-m conformance` selects them."""
    if "conformance" in getattr(item, "fixturenames", ()):
        item.add_marker("conformance")


def pytest_report_header() -> str:
    """The versions a verdict depends on, read from the installed distributions without importing any."""
    installed = {name: version for name in TENSORFLOWS if (version := _version(name))}
    engine = [f"{name} {version}" for name, version in installed.items()] or ["no TensorFlow installed"]
    others = [f"{name} {version}" for name in ("keras", "hypothesis") if (version := _version(name))]
    return f"conformance {__version__}: {', '.join([*engine, *others])}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many verdicts are in the report directory, and where it is."""
    report = _report(config)
    if report is None:
        return
    lines = [line for path in sorted(report.glob(VERDICTS)) for line in path.read_text("utf-8").splitlines()]
    outcomes = [json.loads(line)["verdict"] for line in lines]
    counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in sorted(set(outcomes)))
    terminalreporter.write_line(f"conformance: {counts or 'no verdicts'}, in {report}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let what a test has found travel with the report of its call, which pytest-xdist carries to the controller."""
    report = yield
    if report.when == "call" and _FOUND in item.stash:
        setattr(report, _CARRIED, item.stash[_FOUND])
    return report


class SarifWriter:
    """Gathers what the tests have found, of all processes, and writes it when the session ends.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._results: list[dict[str, Any]] = []
        self._notes: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test's report carries."""
        found: dict[str, Any] = getattr(report, _CARRIED, {})
        self._results += found.get("results", ())
        self._notes += found.get("notes", ())

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the file, also when nothing was found: that is what says that all is well."""
        import msgspec

        from conformance.reports.folder import write_file
        from conformance.reports.sarif import Result, sarif, text

        self._path.parent.mkdir(parents=True, exist_ok=True)
        results = msgspec.convert(self._results, list[Result])
        write_file(self._path, text(sarif(results, self._notes, session.config.rootpath)))


class Judge:
    """`conformance.check` and `conformance.assert_conforms`, with every verdict written into the report directory.

    Args:
        item: the test that asks.
        path: the file to append to, or None to write nothing.
    """

    def __init__(self, item: pytest.Item, path: Path | None = None) -> None:
        self._item, self._path = item, path

    def check(self, *args: Any, **kwargs: Any) -> Verdict:
        """Judge a training, as `conformance.check` does, with its arguments."""
        from conformance.api import check

        verdict = check(*args, **kwargs)
        self._note(verdict, args, kwargs)
        return verdict

    def assert_conforms(self, *args: Any, **kwargs: Any) -> Verdict:
        """Judge a training, as `conformance.assert_conforms` does, with its arguments.

        Raises:
            DivergenceError: when it does not conform.
        """
        from conformance.api import assert_conforms
        from conformance.errors import DivergenceError
        from conformance.verdict import Verdict

        __tracebackhide__ = True
        try:
            verdict = assert_conforms(*args, **kwargs)
        except DivergenceError as error:
            if isinstance(error.verdict, Verdict):
                self._note(error.verdict, args, kwargs)
                self._tell(error.verdict)
            raise
        self._note(verdict, args, kwargs)
        return verdict

    def _note(self, verdict: Verdict, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._write(verdict)
        if self._item.config.getoption("conformance_sarif", default=None) is not None:
            self._carry(verdict, (args[0] if args else kwargs.get("train_step")) or _own_step(verdict, kwargs))

    def _write(self, verdict: Verdict) -> None:
        """Append the verdict at once: a worker that crashes later has already said it."""
        if self._path is None:
            return
        from conformance.verdict import verdict_to_data

        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"test": self._item.nodeid, **verdict_to_data(verdict)}, allow_nan=False) + "\n")

    def _carry(self, verdict: Verdict, loop: Any) -> None:
        """Keep what a verdict says for the test's report; at the test's own lines where no loop is on trial."""
        import msgspec

        from conformance.place import Place, place_of
        from conformance.reports.sarif import results, unjudged

        path, line, name = self._item.location
        test = Place(name, str(self._item.config.rootpath / path), (line or 0) + 1, (line or 0) + 1)
        place = (place_of(loop) if callable(loop) else None) or test
        found = self._item.stash.setdefault(_FOUND, {"results": [], "notes": []})
        found["results"] += msgspec.to_builtins(results(verdict, place))
        note = unjudged(verdict)
        found["notes"] += [] if note is None else [f"{self._item.nodeid}: {note}"]

    def _tell(self, verdict: Verdict) -> None:
        """Properties of the test that fails, which JUnit's XML shows; what is not known is left out."""
        told = {
            "signature": verdict.signature,
            "cause": verdict.cause.name if verdict.cause is not None else None,
            "wrong_arm": verdict.wrong_arm,
            "repro": verdict.repro,
        }
        self._item.user_properties += [(name, value) for name, value in told.items() if value is not None]


@pytest.fixture
def conformance(request: pytest.FixtureRequest) -> Judge:
    """The package's `check` and `assert_conforms`; importing TensorFlow waits until one of them is called.

    ```python
    def test_my_loop_trains_like_fit(conformance):
        conformance.assert_conforms(train_step, model=build_model, loss="mse", optimizer="sgd", data=(x, y))
    ```
    """
    report = _report(request.config)
    worker: Mapping[str, Any] = getattr(request.config, "workerinput", {})
    name = VERDICTS.replace("*", str(worker.get("workerid", "main")))
    return Judge(request.node, None if report is None else report / name)


def _own_step(verdict: Verdict, kwargs: Mapping[str, Any]) -> Any:
    """What makes the model where its own `train_step` is on trial: the nearest to it that can be pointed at."""
    on_trial = any(report.arm.startswith("trial/") for report in verdict.arms)
    return kwargs.get("model") if on_trial else None


def _report(config: pytest.Config) -> Path | None:
    directory = config.getoption("conformance_report", default=None)
    return None if directory is None else Path(directory)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
