"""What a session says at its beginning and at its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from conformance import __version__
from conformance.plugin.options import Settings
from conformance.plugin.record import Found, Record

TENSORFLOWS = (
    "tensorflow",
    "tensorflow-cpu",
    "tf-nightly",
    "tf-nightly-cpu",
    "tensorflow-intel",
    "tensorflow-macos",
    "tensorflow-rocm",
)
"""The distributions that bring TensorFlow, the usual ones first."""

MOST_TESTS = 3
"""The tests of a finding that are named; the others are counted."""


def header(settings: Settings) -> list[str]:
    """The versions that a verdict depends on, read without importing any, and the arms and devices that are planned."""
    installed = {name: version for name in TENSORFLOWS if (version := _version(name))}
    engine = [f"{name} {version}" for name, version in installed.items()] or ["no TensorFlow installed"]
    others = [f"{name} {version}" for name in ("keras", "hypothesis") if (version := _version(name))]
    return [f"conformance {__version__}: {', '.join([*engine, *others])}", f"conformance arms: {_arms(settings)}"]


def _arms(settings: Settings) -> str:
    defaults = settings.defaults
    placements = ["single" if count == 1 else f"mirrored:{count}" for count in defaults.replicas]
    told = f"{', '.join(placements)} in {', '.join(defaults.executions)} where a test names none"
    if settings.replicas is None:
        return f"{told}; devices are made for the first test that needs them"
    from conformance.devices import AT_LEAST

    devices = max(*defaults.replicas, AT_LEAST)
    return f"{told}; {devices} logical devices, made before test modules are imported"


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


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
