"""In which versions a finding was tried, kept in its folder: `history.json`.

It belongs to a script, of which it holds the digest: what an older script showed is not told of a newer one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec

from conformance.errors import UsageError
from conformance.history import History
from conformance.reports.folder import write_file
from conformance.verdict import json_safe

FORMAT = 1
"""The version of `history.json` this package writes; it refuses newer ones."""

NAME = "history.json"


def read_histories(folder: Path) -> tuple[History, ...]:
    """What a finding's folder holds of its script, a package each; nothing where the script is another one by now.

    Raises:
        UsageError: when the file cannot be read, or is of a newer format; one line that begins with the path.
    """
    path = folder / NAME
    if not path.exists():
        return ()
    try:
        data = json.loads(path.read_bytes())
        version = data["format"]
        if type(version) is not int or version < 1:
            raise UsageError(f"{path}: format {version!r} is not that of a history, a whole number of at least 1")
        if version > FORMAT:
            raise UsageError(
                f"{path}: format {version} is from a newer release, this one reads up to {FORMAT}; upgrade"
                " keras-conformance"
            )
        histories = msgspec.convert(data["histories"], tuple[History, ...])
        same = data["script"] == _digest(folder)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except UsageError:
        raise
    except (msgspec.ValidationError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: malformed: {' '.join(str(error).split())}") from error
    # What a file says is put in order again: of a version that a trial has there is one, and it was asked about.
    return tuple(history.taking(()) for history in histories) if same else ()


def write_history(folder: Path, history: History) -> History:
    """Put a history into a finding's folder, with what was known of the same package before.

    Returns:
        What is known now.
    """
    kept = {item.package: item for item in read_histories(folder)}
    before = kept.get(history.package, History(package=history.package, versions=()))
    kept[history.package] = before.taking(history.trials, history.versions, whole=history.whole)
    data = {
        "format": FORMAT,
        "script": _digest(folder),
        "histories": json_safe(msgspec.to_builtins(list(kept.values()))),
    }
    try:
        write_file(folder / NAME, json.dumps(data, indent=2) + "\n")
    except OSError as error:
        raise UsageError(f"{folder / NAME}: {error.strerror or error}") from error
    return kept[history.package]


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / "repro.py").read_bytes()).hexdigest()
