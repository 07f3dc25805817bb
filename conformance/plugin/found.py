"""One judgement as the summary and SARIF tell it, plain data that goes from one process to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Found:
    """A divergence as the summary tells it.

    Attributes:
        signature: its signature.
        message: seen, wanted and where.
        cause: the cause's name.
        explanation: the cause's sentence.
        folder: the folder with its repro, or None.
        known: what the baseline says of it, or None where it is news.
    """

    signature: str
    message: str
    cause: str
    explanation: str
    folder: str | None = None
    known: str | None = None


@dataclass(frozen=True)
class Record:
    """One judgement.

    Attributes:
        test: the test's id.
        found: its divergences.
        results: the same for SARIF, as plain data.
        notes: what could not be judged.
        retraced: what its loop traced again for no good reason.
        problems: what of it could not be written.
    """

    test: str
    found: tuple[Found, ...] = ()
    results: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    retraced: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
