"""The hooks of a session, one object that is registered when its options are read."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conformance.plugin.options import SUFFIX, settings
from conformance.plugin.session import SESSION, VERDICTS, Session, properties
from conformance.plugin.spool import Spool

if TYPE_CHECKING:
    from conformance.defaults import Defaults

NAME = "conformance-session"
"""The name the object is registered under."""

_SPOOL = "conformance_spool"
"""What a worker of pytest-xdist is told the directory of the records by."""

GIVEN = "_conformance_given"
"""`conformance.drawn.MARK`, which is not cheap to import; a test holds them together."""


_LOOKS = ("collectonly", "showfixtures", "show_fixtures_per_test", "cacheshow", "setupplan")
"""pytest's options of sessions that run no test."""


class Hooks:
    """What the plugin does in a session.

    Args:
        session: the session's knowledge.
        worker: whether this process is a worker of pytest-xdist.
        before: the defaults of the process before the session.
    """

    def __init__(self, session: Session, *, worker: bool, before: Defaults) -> None:
        self._session, self._worker, self._before = session, worker, before
        self._scratch: Path | None = None
        self._died: tuple[str, ...] = ()

    # The beginning.

    def pytest_report_header(self) -> list[str]:
        """Say the versions, the arms and the devices."""
        from conformance.plugin.header import header

        return header(self._session.settings)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Make sure that what is found can be written, before anything runs and before there are workers."""
        told = self._session.settings
        if self._worker or not _judges(session.config) or (told.report is None and told.sarif is None):
            return
        from conformance.plugin import places

        if told.report is not None:
            self._died = places.ready_report(told.report)
        if told.sarif is not None:
            places.ready_file(told.sarif, "the SARIF file")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to write what it finds."""
        if self._scratch is None:
            self._scratch = self._session.spool.folder = Path(tempfile.mkdtemp(prefix="conformance-"))
        node.workerinput[_SPOOL] = str(self._scratch)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        """Make the devices that were asked for, before a test module can start TensorFlow without them."""
        config = session.config
        asked = max(self._session.settings.replicas or (1,)) > 1
        runs = not config.option.collectonly and (self._worker or not getattr(config.option, "tx", None))
        if not (asked and runs):
            return
        from conformance.errors import UsageError

        try:
            self._session.ready()
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """Collect the case files."""
        if not file_path.name.endswith(SUFFIX) or not self._session.settings.collect_cases:
            return None
        from conformance.plugin import cases

        report = self._session.settings.report
        if not cases.is_case(file_path) or (report is not None and report in file_path.parents):
            return None
        return cases.CaseFile.from_parent(parent, path=file_path)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Mark the tests that use the fixture or drawn cases, so that `-m conformance` selects them."""
        test: Any = getattr(item, "obj", None)
        test = getattr(test, "__func__", test)
        drawn = hasattr(test, GIVEN)
        if drawn:
            from conformance.drawn import settle

            settle(test)
        if drawn or "conformance" in getattr(item, "fixturenames", ()):
            item.add_marker("conformance")

    # A test.

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Know which test runs: an assertion that does not ask the fixture is that test's."""
        self._session.item = item
        try:
            return (yield)
        finally:
            self._session.item = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Make the devices for the first test that needs them."""
        if item.get_closest_marker("conformance") is not None:
            self._session.ready()

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """Keep what a test fails with, also where it did not ask the fixture, and hide the engine's frames.

        No wrapper, for those come before pytest takes from a test of `unittest` what it failed with; and it returns
        nothing, so that pytest makes the report.
        """
        # Without the engine nothing of ours can be in a failure, and nobody pays for looking.
        if call.excinfo is not None and "conformance.errors" in sys.modules:
            self._failed(item, call)
        if call.when == "teardown":
            self._session.forget()

    def _failed(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        from conformance.plugin.internals import remove_internals

        assert call.excinfo is not None
        error = call.excinfo.value
        if not item.config.option.fulltrace and remove_internals(error):
            call.excinfo = pytest.ExceptionInfo.from_exception(error)
        if call.when != "call":
            return
        for verdict in _verdicts(error):
            if not self._session.has_kept(verdict):
                self._session.keep(item, verdict, getattr(getattr(item, "obj", None), GIVEN, None))
            item.user_properties += properties(verdict)

    # The end.

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write SARIF, also when nothing was found: that is what says that all is well."""
        path = self._session.settings.sarif
        if path is None or self._worker or not _judges(session.config):
            return
        import msgspec

        from conformance.reports.folder import write_file
        from conformance.reports.sarif import Result, sarif, text

        records = self._session.spool.records()
        results = msgspec.convert([one for record in records for one in record.results], list[Result])
        notes = [note for record in records for note in record.notes]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, text(sarif(results, notes, session.config.rootpath)))
        except OSError as error:
            self._session.lost(path, error)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell the findings, and how many verdicts are in the report directory."""
        records, report = self._session.spool.records(), self._session.settings.report
        if not _judges(terminalreporter.config) or (not records and report is None):
            return
        from conformance.plugin import places, summary

        lines = [*summary.findings(records), *summary.retraced(records), *summary.problems(records)]
        lines += summary.died(self._died, places.died(report) if report is not None else ())
        if lines:
            terminalreporter.section("conformance")
            for line in lines:
                terminalreporter.write_line(line)
        if report is not None:
            terminalreporter.write_line(summary.verdicts(_outcomes(report), report))

    def pytest_unconfigure(self) -> None:
        """Put the defaults back, and remove the directory that only the processes of the session need."""
        from conformance.defaults import use

        use(self._before)
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def register(config: pytest.Config) -> None:
    """Read the options and register the hooks.

    Raises:
        pytest.UsageError: for options that cannot be used.
    """
    told = settings(config)
    given = getattr(config, "workerinput", None)
    worker = given is not None
    folder = given.get(_SPOOL) if given is not None else None
    spool = Spool(None if folder is None else Path(folder), str(given["workerid"]) if given is not None else "main")
    session = Session(told, spool)
    config.stash[SESSION] = session
    from dataclasses import replace

    from conformance.defaults import current, use

    before = current()
    # The baseline is read now, so that what is wrong with it is said before anything runs.
    known = frozenset(session.baseline.signatures) if told.baseline is not None else frozenset()
    use(replace(told.defaults, known=known, keep=session.keep_asserted))
    config.pluginmanager.register(Hooks(session, worker=worker, before=before), NAME)


def _judges(config: pytest.Config) -> bool:
    """Whether a session runs tests; one that only looks writes nothing, and leaves what an earlier one wrote."""
    return not any(getattr(config.option, name, False) for name in _LOOKS)


def _outcomes(report: Path) -> Iterator[str]:
    for path in sorted(report.glob(VERDICTS)):
        for line in path.read_text("utf-8").splitlines():
            try:
                yield str(json.loads(line)["verdict"])
            except (ValueError, KeyError):
                # The process died while it wrote.
                yield "cut off"


def _verdicts(error: BaseException) -> Iterator[Any]:
    """The verdicts that an exception carries, those of a group included."""
    from conformance.errors import DivergenceError, RetracedError

    if isinstance(error, DivergenceError | RetracedError):
        from conformance.verdict import Verdict

        if isinstance(error.verdict, Verdict):
            yield error.verdict
    inner = getattr(error, "exceptions", ())
    for one in inner if isinstance(inner, tuple) else ():
        if isinstance(one, BaseException):
            yield from _verdicts(one)
