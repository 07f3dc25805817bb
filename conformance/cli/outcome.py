"""What comes of a run's events: they are shown, and they decide the exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click
import msgspec

from conformance.baseline import Baseline
from conformance.cli.codes import FAILED, INTERRUPTED, NEWS, OK, USAGE
from conformance.events import (
    BaselineCompared,
    CaseCalibrated,
    CaseJudged,
    Event,
    Occurrence,
    RunEnded,
    WorkerDied,
)
from conformance.verdict import DIVERGES, RAISES, UNSUPPORTED

NO_LONGER = "no longer occurs"
"""The status of the object of an entry of the baseline, in the place of a verdict."""


class Outcome:
    """What a run's events come to.

    Args:
        strict: whether a known finding that no longer occurs fails the run.

    Attributes:
        code: the exit code.
        seen: the signatures that occurred, known or not.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.code, self.seen = OK, set[str]()
        self._strict = strict

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
        elif isinstance(event, BaselineCompared) and self._strict and event.gone and self.code == OK:
            self.code = NEWS
        elif isinstance(event, WorkerDied) and self.code == OK:
            self.code = FAILED
        elif isinstance(event, RunEnded) and event.interrupted and self.code == OK:
            self.code = INTERRUPTED


def consume(
    events: Iterable[Event],
    as_json: bool,
    *,
    show_report: bool = True,
    known: Baseline | None = None,
    strict: bool = False,
    writers: Sequence[Callable[[Event], None]] = (),
) -> Outcome:
    """Show events as they come, and say what they come to.

    Args:
        events: the run's.
        as_json: one JSON object a case, instead of text.
        show_report: whether there is a report to point at in the end.
        known: the baseline, which the objects of known cases quote.
        strict: whether a known finding that no longer occurs fails the run.
        writers: what else consumes the events.
    """
    from conformance.reports.terminal import Terminal

    outcome = Outcome(strict=strict)
    show: Callable[[Event], None] = (
        _Json(known or Baseline()) if as_json else Terminal(sys.stdout, live=sys.stdout.isatty())
    )
    for event in events:
        outcome(event)
        for write in writers:
            write(event)
        if isinstance(event, RunEnded) and not show_report:
            event = msgspec.structs.replace(event, report="")  # noqa: PLW2901 - there is none to be shown
        show(event)
    return outcome


class _Json:
    """One object a case, and one for each known finding that no longer occurs, which has no case and no verdict."""

    def __init__(self, known: Baseline) -> None:
        self._known = known

    def __call__(self, event: Event) -> None:
        if isinstance(event, CaseJudged) and event.verdict is not None:
            entries = [entry for signature in event.signatures if (entry := self._known.entry(signature)) is not None]
            told = {"known": msgspec.to_builtins(entries)} if entries else {}
            click.echo(json.dumps({"path": event.path, **event.verdict, **told}))
        elif isinstance(event, BaselineCompared):
            for item in event.told:
                click.echo(json.dumps(_gone(item, event)))


def _gone(item: Occurrence, event: BaselineCompared) -> dict[str, Any]:
    contract = ("path", "case", "verdict", "divergence", "wrong_arm", "cause", "repro")
    return {
        **dict.fromkeys(contract),
        "arms": [],
        "signature": item.known.signature,
        "status": NO_LONGER,
        "decided": event.how(item),
        "known": [msgspec.to_builtins(item.known)],
    }
