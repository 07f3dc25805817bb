"""Findings in a user's loop as SARIF 2.1.0, which code hosts show beside the lines they point at.

A rule a cause, a result a signature and place: two cases that show one finding are one result that occurred twice. What
could not be judged is a notification, for a file without results says that all is well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from conformance import __version__
from conformance.causes import CAUSES
from conformance.place import Place
from conformance.reports.sarif_line import line_of
from conformance.reports.text import plain
from conformance.verdict import DIVERGES, RAISES, UNSUPPORTED, Observation, Verdict

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
"""The name that the format's schema has; nothing is fetched from there."""

FINGERPRINT = "conformanceSignature/v1"
"""The fingerprint is the signature: what makes two findings the same one wherever the line has moved to."""

_TEXT = 2_000
"""Characters of one text; what an exception says may be as long as it likes."""

_ESCAPED = str.maketrans({"\\": r"\\", "[": r"\[", "]": r"\]", "{": "{{", "}": "}}"})


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One finding at one place, plain data that crosses process borders.

    Attributes:
        signature: its signature.
        cause: the cause's name.
        explanation: the cause's sentence.
        advice: what to write instead.
        message: seen, wanted and where.
        file: the file's path.
        line: the line, from 1.
        wrong_arm: the arm that is wrong, where that is decided.
    """

    signature: str
    cause: str
    explanation: str
    advice: str
    message: str
    file: str
    line: int
    wrong_arm: str | None = None


def results(verdict: Verdict, place: Place) -> list[Result]:
    """What a verdict says, at the lines of a loop.

    Args:
        verdict: the verdict.
        place: the loop, or the test where no loop is on trial.
    """
    if verdict.verdict not in (DIVERGES, RAISES):
        return []
    return [_result(item, *_where(verdict, item, place)) for item in verdict.observations]


def _result(item: Observation, file: str, line: int) -> Result:
    return Result(
        signature=item.signature,
        cause=item.cause.name,
        explanation=item.cause.explanation,
        advice=item.cause.advice,
        message=item.divergence.message,
        wrong_arm=item.wrong_arm,
        file=file,
        line=line,
    )


def _where(verdict: Verdict, item: Observation, place: Place) -> tuple[str, int]:
    """The user's line that raised, where one did, or the line of the stage that is wrong."""
    for report in verdict.arms:
        if report.raised is not None and report.raised.line and report.arm == item.divergence.arms[0]:
            file, number = _read(report.raised.line)
            if file == place.file and place.line <= number <= place.last_line:
                return file, number
    return place.file, line_of(place, item.divergence.stage)


def _read(line: str) -> tuple[str, int]:
    """The file and the number of `file:line: source`; a Windows path has a colon of its own."""
    head, _, _ = line.partition(": ")
    file, _, number = head.rpartition(":")
    return (file, int(number)) if number.isdecimal() else ("", 0)


def unjudged(verdict: Verdict) -> str | None:
    """What is to be said of a case that gave no results and does not conform, or None."""
    if verdict.verdict == UNSUPPORTED or (verdict.verdict == RAISES and not verdict.observations):
        return f"{verdict.verdict}: {verdict.reason or 'no reason is known'}"
    return None


def sarif(found: Iterable[Result], notes: Iterable[str] = (), root: Path | None = None) -> dict[str, Any]:
    """A SARIF log of one run.

    Args:
        found: the findings, in order; a finding may be there several times.
        notes: what could not be judged.
        root: the directory that paths are relative to; by default the current one.

    Returns:
        Plain data, to be written as JSON.
    """
    counted: dict[tuple[str, str, int], list[Result]] = {}
    for item in found:
        counted.setdefault((item.signature, item.file, item.line), []).append(item)
    rules: dict[str, Result] = {}
    for items in counted.values():
        rules.setdefault(items[0].cause, items[0])
    numbers = {name: number for number, name in enumerate(sorted(rules))}
    folder = (Path.cwd() if root is None else root).resolve()
    run = {
        "tool": {
            "driver": {
                "name": "keras-conformance",
                "semanticVersion": __version__,
                "rules": [_rule(rules[name]) for name in numbers],
            }
        },
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [
                    {"level": "warning", "message": {"text": _text(note)}} for note in dict.fromkeys(notes)
                ],
            }
        ],
        "originalUriBaseIds": {"%SRCROOT%": {"uri": _uri(folder) + "/"}},
        "columnKind": "unicodeCodePoints",
        "results": [
            {
                "ruleId": items[0].cause,
                "ruleIndex": numbers[items[0].cause],
                "level": "error",
                "message": {"text": _message(items[0])},
                "locations": [
                    {
                        "physicalLocation": {
                            "artifactLocation": _artifact(Path(items[0].file), folder),
                            "region": {"startLine": max(1, items[0].line)},
                        }
                    }
                ],
                "occurrenceCount": len(items),
                "partialFingerprints": {FINGERPRINT: items[0].signature},
            }
            for items in counted.values()
        ],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def text(data: dict[str, Any]) -> str:
    """A log as the text of a file: ASCII, so that nothing in it depends on an encoding."""
    return json.dumps(data, indent=2) + "\n"


def _rule(item: Result) -> dict[str, Any]:
    entry = CAUSES.get(item.cause)
    sentence, advice = (item.explanation, item.advice) if entry is None else (entry.sentence, entry.advice)
    return {
        "id": item.cause,
        "name": "".join(part.capitalize() for part in item.cause.split("_")),
        "shortDescription": {"text": _text(sentence)},
        "fullDescription": {"text": _text(sentence)},
        "help": {"text": _text(advice)},
        "defaultConfiguration": {"level": "error"},
    }


def _message(item: Result) -> str:
    wrong = f"Wrong is {item.wrong_arm}." if item.wrong_arm else "Which arm is wrong is not decided."
    return " ".join(_text(part) for part in (item.message, wrong, item.explanation, f"Advice: {item.advice}"))


def _text(told: str) -> str:
    """Plain text of one line; in a message of SARIF brackets would be a link, and braces a placeholder."""
    line = plain(told)
    line = line if len(line) <= _TEXT else line[: _TEXT - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return line.translate(_ESCAPED)


def _artifact(file: Path, folder: Path) -> dict[str, str]:
    place = file.resolve()
    if place.is_relative_to(folder):
        return {"uri": quote(place.relative_to(folder).as_posix()), "uriBaseId": "%SRCROOT%"}
    return {"uri": _uri(place)}


def _uri(path: Path) -> str:
    return path.as_uri()
