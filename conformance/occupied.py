"""A report directory belongs to one run at a time: a second one would clear away, or mix, what the first one writes.

It is a lock that the system takes back when its holder dies, however that is; a file that says who is there would
outlive a run that was killed. Where there are no such locks nobody is kept out.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

from conformance.errors import UsageError

try:
    import fcntl
except ImportError:
    # Windows has none.
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""The file in a report directory that is locked."""

_held: dict[Path, IO[bytes]] = {}


def occupy(report: Path) -> None:
    """Take a directory for this process, until it ends or leaves it; one that it has already is taken anew.

    Args:
        report: the directory, which is there.

    Raises:
        UsageError: when another process has it, or nothing can be written into it.
    """
    leave(report)
    try:
        file = (report / LOCK).open("ab")
    except OSError as error:
        raise UsageError(f"{report}: {error.strerror or error}; name a directory that can be written to") from None
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UsageError(f"{report} is being written by another run; name another directory, or wait") from None
    except OSError:
        # A file system without locks.
        file.close()
        return
    _held[report.absolute()] = file


def leave(report: Path) -> None:
    """Let others have a directory again."""
    held = _held.pop(report.absolute(), None)
    if held is not None:
        held.close()
