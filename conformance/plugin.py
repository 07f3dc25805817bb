"""The pytest plugin: an option, a marker, a header line and the fixture `conformance`.

pytest loads this module in every session of every project that has the package installed, so it imports nothing that
such a session has not paid for already: no TensorFlow, Keras, Hypothesis or NumPy. The engine is imported by the first
test that asks for a judgement.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
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


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and empty the report directory of an earlier session's verdicts."""
    config.addinivalue_line("markers", "conformance: judges a training; every test that uses the fixture has it")
    report = _report(config)
    if report is not None and not hasattr(config, "workerinput"):
        report.mkdir(parents=True, exist_ok=True)
        for stale in report.glob(VERDICTS):
            stale.unlink()


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


class Judge:
    """`conformance.check` and `conformance.assert_conforms`, with every verdict written into the report directory.

    Args:
        test: the id of the test that asks.
        path: the file to append to, or None to write nothing.
    """

    def __init__(self, test: str, path: Path | None = None) -> None:
        self._test, self._path = test, path

    def check(self, *args: Any, **kwargs: Any) -> Verdict:
        """Judge a training, as `conformance.check` does, with its arguments."""
        from conformance.api import check

        verdict = check(*args, **kwargs)
        self._write(verdict)
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
                self._write(error.verdict)
            raise
        self._write(verdict)
        return verdict

    def _write(self, verdict: Verdict) -> None:
        """Append the verdict at once: a worker that crashes later has already said it."""
        if self._path is None:
            return
        from conformance.verdict import verdict_to_data

        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"test": self._test, **verdict_to_data(verdict)}, allow_nan=False) + "\n")


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
    return Judge(request.node.nodeid, None if report is None else report / name)


def _report(config: pytest.Config) -> Path | None:
    directory = config.getoption("conformance_report", default=None)
    return None if directory is None else Path(directory)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
