"""The list of known findings: signatures that are no news, each with a sentence and a link."""

from __future__ import annotations

from pathlib import Path

import msgspec

from conformance.errors import UsageError

FORMAT = 1

CORPUS = "corpus"
"""In the place of a file: what the corpus records for the versions that are installed. A file of that name is
`./corpus`."""


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A known finding."""

    signature: str
    sentence: str
    link: str = ""


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The known findings of a project."""

    findings: tuple[Known, ...] = ()
    format: int = FORMAT

    @property
    def signatures(self) -> tuple[str, ...]:
        """The known signatures."""
        return tuple(known.signature for known in self.findings)


def load_baseline(path: str | Path) -> Baseline:
    """The baseline in a file.

    Raises:
        UsageError: when it cannot be read, is malformed or from a newer format.
    """
    try:
        baseline = msgspec.json.decode(Path(path).read_bytes(), type=Baseline)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: not a baseline: {error}") from error
    if baseline.format > FORMAT:
        raise UsageError(f"{path}: format {baseline.format} is from a newer release; this one reads up to {FORMAT}")
    return baseline
