"""Every page of a report written again, from its data alone: findings, cases, scripts and events."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from conformance.errors import UsageError
from conformance.events import AnyEvent, Event, Problem, RunStarted, from_line
from conformance.reports import calibration, summary
from conformance.reports.campaign_page import campaign_page
from conformance.reports.finding_page import title
from conformance.reports.folder import load_finding, pages, write_file
from conformance.reports.history_file import read_histories
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
    made = pages(finding, script, read_histories(folder))
    for name, text in made.items():
        write_file(folder / name, text)
    return [folder / name for name in made]


def write_run(directory: Path, events: Iterable[Event]) -> list[Path]:
    """Write the pages of a run: those of a calibration where it was one, else `report.md` and `index.html`."""
    told = iter(events)
    first = list(itertools.islice(told, 1))
    if any(isinstance(event, RunStarted) and event.calibration for event in first):
        calibration.write(directory, [*first, *told])
        return [directory / "calibration.json", directory / "calibration.md"]
    page = campaign_page(itertools.chain(first, told), _titles(directory))
    write_file(directory / "report.md", summary.written(page))
    write_file(directory / "index.html", campaign_html(page))
    return [directory / "report.md", directory / "index.html"]


def read_events(path: Path) -> Iterator[Event]:
    """The events in a file, one by one; how many lines are none is told by a `Problem` at the end.

    The last line of a run that was killed may be half of one.

    Raises:
        UsageError: when the file cannot be read, or holds no event at all.
    """
    read = lost = 0
    try:
        with path.open("rb") as lines:
            for line in lines:
                event = _event(line)
                if event is None:
                    lost += 1
                else:
                    read += 1
                    yield event
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    if not read:
        raise UsageError(f"{path}: holds no event")
    if lost:
        yield Problem(message=f"{lost} of {read + lost} lines of {path.name} are no events")


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
