"""Every page of a report written again, from its data alone: findings, cases, scripts and events."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from conformance.errors import UsageError
from conformance.events import AnyEvent, Event, Problem, RunStarted, from_line
from conformance.reports import calibration, summary
from conformance.reports.campaign_page import campaign_page
from conformance.reports.finding_page import finding_page, title
from conformance.reports.folder import PAGES, load_finding, write_file
from conformance.reports.html import campaign_html

EVENTS = "events.jsonl"


def render(directory: Path) -> list[Path]:
    """Write the pages of a run's report, or of one finding's folder, again.

    Args:
        directory: what `conformance run --report` made, or a folder below its `findings`.

    Returns:
        The files that were written.

    Raises:
        UsageError: when it is neither, or what it holds cannot be read; in one line.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory} is no directory; name the one that --report has made")
    if (directory / "finding.json").exists():
        return render_finding(directory)
    folders = _folders(directory)
    if not (directory / EVENTS).exists() and not folders:
        raise UsageError(f"{directory} holds neither {EVENTS} nor findings; name the directory that --report has made")
    written = [path for folder in folders for path in render_finding(folder)]
    if (directory / EVENTS).exists():
        written += write_run(directory, read_events(directory / EVENTS))
    return written


def render_finding(folder: Path) -> list[Path]:
    """Write the pages of one finding again."""
    finding = load_finding(folder)
    path = folder / "repro.py"
    try:
        script = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    page = finding_page(finding, script)
    for name, write in PAGES.items():
        write_file(folder / name, write(page))
    return [folder / name for name in PAGES]


def write_run(directory: Path, events: Iterable[Event]) -> list[Path]:
    """Write the pages of a run: those of a calibration where it was one, else `report.md` and `index.html`."""
    told = list(events)
    if any(isinstance(event, RunStarted) and event.calibration for event in told):
        calibration.write(directory, told)
        return [directory / "calibration.json", directory / "calibration.md"]
    titles = _titles(directory)
    write_file(directory / "report.md", summary.written(campaign_page(told, titles, "report.md")))
    write_file(directory / "index.html", campaign_html(campaign_page(told, titles, "report.html")))
    return [directory / "report.md", directory / "index.html"]


def read_events(path: Path) -> list[Event]:
    """The events in a file; how many lines are none is told by a `Problem` at the end.

    The last line of a run that was killed may be half of one.

    Raises:
        UsageError: when the file cannot be read, or holds no event at all.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    events: list[Event] = [event for line in lines if (event := _event(line)) is not None]
    if not events:
        raise UsageError(f"{path}: holds no event")
    lost = len(lines) - len(events)
    return [*events, *([Problem(message=f"{lost} of {len(lines)} lines of {path.name} are no events")] if lost else [])]


def _event(line: bytes) -> AnyEvent | None:
    try:
        return from_line(line)
    except (msgspec.DecodeError, RecursionError):
        return None


def _folders(directory: Path) -> list[Path]:
    return sorted(path.parent for path in (directory / "findings").glob("*/finding.json"))


def _titles(directory: Path) -> dict[str, str]:
    """By folder the titles of the findings; one that cannot be read has none, and is told by its message."""
    titles = {}
    for folder in _folders(directory):
        try:
            titles[folder.name] = title(load_finding(folder))
        except UsageError:
            continue
    return titles
