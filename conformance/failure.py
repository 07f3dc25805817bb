"""What an assertion that fails says: one block that fits beside the code it failed in.

It is read in a terminal, in the log of a CI job and in an XML file, by somebody who has never met the project. So it
has an end: every part has a share of the lines, what is longer is cut where it says so, and nothing in it is longer
than `MOST_LINES` together. The whole is the verdict, which the exception carries.
"""

from __future__ import annotations

import shutil
import textwrap

from conformance.reports.text import plain
from conformance.reports.words import REFEREE, counted, in_words, when
from conformance.verdict import DIVERGES, Observation, Verdict

MOST_LINES = 25
"""The most lines of a message."""

WIDTHS = (60, 120)
"""Between these is the width a message is wrapped to; sentences are hard to read beyond."""

MARGIN = 4
"""What pytest puts in front of a line of an assertion's message."""

_CUT = " [...]"


def failure(verdict: Verdict, *, report: str | None = None, width: int | None = None) -> str:
    """The message of a verdict that does not conform.

    Args:
        verdict: the verdict.
        report: the directory that findings are written to, if any.
        width: characters of a line; by default what the terminal has left beside pytest's margin.

    Returns:
        At most `MOST_LINES` lines without control characters: the verdict, the first wrong step and stage with seen and
        wanted, the wrong arm, the cause, the cure, the signature and where more of it is.
    """
    across = width or _width()
    told = [*_head(verdict, across)]
    if verdict.observations:
        told += _observation(verdict.observations[0], _raised(verdict), across)
    told += _rest(verdict, across)
    place = verdict.repro or report
    if place is not None:
        # A path is never wrapped, so that it stays one word to whoever copies it.
        told.append(f"  {'repro' if verdict.repro else 'report'}: {plain(place)}")
    return "\n".join(told)


def _width() -> int:
    low, high = WIDTHS
    return min(max(shutil.get_terminal_size().columns - MARGIN, low), high)


def _head(verdict: Verdict, width: int) -> list[str]:
    """The verdict in a sentence."""
    if verdict.verdict == DIVERGES and verdict.observations:
        first, second = verdict.observations[0].divergence.arms
        other = in_words(second) if second == REFEREE else second
        return _wrapped(f"diverges: {first} differs from {other}", "", width, 2)
    text = f"{verdict.verdict}: {verdict.reason or ', '.join(report.arm for report in verdict.arms)}"
    return _wrapped(text, "", width, 4)


def _raised(verdict: Verdict) -> str | None:
    """What the first wrong arm raised and at which line of the user's, where that is what is wrong."""
    found = verdict.observations[0].divergence
    if found.step is not None or found.epoch is not None:
        return None
    raised = next((report.raised for report in verdict.arms if report.arm == found.arms[0] and report.raised), None)
    if raised is None:
        return None
    return f"{raised.kind} at {raised.line}" if raised.line else raised.kind


def _observation(item: Observation, raised: str | None, width: int) -> list[str]:
    found, cause = item.divergence, item.cause
    of = "" if found.variable == found.stage.value else f" of {found.variable}"
    exact = "" if not cause.exact else " (reproduces every step)"
    where = f"first wrong: {when(found.step, found.epoch)}, {found.stage.value}{of}"
    return [
        *_wrapped(where if raised is None else f"raises: {raised}", "  ", width, 2),
        *_wrapped(found.message, "    ", width, 4),
        *_wrapped(f"wrong arm: {item.wrong_arm or 'not decided'}", "  ", width, 1),
        *_wrapped(f"cause: {cause.name}{exact}: {cause.explanation}", "  ", width, 4),
        # What is unexplained has nothing but its evidence to go by.
        *(_wrapped(cause.evidence[0], "    ", width, 1) if cause.evidence else []),
        *_wrapped(f"cure: {cause.advice}", "  ", width, 5),
        *_wrapped(f"signature: {item.signature}", "  ", width, 2),
    ]


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
