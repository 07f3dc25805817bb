"""What comes of a run's events: they are shown, and they decide the exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable

import click
import msgspec

from conformance.cli.codes import FAILED, INTERRUPTED, NEWS, OK, USAGE
from conformance.events import CaseCalibrated, CaseJudged, Event, RunEnded, WorkerDied
from conformance.verdict import DIVERGES, RAISES, UNSUPPORTED


class Outcome:
    """What a run's events come to.

    Attributes:
        code: the exit code.
        seen: the signatures that occurred, known or not.
    """

    def __init__(self) -> None:
        self.code, self.seen = OK, set[str]()

    def __call__(self, event: Event) -> None:
        """Take note of one event."""
        if isinstance(event, CaseJudged):
            self.seen.update(event.signatures)
            if event.outcome in (DIVERGES, RAISES):
                self.code = NEWS
            elif event.outcome == UNSUPPORTED and self.code == OK:
                # What could not be run or watched is never passed as conforming.
                self.code = USAGE
        elif isinstance(event, CaseCalibrated):
            self.seen.update(event.calibration.signatures)
            if event.calibration.news:
                self.code = NEWS
            elif event.calibration.failures and self.code == OK:
                self.code = FAILED
        elif isinstance(event, WorkerDied) and self.code == OK:
            self.code = FAILED
        elif isinstance(event, RunEnded) and event.interrupted and self.code == OK:
            self.code = INTERRUPTED


def consume(events: Iterable[Event], as_json: bool, *, show_report: bool = True) -> Outcome:
    """Show events as they come, and say what they come to.

    Args:
        events: the run's.
        as_json: one JSON object a case, instead of text.
        show_report: whether there is a report to point at in the end.
    """
    from conformance.reports.terminal import Terminal

    outcome = Outcome()
    show: Callable[[Event], None] = _print_json if as_json else Terminal(sys.stdout, live=sys.stdout.isatty())
    for event in events:
        outcome(event)
        if isinstance(event, RunEnded) and not show_report:
            event = msgspec.structs.replace(event, report="")  # noqa: PLW2901 - there is none to be shown
        show(event)
    return outcome


def _print_json(event: Event) -> None:
    if isinstance(event, CaseJudged) and event.verdict is not None:
        click.echo(json.dumps({"path": event.path, **event.verdict}))
