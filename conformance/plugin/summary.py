"""What a session says at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from conformance.plugin.found import Found, Record

MOST_TESTS = 3
"""The tests of a finding that are named; the others are counted."""


def findings(records: Iterable[Record]) -> Iterator[str]:
    """The findings of a session, a signature each, known ones last and in one line."""
    from conformance.reports.text import plain, shortened

    by_signature: dict[str, list[tuple[str, Found]]] = {}
    for record in records:
        for found in record.found:
            by_signature.setdefault(found.signature, []).append((record.test, found))
    news = {key: value for key, value in by_signature.items() if value[0][1].known is None}
    for signature, seen in news.items():
        found = seen[0][1]
        yield f"{plain(signature)}"
        yield f"  {shortened(found.message, 300)}"
        yield f"  cause: {plain(found.cause)}: {shortened(found.explanation, 300)}"
        yield f"  tests: {_tests([test for test, _ in seen])}"
        folder = next((one.folder for _, one in seen if one.folder), None)
        if folder is not None:
            yield f"  folder: {plain(folder)}"
    for signature, seen in by_signature.items():
        if signature not in news:
            sentence = shortened(seen[0][1].known, 200)
            yield f"known: {plain(signature)}: {sentence}; {_tests([test for test, _ in seen])}"


def retraced(records: Iterable[Record]) -> Iterator[str]:
    """What loops of a session traced again for no good reason, each once."""
    from conformance.reports.text import shortened

    by_line: dict[str, list[str]] = {}
    for record in records:
        for line in record.retraced:
            by_line.setdefault(line, []).append(record.test)
    for line, tests in by_line.items():
        yield f"retraced: {shortened(line, 300)}; {_tests(tests)}"


def problems(records: Iterable[Record]) -> Iterator[str]:
    """What could not be written, each once, with how often."""
    from conformance.reports.text import shortened

    for problem, times in Counter(one for record in records for one in record.problems).items():
        yield f"problem: not written: {shortened(problem, 300)}" + (f" ({times} times)" if times > 1 else "")


def died(earlier: Iterable[str], now: Iterable[str]) -> Iterator[str]:
    """The tests in whose middle a process ended, of an earlier session in the same report directory and of this one."""
    from conformance.reports.text import plain

    for whose, tests in (("its process died", now), ("an earlier session died", earlier)):
        for test in tests:
            yield f"died: {plain(test)}: {whose} while a training was judged"


def _tests(ids: Iterable[str]) -> str:
    from conformance.reports.text import plain

    unique = list(dict.fromkeys(plain(name) for name in ids))
    more = len(unique) - MOST_TESTS
    return ", ".join(unique[:MOST_TESTS]) + (f" and {more} more" if more > 0 else "")


def verdicts(outcomes: Iterable[str], report: Path) -> str:
    """How many verdicts of each kind are in the report directory."""
    listed = list(outcomes)
    counts = ", ".join(f"{listed.count(outcome)} {outcome}" for outcome in sorted(set(listed)))
    return f"conformance: {counts or 'no verdicts'}, in {report}"
