"""What an assertion that fails says: one block that fits beside the code it failed in.

It is read in a terminal, in the log of a CI job and in an XML file, by somebody who has never met the project. So it
has an end: every part has a share of the lines, what is longer is cut where it says so, and nothing in it is longer
than `MOST_LINES` together. The whole is the verdict, which the exception carries.
"""

from __future__ import annotations

import shutil
import textwrap
from typing import NamedTuple

from conformance.errors import DivergenceError, RaisedError
from conformance.raised import Raised, ends
from conformance.reports.text import lines, plain
from conformance.reports.words import REFEREE, counted, in_words, when
from conformance.verdict import DIVERGES, RAISES, Divergence, Verdict

MOST_LINES = 25
"""The most lines of a message."""

WIDTHS = (60, 120)
"""Between these is the width a message is wrapped to; sentences are hard to read beyond."""

MARGIN = 4
"""What pytest puts in front of a line of an assertion's message."""

_CUT = " [...]"
_UNDECIDED, _EXACT = "not decided", " (reproduces every step)"

_INDENTS, _BEFORE = 8, 24
"""Characters of a line that an indentation takes and a word that does not fit leaves, and those before an exception."""


class _Most(NamedTuple):
    """The most lines of what is said of a divergence."""

    message: int = 4
    cause: int = 4
    evidence: int = 1
    cure: int = 5


_SHARES = (_Most(), _Most(cause=2, evidence=0), _Most(message=2, cause=2, evidence=0, cure=4), _Most(2, 1, 0, 3))
"""The first is taken of those with which a message and a case below it fit."""

_LINES = {"layer": 1, "operation": 2, "inputs": 1, "line": 2}
"""The most lines for a part of what was raised."""


_SHOWN = "code for @example(case=...), with the names of conformance.case"


def failure(verdict: Verdict, *, report: str | None = None, width: int | None = None, beside: int | None = None) -> str:
    """The message of a verdict that does not conform.

    Args:
        verdict: the verdict.
        report: the directory that findings are written to, if any.
        width: characters of a line; by default what the terminal has left beside pytest's margin.
        beside: of a drawn case, how many lines Hypothesis shows it in below the message; what is said of the cause is
            then cut so that both together are no longer than `MOST_LINES`, as far as that goes.

    Returns:
        At most `MOST_LINES` lines without control characters: the verdict, the first wrong step and stage with seen and
        wanted, the wrong arm, the cause, the cure, the signature and where more of it is.
    """
    across = width or _width()
    place = verdict.repro or report
    # A path is never wrapped, so that it stays one word to whoever copies it.
    last = [] if place is None else [f"  {'repro' if verdict.repro else 'report'}: {plain(place)}"]
    last += [] if beside is None else _wrapped(f"example: {_SHOWN}", "  ", across, 2)
    for most in _SHARES if beside is not None else _SHARES[:1]:
        told = [*_told(verdict, across, most), *last]
        if len(told) + (beside or 0) <= MOST_LINES:
            break
    return "\n".join(told)


def _told(verdict: Verdict, width: int, most: _Most) -> list[str]:
    told = [*_head(verdict, width), *_raised(verdict, width)]
    if verdict.observations:
        told += _observation(verdict, width, most)
    return [*told, *_rest(verdict, width)]


def divergence_error(verdict: Verdict, *, report: str | None = None, beside: int | None = None) -> DivergenceError:
    """The exception of a verdict that does not conform; where a training raised, with its traceback as the cause.

    Args:
        verdict: the verdict.
        report: the directory that findings are written to, if any.
        beside: see `failure`.
    """
    made = DivergenceError(failure(verdict, report=report, beside=beside), verdict)
    raised = verdict.raised
    if raised is not None and raised.traceback:
        made.__cause__ = RaisedError(f"what {_arm_of(verdict)} raised, where it surfaced:\n{lines(raised.traceback)}")
    return made


def _arm_of(verdict: Verdict) -> str:
    return next(report.arm for report in verdict.arms if report.raised is verdict.raised)


def _width() -> int:
    low, high = WIDTHS
    return min(max(shutil.get_terminal_size().columns - MARGIN, low), high)


def _head(verdict: Verdict, width: int) -> list[str]:
    """The verdict in a sentence."""
    if verdict.verdict == DIVERGES and verdict.observations:
        first, second = verdict.observations[0].divergence.arms
        other = in_words(second) if second == REFEREE else second
        right = ", and your loop is right" if verdict.acquitted else ""
        return _wrapped(f"diverges{right}: {first} differs from {other}", "", width, 2)
    if verdict.verdict == RAISES and verdict.raised is not None:
        return _wrapped(f"raises in every arm: {_said(verdict.raised, width, 3)}", "", width, 3)
    text = f"{verdict.verdict}: {verdict.reason or ', '.join(report.arm for report in verdict.arms)}"
    return _wrapped(text, "", width, 4)


def _raised(verdict: Verdict, width: int) -> list[str]:
    """What was raised where: the exception, the layer, the operation, what met there and the line of the user's."""
    raised = verdict.raised
    if raised is None:
        return []
    told = [] if verdict.verdict == RAISES else _wrapped(f"raises: {_said(raised, width, 2)}", "  ", width, 2)
    for word, text in raised.rows:
        told += _wrapped(f"{word}: {text}", "  ", width, _LINES[word])
    others = {
        report.raised.said: report.arm
        for report in verdict.arms
        if verdict.verdict == RAISES and report.raised is not None and report.raised.kind != raised.kind
    }
    for said, arm in list(others.items())[:1]:
        told += _wrapped(f"otherwise {arm}: {said}", "  ", width, 2)
    return told


def _said(raised: Raised, width: int, lines: int) -> str:
    """The exception with the beginning and the end of its words, in about so many lines with something before it."""
    return ends(plain(raised.said), lines * (width - _INDENTS) - _BEFORE)


def _observation(verdict: Verdict, width: int, most: _Most) -> list[str]:
    item, raised = verdict.observations[0], verdict.raised is not None
    cause = item.cause
    exact = _EXACT if cause.exact and not raised else ""
    return [
        *([] if raised else _where(item.divergence, width, most.message)),
        *([] if verdict.verdict == RAISES else _wrapped(f"wrong arm: {item.wrong_arm or _UNDECIDED}", "  ", width, 1)),
        *_wrapped(f"cause: {cause.name}{exact}: {cause.explanation}", "  ", width, min(most.cause, 3 if raised else 4)),
        # What is unexplained has nothing but its evidence to go by; that of an exception has been told.
        *(_wrapped(cause.evidence[0], "    ", width, 1) if cause.evidence[: most.evidence] and not raised else []),
        *_wrapped(f"cure: {cause.advice}", "  ", width, most.cure),
        *_wrapped(f"signature: {item.signature}", "  ", width, 2),
    ]


def _where(found: Divergence, width: int, most: int) -> list[str]:
    """The first wrong step and stage, with seen and wanted."""
    of = "" if found.variable == found.stage.value else f" of {found.variable}"
    where = f"first wrong: {when(found.step, found.epoch)}, {found.stage.value}{of}"
    return [*_wrapped(where, "  ", width, 2), *_wrapped(found.message, "    ", width, most)]


def _rest(verdict: Verdict, width: int) -> list[str]:
    """The first remark, and what else the verdict holds, counted in a line."""
    more = [
        counted(number, noun)
        for number, noun in (
            (len(verdict.observations) - 1, "further divergence"),
            (len(verdict.flaky), "flaky difference"),
            (len(verdict.rounding), "rounding difference"),
            (len(verdict.remarks) - 1, "further remark"),
        )
        if number > 0
    ]
    others = [item.cause.name for item in verdict.observations[1:]]
    named = f" ({', '.join(dict.fromkeys(others))})" if others else ""
    # What is odd in the data is the first remark: it may be all there is to a difference that somebody saw elsewhere.
    remark = _wrapped(f"remark: {verdict.remarks[0]}", "  ", width, 1) if verdict.remarks else []
    if not more:
        return remark
    # The divergences come first, and their causes belong to them.
    told = f"also: {more[0]}{named}{''.join(f', {item}' for item in more[1:])}"
    return [*remark, *_wrapped(told, "  ", width, 2)]


def _wrapped(text: str, indent: str, width: int, most: int) -> list[str]:
    """A sentence in at most so many lines, indented; its further lines are indented more."""
    return textwrap.wrap(
        plain(text),
        width,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        max_lines=most,
        placeholder=_CUT,
        break_on_hyphens=False,
    )
