"""What a run writes beside its report: a summary of the job, and SARIF."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click

from conformance.errors import UsageError
from conformance.events import CaseJudged, Event, RunEnded, TrialLoaded
from conformance.place import Place

GITHUB = "GITHUB_STEP_SUMMARY"
"""The variable in which a job of GitHub Actions is told the file to append its summary to."""

_MARGIN = 64 * 1024
"""Bytes kept free below what GitHub refuses, for what the step itself may append."""

Writer = Callable[[Event], None]


def writers(summary: str | None, sarif: str | None = None) -> list[Writer]:
    """The writers that were asked for.

    Args:
        summary: the file of `--summary`.
        sarif: the file of `--sarif`.

    Raises:
        UsageError: when one of the files cannot be written, before anything is run.
    """
    made: list[Writer] = []
    for option, file in (("--summary", summary), ("--sarif", sarif)):
        if file is not None:
            _refuse_unwritable(option, Path(file))
    github = os.environ.get(GITHUB)
    if summary is not None or github:
        made.append(_Summary(None if summary is None else Path(summary), Path(github) if github else None))
    if sarif is not None:
        made.append(_Sarif(Path(sarif)))
    return made


def _refuse_unwritable(option: str, file: Path) -> None:
    if file.is_dir():
        raise UsageError(f"{option} {str(file)!r} is a directory; name a file")
    if not file.parent.is_dir():
        raise UsageError(f"{option} {str(file)!r}: there is no directory {str(file.parent)!r}")


class _Summary:
    def __init__(self, file: Path | None, github: Path | None) -> None:
        from conformance.reports.job_summary import JobSummary

        self._file, self._github, self._told = file, github, JobSummary()

    def __call__(self, event: Event) -> None:
        from conformance.reports.folder import write_file

        self._told(event)
        if not isinstance(event, RunEnded):
            return
        if self._file is not None:
            write_file(self._file, self._told.text())
        if self._github is not None:
            self._append(self._github)

    def _append(self, file: Path) -> None:
        """Append to the summary of the job, which may hold something already; the run does not fail over it."""
        from conformance.reports.job_summary import REFUSED, ROOM

        try:
            there = file.stat().st_size if file.exists() else 0
            room = min(ROOM, REFUSED - _MARGIN - there)
            if room < _MARGIN:
                click.echo(f"{GITHUB}: {there} bytes are there already, so no summary was appended", err=True)
                return
            with file.open("ab") as end:
                end.write(self._told.text(room).encode("utf-8", "backslashreplace"))
        except OSError as error:
            click.echo(f"{GITHUB}: {file}: {error.strerror or error}", err=True)


class _Sarif:
    def __init__(self, file: Path) -> None:
        from conformance.reports.sarif import Result

        self._file = file
        self._place: Place | None = None
        self._found: list[Result] = []
        self._notes: list[str] = []

    def __call__(self, event: Event) -> None:
        from conformance.reports import sarif
        from conformance.reports.folder import write_file
        from conformance.verdict import KNOWN, verdict_from_data

        if isinstance(event, TrialLoaded):
            self._place = Place(event.name, event.file, event.line, event.last_line)
        elif isinstance(event, CaseJudged) and event.verdict is not None and event.outcome != KNOWN:
            verdict = verdict_from_data({**event.verdict, "case": None})
            if self._place is None:
                self._notes += [f"no file of the loop is known: {item.signature}" for item in verdict.observations]
            else:
                self._found += sarif.results(verdict, self._place)
            note = sarif.unjudged(verdict)
            self._notes += [note] if note is not None else []
        elif isinstance(event, RunEnded):
            write_file(self._file, sarif.text(sarif.sarif(self._found, self._notes)))
