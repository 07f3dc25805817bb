"""What a session of tests knows: its options, its baseline, whether devices are ready, and what was found.

It has no hooks of pytest; those are in `conformance.plugin.hooks`, one object that is registered when the options are
read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conformance.plugin.options import Settings, known
from conformance.plugin.spool import Spool

if TYPE_CHECKING:
    from conformance.baseline import Baseline
    from conformance.case import Case
    from conformance.errors import DeviceError
    from conformance.plugin.found import Found
    from conformance.verdict import Observation, Verdict

VERDICTS = "verdicts-*.jsonl"
"""The files in the report directory, one a process; several processes never write into one file."""

RUNNING = "running-*.json"
"""The notes there of what is being judged, one a process; those that stay are of processes that died of it."""

CURE = (
    "set `conformance_replicas = {counts}` in pytest's ini file, or --conformance-replicas={counts}: the devices are"
    " then made before a test module is imported"
)


class Session:
    """A session of tests in one process.

    What it needs of the package it imports when it needs it: most sessions that load the plugin never use it.

    Args:
        settings: what it was told.
        spool: where what is found is kept.

    Attributes:
        item: the test that runs, its fixtures included; None where none does.
    """

    def __init__(self, settings: Settings, spool: Spool) -> None:
        self.settings, self.spool = settings, spool
        self.item: pytest.Item | None = None
        self._ready = False
        self._kept: list[object] = []

    # Devices.

    def ready(self) -> None:
        """Make the session's devices, once a process; what comes too late for that is told by who needs them."""
        if self._ready:
            return
        self._ready = True
        from conformance.devices import set_up
        from conformance.errors import DeviceError

        replicas = self.settings.defaults.replicas
        try:
            set_up(max(replicas))
        except DeviceError as error:
            raise self.too_late(error, replicas) from None

    def too_late(self, error: DeviceError, replicas: Any) -> DeviceError:
        """The error of devices that came too late, with the option that cures it."""
        if self.settings.replicas is not None and max(self.settings.replicas) >= max(replicas):
            # Then it was a conftest.py, or a plugin, that started TensorFlow before the session began.
            return error
        counts = ",".join(str(count) for count in replicas)
        return type(error)(f"{error}; or {CURE.format(counts=counts)}")

    # The baseline.

    @cached_property
    def baseline(self) -> Baseline:
        """The known findings."""
        return known(self.settings)

    def with_known(self, verdict: Verdict) -> Verdict:
        """The verdict, `known` where the baseline has every divergence of it."""
        if self.settings.baseline is None:
            return verdict
        from conformance.defaults import with_known

        return with_known(verdict, frozenset(self.baseline.signatures))

    # What is found.

    def keep_asserted(
        self, verdict: Verdict, train_step: Any, arguments: Mapping[str, Any]
    ) -> tuple[Verdict, str | None]:
        """Keep the verdict of an assertion that did not ask the fixture; outside of any test it is nobody's."""
        return (verdict, None) if self.item is None else self.keep_asked(self.item, verdict, train_step, arguments)

    def keep_asked(
        self, item: pytest.Item, verdict: Verdict, train_step: Any, arguments: Mapping[str, Any]
    ) -> tuple[Verdict, str | None]:
        """Keep a verdict, told the loop and the other arguments that it was asked for with; as `keep`."""
        loop = train_step
        if loop is None and any(report.arm.startswith("trial/") for report in verdict.arms):
            # The train_step of what makes the model is on trial.
            loop = arguments.get("model")
        baseline = self.baseline
        if arguments.get("baseline") is not None:
            from conformance.environment import known_findings

            baseline = baseline.taking(known_findings(arguments["baseline"]).findings)
        return self.keep(item, verdict, loop, baseline)

    def keep(
        self, item: pytest.Item, verdict: Verdict, loop: Any = None, baseline: Baseline | None = None
    ) -> tuple[Verdict, str | None]:
        """Keep a verdict at once: a worker that dies later has already said it.

        Args:
            item: the test.
            verdict: the verdict.
            loop: what a finding points at; nothing is the test.
            baseline: what is known to whoever asked; by default to the session.

        Returns:
            The verdict, with its repro where one was written; and the folder of its first finding, if any.
        """
        baseline = self.baseline if baseline is None else baseline
        problem: OSError | None = None
        try:
            folders = self._written(verdict, baseline)
        except OSError as error:
            # What a test fails with is what is wrong with its training, and not that a disk is full.
            folders, problem = [], error
        if folders and (repro := Path(folders[0]) / "repro.py").exists():
            from msgspec.structs import replace

            verdict = replace(verdict, repro=str(repro))
        self._kept.append(verdict)
        if self.settings.report is not None:
            from conformance.verdict import verdict_to_data

            line = json.dumps({"test": item.nodeid, **verdict_to_data(verdict)}, allow_nan=False)
            name = VERDICTS.replace("*", self.spool.worker)
            try:
                with (self.settings.report / name).open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
            except OSError as error:
                problem = error
            if problem is not None:
                self.lost(self.settings.report, problem, item.nodeid)
        results, notes = self._sarif(item, verdict, loop)
        found = tuple(_found(one, folder, baseline) for one, folder in zip_longest(_told(verdict), folders))
        again = _retraced(verdict)
        if found or results or notes or again:
            from conformance.plugin.found import Record

            self.spool.add(Record(item.nodeid, found, results, notes, again))
        return verdict, folders[0] if folders else None

    def lost(self, path: Path, error: OSError, test: str = "") -> None:
        """Note that something could not be written; the summary tells it."""
        from conformance.plugin.found import Record

        self.spool.add(Record(test, problems=(f"{path}: {error.strerror or error}",)))

    @contextmanager
    def running(self, item: pytest.Item, case: Case | None) -> Iterator[None]:
        """Leave a note in the report directory while a training is judged; what ends the process leaves the note."""
        report = self.settings.report
        if report is None:
            yield
            return
        from conformance.case import Case, to_data

        note = report / RUNNING.replace("*", self.spool.worker)
        told = {"test": item.nodeid, "case": to_data(case) if isinstance(case, Case) else None}
        # What cannot be written here cannot be written later either, and is told then.
        with suppress(OSError):
            note.write_text(json.dumps(told), encoding="utf-8")
        try:
            yield
        finally:
            with suppress(OSError):
                note.unlink(missing_ok=True)

    def has_kept(self, verdict: object) -> bool:
        """Whether this very verdict was kept."""
        return any(kept is verdict for kept in self._kept)

    def forget(self) -> None:
        """Let go of the verdicts of a test that has ended."""
        self._kept.clear()

    def _written(self, verdict: Verdict, baseline: Baseline) -> list[str]:
        """The folders of its findings, each written the first time that its signature is met by any process."""
        from conformance.verdict import DIVERGES

        report = self.settings.report
        if report is None or verdict.verdict != DIVERGES:
            return []
        from msgspec.structs import replace

        from conformance.finding import slug
        from conformance.findings import claim, write

        known = set(baseline.signatures)
        folders = []
        for item in verdict.observations:
            if item.signature in known:
                # The news come first, so what is left has no folder.
                break
            if claim(report, item.signature):
                others = tuple(one for one in verdict.observations if one is not item)
                write(report, replace(verdict, observations=(item, *others)), verdict.case, 0, 0.0)
            folders.append(str(report / "findings" / slug(item.signature)))
        return folders

    def _sarif(
        self, item: pytest.Item, verdict: Verdict, loop: Any
    ) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
        """What SARIF is to say of a verdict; at the test's own lines where no loop is on trial."""
        if self.settings.sarif is None:
            return (), ()
        import msgspec

        from conformance.place import Place, place_of
        from conformance.reports.sarif import results, unjudged

        path, line, name = item.location
        test = Place(name, str(item.config.rootpath / path), (line or 0) + 1, (line or 0) + 1)
        place = (place_of(loop) if callable(loop) else None) or test
        note = unjudged(verdict)
        told: list[dict[str, Any]] = msgspec.to_builtins(results(verdict, place))
        return tuple(told), () if note is None else (f"{item.nodeid}: {note}",)


def _found(item: Observation, folder: str | None, baseline: Baseline) -> Found:
    from conformance.plugin.found import Found

    entry = baseline.entry(item.signature)
    return Found(
        signature=item.signature,
        message=item.divergence.message,
        cause=item.cause.name,
        explanation=item.cause.explanation,
        folder=folder,
        known=None if entry is None else entry.sentence,
    )


def _retraced(verdict: Verdict) -> tuple[str, ...]:
    """What the summary tells of functions that are traced too often."""
    from conformance.costs import retraced

    return tuple(retraced(verdict.costs))


def _told(verdict: Verdict) -> tuple[Observation, ...]:
    """The divergences that the summary tells."""
    from conformance.verdict import DIVERGES, KNOWN

    return verdict.observations if verdict.verdict in (DIVERGES, KNOWN) else ()


def properties(verdict: Verdict) -> list[tuple[str, str]]:
    """Properties of a test that fails, which JUnit's XML shows; what is not known is left out."""
    told = {
        "signature": verdict.signature,
        "cause": verdict.cause.name if verdict.cause is not None else None,
        "wrong_arm": verdict.wrong_arm,
        "repro": verdict.repro,
    }
    return [(name, value) for name, value in told.items() if value is not None]


SESSION = pytest.StashKey[Session]()
"""Where the session is kept on pytest's configuration."""
