"""Where a session writes: made ready before anything runs, for a session that fails at its end has lost everything."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conformance.plugin.session import RUNNING, VERDICTS


def ready_report(report: Path) -> tuple[str, ...]:
    """Take a report directory, empty of an earlier session's verdicts and claims; its findings stay.

    Returns:
        The tests that an earlier session died of.

    Raises:
        pytest.UsageError: when it is none, cannot be written to, or another session is writing into it.
    """
    from conformance.errors import UsageError
    from conformance.occupied import occupy

    try:
        _directory(report, f"the report directory {report}")
        occupy(report)
        lost = died(report)
        for stale in (*report.glob(VERDICTS), *report.glob(RUNNING)):
            stale.unlink()
    except UsageError as error:
        raise pytest.UsageError(f"the report directory {error}") from None
    except OSError as error:
        raise pytest.UsageError(f"the report directory {report}: {error.strerror or error}") from None
    shutil.rmtree(report / ".claims", ignore_errors=True)
    return lost


def died(report: Path) -> tuple[str, ...]:
    """The tests in whose middle processes ended, by the notes that they left."""
    found = []
    for path in sorted(report.glob(RUNNING)):
        try:
            found.append(str(json.loads(path.read_bytes())["test"]))
        except (OSError, ValueError, LookupError, TypeError):
            # It died while it wrote.
            found.append(path.name)
    return tuple(found)


def ready_file(path: Path, what: str) -> None:
    """Make sure that a file can be written in the end.

    Raises:
        pytest.UsageError: when it cannot.
    """
    if path.is_dir():
        raise pytest.UsageError(f"{what} {path} is a directory; name a file")
    _directory(path.parent, f"{what} {path}")
    there = path.exists()
    try:
        with path.open("ab"):
            pass
        if not there:
            path.unlink()
    except OSError as error:
        raise pytest.UsageError(f"{what} {path}: {error.strerror or error}") from None


def _directory(path: Path, what: str) -> None:
    if path.exists() and not path.is_dir():
        raise pytest.UsageError(f"{what}: {path} is a file; name a directory")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise pytest.UsageError(f"{what}: {error.strerror or error}") from None
