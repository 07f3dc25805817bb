"""What the arguments of the commands name: case files, a baseline, a directory for the report."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from conformance.baseline import CORPUS, Baseline, load_baseline
from conformance.errors import UsageError
from conformance.occupied import leave, occupy


def case_files(paths: Iterable[str]) -> list[Path]:
    """The case files that are named, and those below directories that are.

    Raises:
        UsageError: when a path is missing or a directory holds no case.
    """
    files: list[Path] = []
    for text in paths:
        path = Path(text)
        if path.is_dir():
            found = sorted({*path.rglob("*.case.json"), *path.rglob("case.json")})
            found = [file for file in found if not file.name.startswith("original")]
            if not found:
                raise UsageError(f"{path} holds no *.case.json and no case.json")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise UsageError(f"{path} does not exist; give a case file or a directory of them")
    return list(dict.fromkeys(files))


def fresh_report(report: str) -> None:
    """Refuse to mix two runs: a report's claims and findings belong to one.

    Raises:
        UsageError: when it is no directory, or one that cannot be written to or that another run is writing.
    """
    if not report.strip() or "\0" in report:
        raise UsageError(f"--report {report!r} names no directory")
    path = Path(report)
    try:
        if path.exists() and not path.is_dir():
            raise UsageError(f"--report {report!r} is a file; name a directory")
        if path.exists():
            occupy(path)
        if (path / "events.jsonl").exists():
            number = next(n for n in range(1, 10_000) if not (path.parent / f"{path.name}.{n}").exists())
            leave(path)
            path.rename(path.parent / f"{path.name}.{number}")
    except OSError as error:
        raise UsageError(f"--report {report!r}: {error.strerror or error}") from None


def known_findings(baseline: str | None, as_json: bool) -> Baseline:
    """The part of a baseline that concerns the versions that are installed; what does not is said in a line.

    Raises:
        UsageError: when it cannot be read, or is the corpus's and there is no TensorFlow.
    """
    from conformance import cases, devices
    from conformance.environment import installed

    if baseline is None:
        return Baseline()
    if baseline != CORPUS:
        loaded = load_baseline(baseline)
        known = loaded.concerning(installed())
        left = len(loaded.findings) - len(known.findings)
        if left:
            entries = "entry does not concern" if left == 1 else "entries do not concern"
            click.echo(f"{baseline}: {left} {entries} {_named(*installed().values())}", err=as_json)
        return known
    devices.require_tensorflow()
    here = tuple(installed().values())
    taken = cases.recorded_versions(*here)
    if taken != here:
        click.echo(
            f"the corpus records nothing for {_named(*here)}; known is what it records for {_named(*taken)}",
            err=as_json,
        )
    return cases.baseline(*here)


def _named(keras: str, tensorflow: str) -> str:
    return f"Keras {keras} with TensorFlow {tensorflow}"
