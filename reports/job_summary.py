"""A run as the summary of a job of GitHub Actions: what came of it, the findings as a table, and each to be unfolded.

GitHub refuses a step's whole summary when it is larger than 1024 KiB, so everything here has a budget: a summary that
is cut ends with a line that says what was left out, and one that was refused would say nothing at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.events import (
    BaselineCompared,
    CaseJudged,
    Event,
    FindingMade,
    Problem,
    RunEnded,
    WorkerDied,
    WorkerReady,
)
from conformance.reports.text import code, fence, markdown
from conformance.verdict import DIVERGES, RAISES, UNSUPPORTED, verdict_from_data

REFUSED = 1024 * 1024
"""Bytes of a step's summary above which GitHub shows none of it."""

ROOM = 512 * 1024
"""Bytes that are written at the most: a step may run more than this."""

_CELL, _TEXT, _SCRIPT, _LISTED = 300, 2_000, 20_000, 100


@dataclass
class _Found:
    """A finding as far as it was told of: by its cases, by its own event, or both."""

    signature: str
    message: str
    cause: str
    explanation: str
    advice: str
    wrong_arm: str | None
    evidence: tuple[str, ...] = ()
    cases: int = 0
    made: FindingMade | None = None


@dataclass
class JobSummary:
    """Takes a run's events and tells of them."""

    _found: dict[str, _Found] = field(default_factory=dict)
    _outcomes: Counter[str] = field(default_factory=Counter)
    _problems: Counter[str] = field(default_factory=Counter)
    _unjudged: Counter[str] = field(default_factory=Counter)
    _baseline: BaselineCompared | None = None
    _ready: WorkerReady | None = None
    _ended: RunEnded | None = None

    def __call__(self, event: Event) -> None:
        """Take note of one event; those of no interest here are passed over."""
        handlers: dict[type[Event], Callable[[Any], None]] = {
            CaseJudged: self._case,
            FindingMade: self._finding,
            WorkerDied: self._died,
            Problem: self._problem,
            BaselineCompared: lambda event: setattr(self, "_baseline", event),
            WorkerReady: lambda event: setattr(self, "_ready", event),
            RunEnded: lambda event: setattr(self, "_ended", event),
        }
        handler = handlers.get(type(event))
        if handler is not None:
            handler(event)

    def text(self, room: int = ROOM) -> str:
        """The summary as Markdown, at most `room` bytes of UTF-8, ending in a newline.

        Nothing but the heading and what was left out is sure to be there.
        """
        blocks = [self._heading(), *self._counts()]
        news = self._news()
        parts = [*self._table(news), *(_unfolded(item) for item in news), *self._known(), *self._lost()]
        left = room - sum(_size(block) for block in blocks) - _size(_left_out(len(parts)))
        taken = 0
        for part in parts:
            if _size(part) > left:
                break
            left -= _size(part)
            blocks.append(part)
            taken += 1
        if taken < len(parts):
            blocks.append(_left_out(len(parts) - taken))
        return "\n\n".join(blocks) + "\n"

    def _case(self, event: CaseJudged) -> None:
        self._outcomes[event.outcome] += 1
        if event.verdict is None:
            return
        # Its case is of no interest here, and may name a layer that only the worker has.
        verdict = verdict_from_data({**event.verdict, "case": None})
        for item in verdict.observations:
            found = self._found.setdefault(
                item.signature,
                _Found(
                    signature=item.signature,
                    message=item.divergence.message,
                    cause=item.cause.name,
                    explanation=item.cause.explanation,
                    advice=item.cause.advice,
                    wrong_arm=item.wrong_arm,
                    evidence=item.cause.evidence,
                ),
            )
            found.cases += 1
        if event.outcome in (UNSUPPORTED, RAISES) and not verdict.observations:
            self._unjudged[f"{event.outcome}: {event.message or 'no reason is known'}"] += 1

    def _finding(self, event: FindingMade) -> None:
        found = self._found.setdefault(
            event.signature,
            _Found(
                signature=event.signature,
                message=event.message,
                cause=event.cause,
                explanation=event.explanation,
                advice=event.advice,
                wrong_arm=event.wrong_arm,
            ),
        )
        # The minimal case says it in the smallest numbers.
        found.message, found.wrong_arm, found.made = event.message, event.wrong_arm, event

    def _died(self, event: WorkerDied) -> None:
        kept = f"; its case is kept at {event.path}" if event.path else ""
        self._problems[f"A worker was lost: {event.reason}{kept}"] += 1

    def _problem(self, event: Problem) -> None:
        self._problems[event.message] += 1

    def _news(self) -> list[_Found]:
        known = set() if self._baseline is None else {item.known.signature for item in self._baseline.occurred}
        return [item for item in self._found.values() if item.signature not in known]

    def _heading(self) -> str:
        news, judged = len(self._news()), sum(self._outcomes.values())
        found = f"{news} finding{'' if news == 1 else 's'}" if news or self._outcomes[DIVERGES] else "no finding"
        ending = (
            "" if self._ended is not None and not self._ended.interrupted else ", and the run did not end by itself"
        )
        return f"## Conformance: {found} in {judged} case{'' if judged == 1 else 's'}{ending}"

    def _counts(self) -> list[str]:
        told = ", ".join(f"{count} {markdown(outcome)}" for outcome, count in self._outcomes.most_common())
        lines = [f"Cases: {told or 'none was judged'}."]
        if self._ready is not None:
            seen = self._ready.environment
            lines.append(f"TensorFlow {code(seen.tensorflow)}, Keras {code(seen.keras)}, {code(_short(seen.devices))}.")
        return ["\n".join(lines)]

    def _table(self, news: list[_Found]) -> list[str]:
        """The findings, so many rows a part: a table that is cut is still a table."""
        head = "| what | cause | wrong arm | cases | script |\n| --- | --- | --- | ---: | --- |"
        rows = [
            f"| {markdown(_short(item.message))} | {code(item.cause)} |"
            f" {code(item.wrong_arm) if item.wrong_arm else 'not decided'} | {item.cases} |"
            f" {markdown(item.made.repro_status) if item.made is not None else 'none'} |"
            for item in news
        ]
        return ["\n".join([head, *rows[at : at + _LISTED]]) for at in range(0, len(rows), _LISTED)]

    def _known(self) -> list[str]:
        told = self._baseline
        if told is None:
            return []
        parts = []
        if told.occurred:
            lines = [
                f"- {code(item.known.signature)}: {markdown(_short(item.known.sentence))}"
                f" ({markdown(item.decided) if item.decided else f'{item.cases} cases'})"
                for item in told.occurred
            ]
            parts.append(_details(f"{len(lines)} known", "\n".join(lines)))
        if told.told:
            lines = [
                f"- {code(item.known.signature)}: {markdown(_short(item.known.sentence))} ({markdown(told.how(item))})"
                for item in told.told
            ]
            parts.append("\n".join(["**No longer occurs:**", "", *lines]))
        left = len(told.gone) - len(told.told) + len(told.hidden)
        if left:
            parts.append(f"{left} known did not occur, of which that is no proof.")
        return parts

    def _lost(self) -> list[str]:
        told = self._unjudged + self._problems
        lines = [
            f"- {markdown(_short(message))}" + (f" ({count} times)" if count > 1 else "")
            for message, count in told.items()
        ]
        return ["\n".join(["**Not judged, or lost:**", "", *lines[at : at + _LISTED]]) for at in _starts(lines)]


def _starts(lines: list[str]) -> range:
    return range(0, len(lines), _LISTED)


def _unfolded(item: _Found) -> str:
    """What a reader of the table wants to know next, folded away."""
    blocks = [
        markdown(_short(item.message, _TEXT)),
        markdown(_short(item.explanation, _TEXT)),
        "\n".join(f"- {markdown(_short(line))}" for line in item.evidence[:_LISTED]),
        f"Advice: {markdown(_short(item.advice, _TEXT))}",
        f"Signature: {code(_short(item.signature))}",
        *_script(item.made),
    ]
    return _details(f"<code>{_inner(item.cause)}</code>", "\n\n".join(block for block in blocks if block))


def _script(made: FindingMade | None) -> list[str]:
    if made is None or not made.repro:
        return []
    try:
        text = Path(made.repro).read_text("utf-8", "replace")
    except OSError as error:
        return [f"Its script cannot be read: {markdown(error.strerror or error)}"]
    where = f"Script, {markdown(made.repro_status)} in a clean process: {code(_short(made.repro))}"
    if len(text) > _SCRIPT:
        return [where, f"It has {len(text)} characters, and is left out here."]
    return [where, fence(text, "python")]


def _inner(text: str) -> str:
    """Text within HTML, where Markdown is not read."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _details(head: str, body: str) -> str:
    return f"<details><summary>{head}</summary>\n\n{body}\n\n</details>"


def _left_out(count: int) -> str:
    what = "1 part" if count == 1 else f"{count} parts"
    return f"**{what} of this summary left out, for it would be too large; the report directory has everything.**"


def _short(text: object, most: int = _CELL) -> str:
    told = str(text)
    return told if len(told) <= most else told[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _size(block: str) -> int:
    return len(block.encode("utf-8", "backslashreplace")) + 2


def to_text(events: list[Event], room: int = ROOM) -> str:
    """`JobSummary` of events that are all there."""
    summary = JobSummary()
    for event in events:
        summary(event)
    return summary.text(room)


__all__ = ["REFUSED", "ROOM", "JobSummary", "to_text"]
