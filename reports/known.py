"""What is on record of a finding before it was made: the corpus of cases that were read by hand.

Nothing is guessed: a version is named only where the corpus holds what was seen on it, a place in the source of Keras
only where the corpus names it, and where nothing is recorded that is said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from conformance.cases import Entry, entries
from conformance.finding import Environment
from conformance.history import History
from conformance.reports.page import Recorded
from conformance.reports.text import quoted

_NAMES = re.compile(r"\bkeras\.src\.[\w.]*\w|\b[A-Z]\w*\._{0,2}[a-z]\w*|(?<=\()_?[a-z]+(?:_[a-z]+)+(?=[),])")
"""A function with its module, a method with its class, and a function by its name that an explanation sets apart."""


def recorded(signature: str, environment: Environment, histories: Sequence[History] = ()) -> Recorded:
    """What the corpus says of a signature, and what trying the finding's script in other versions has shown.

    Args:
        signature: the signature.
        environment: where the finding was made.
        histories: in which versions its script was tried, a package each.
    """
    known = _known(signature, environment)
    tried = [f"Its script was tried in other versions of {history}." for history in histories if history.trials]
    return replace(known, since=" ".join((known.since, *tried)))


def _known(signature: str, environment: Environment) -> Recorded:
    found = _entries(signature)
    here = f"Keras {environment.keras} with TensorFlow {environment.tensorflow}"
    if not found:
        nothing = f"Found here on {here}. The corpus has no case with this signature, so no other version is recorded."
        return Recorded(since=nothing, where=(), notes=())
    notes = tuple(f"{entry.title} (case {quoted(entry.name)} of the corpus). {entry.explanation}" for entry in found)
    where = dict.fromkeys(name for entry in found for name in _functions(entry.explanation))
    return Recorded(_since(found, signature, here), tuple(where), notes, found[0].cure)


def _entries(signature: str) -> list[Entry]:
    """The cases that are about it; where there are none, those that show it too."""
    held = [(entry, item.signatures) for entry in entries() for item in entry.verdicts if signature in item.signatures]
    first = [entry for entry, _ in held if entry.tells(signature)]
    found = first or [entry for entry, _ in held]
    return list({entry.name: entry for entry in found}.values())[:2]


def _since(found: list[Entry], signature: str, here: str) -> str:
    seen: set[str] = set()
    unseen: set[str] = set()
    for entry in found:
        for item in entry.verdicts:
            versions = f"Keras {item.keras} with TensorFlow {item.tensorflow}"
            (seen if signature in item.signatures else unseen).add(versions)
    told = f"Found here on {here}. The corpus records it on {_listed(seen)}"
    tried = [
        f"The script of its case {quoted(entry.name)} was tried in other versions of {entry.history}."
        for entry in found
        if entry.tried and entry.scripted(signature)
    ]
    if unseen - seen:
        told = f"{told}, and that it does not occur on {_listed(unseen - seen)}."
    else:
        told = f"{told}." if tried else f"{told}; on which version it began is not recorded."
    return " ".join((told, *tried))


def _listed(versions: set[str]) -> str:
    return ", ".join(sorted(versions, key=lambda text: [int(number) for number in re.findall(r"\d+", text)]))


def _functions(explanation: str) -> list[str]:
    """The places in the source that an explanation names, where it says that Keras is the one that is wrong."""
    if not explanation.startswith("Keras is wrong"):
        return []
    return _NAMES.findall(explanation)
