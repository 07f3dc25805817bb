"""The corpus: cases whose judgement is known, replayed by every run.

A case is one file, `<name>.case.json`, and `index.json` says of each what is known: what is wrong and why, and what
was seen on which versions. The cases are as small as they get and were read by hand, so each can be taken for a
definition of what it shows; the numbers of a case are its own, no other case relies on them.

Example:
    >>> from conformance import cases
    >>> cases.load("clipnorm").optimizer.config["clipnorm"]
    0.125
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

if __name__ == "cases":
    raise ImportError("'cases' is a folder of keras-conformance; import it as conformance.cases")

import msgspec

from conformance.baseline import Baseline, Known
from conformance.case import Case, load_case
from conformance.errors import UsageError
from conformance.history import History, Outcome, Trial
from conformance.versions import DISTRIBUTIONS

__all__ = [
    "Entry",
    "Recorded",
    "Tried",
    "baseline",
    "entries",
    "entries_showing",
    "known_signatures",
    "load",
    "path",
    "recorded_versions",
    "repro",
]

_HERE = Path(__file__).resolve().parent


class Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was seen on one pair of versions: the verdict, and the signatures in their order."""

    keras: str
    tensorflow: str
    verdict: str
    signatures: tuple[str, ...] = ()


class Tried(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `conformance bisect` saw of a case's script: the versions of Keras by outcome, with one TensorFlow.

    `otherwise` are those in which it diverges by other numbers than in the newest of them all.
    """

    tensorflow: str
    diverges: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()
    conforms: tuple[str, ...] = ()
    error: tuple[str, ...] = ()

    @property
    def trials(self) -> list[Trial]:
        """The same, a version each."""
        of: tuple[tuple[Outcome, str, tuple[str, ...]], ...] = (
            ("diverges", "", self.diverges),
            ("diverges", "DIVERGES otherwise", self.otherwise),
            ("conforms", "", self.conforms),
            ("error", "", self.error),
        )
        beside = {"tensorflow": self.tensorflow}
        return [
            Trial(version=name, outcome=outcome, beside=beside, said=said)
            for outcome, said, names in of
            for name in names
        ]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of one case.

    Attributes:
        name: its name; the case is in `<name>.case.json`.
        title: what happens, in a line.
        explanation: which of Keras, the loop and the harness is wrong, and why.
        placements: the placements it is judged in, the reference first.
        executions: the executions it is judged in, the reference first.
        verdicts: what was seen, by versions.
        cure: what to write or do instead.
        link: where it is told or discussed, if anywhere.
        about: the signature that the case is about; empty for the first of those it shows.
        tried: what its script did in other versions, which shows the first signature alone.
    """

    name: str
    title: str
    explanation: str
    placements: tuple[str, ...]
    executions: tuple[str, ...]
    verdicts: tuple[Recorded, ...]
    cure: str
    link: str = ""
    about: str = ""
    tried: tuple[Tried, ...] = ()

    @property
    def history(self) -> History:
        """In which versions of Keras its script was tried, and what follows."""
        trials = [trial for item in self.tried for trial in item.trials]
        return History(package="keras", versions=()).taking(trials)

    def scripted(self, signature: str) -> bool:
        """Whether a signature is the one that its script shows."""
        return any(item.signatures[:1] == (signature,) for item in self.verdicts)

    def tells(self, signature: str) -> bool:
        """Whether a signature, of the several that a case may show, is the one it is about."""
        abouts = {self.about or item.signatures[0] for item in self.verdicts if item.signatures}
        return signature in abouts

    def recorded(self, keras: str, tensorflow: str) -> Recorded | None:
        """What was seen on these versions, or None."""
        return next((item for item in self.verdicts if (item.keras, item.tensorflow) == (keras, tensorflow)), None)


@cache
def entries() -> tuple[Entry, ...]:
    """Everything in the index, in its order."""
    return msgspec.json.decode((_HERE / "index.json").read_bytes(), type=tuple[Entry, ...])


def recorded_versions(keras: str, tensorflow: str) -> tuple[str, str]:
    """The versions of Keras and TensorFlow whose record is the one to go by: these, or the newest that has one."""
    recorded = {(item.keras, item.tensorflow) for entry in entries() for item in entry.verdicts}
    return (keras, tensorflow) if (keras, tensorflow) in recorded else max(recorded, key=_numbers)


def _numbers(versions: tuple[str, str]) -> list[list[int]]:
    return [[int(number) for number in re.findall(r"\d+", version)] for version in versions]


def known_signatures(keras: str, tensorflow: str) -> frozenset[str]:
    """The signatures that the corpus records.

    Args:
        keras: the version of Keras.
        tensorflow: the version of TensorFlow; see `recorded_versions` for a pair that nobody has recorded.

    Example:
        >>> from conformance import cases
        >>> "both/loss/replica_loss_not_scaled" in cases.known_signatures("3.15.1", "2.21.0")
        True
    """
    return frozenset(baseline(keras, tensorflow).signatures)


def baseline(keras: str, tensorflow: str) -> Baseline:
    """What the corpus records as a baseline.

    A signature that several cases show is told as one tells it that is about it, if there is one.

    Args:
        keras: the version of Keras.
        tensorflow: the version of TensorFlow; see `recorded_versions` for a pair that nobody has recorded.
    """
    versions = recorded_versions(keras, tensorflow)
    concerned = tuple(f"{name}=={version}" for name, version in zip(DISTRIBUTIONS, versions, strict=True))
    shown = [(entry, item.signatures) for entry in entries() if (item := entry.recorded(*versions)) is not None]
    known: dict[str, Known] = {}
    for first in (True, False):
        for entry, signatures in shown:
            for signature in filter(entry.tells, signatures) if first else signatures:
                known.setdefault(signature, Known(signature, entry.title, link=entry.link, versions=concerned))
    return Baseline().taking(known.values())


def entries_showing(signature: str) -> tuple[Entry, ...]:
    """The entries of the cases that show a finding, on whatever versions."""
    return tuple(entry for entry in entries() if any(signature in recorded.signatures for recorded in entry.verdicts))


def path(name: str) -> Path:
    """The file of a case."""
    return _HERE / f"{name}.case.json"


def repro(name: str) -> Path:
    """The file of the script that shows a case's divergence; there is none where nothing diverges."""
    return _HERE / f"{name}.repro.py"


def load(name: str) -> Case:
    """The case of that name.

    Raises:
        UsageError: when the corpus has no such case.
    """
    names = [entry.name for entry in entries()]
    if name not in names:
        raise UsageError(f"{name!r} is not in the corpus; it holds {', '.join(names)}")
    return load_case(path(name))
