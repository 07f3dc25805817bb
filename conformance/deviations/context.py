"""What a deviation between two arms looks at, and what it says.

The key idea is that a name is never guessed. A deviation is a computation on the recorded quantities: if gradients
were clipped on each replica before they were added, then adding up the clipped local gradients must give what the
update rule received, and it either does or does not. Where a deviation cannot be computed from the records, the case
is trained again with that one thing taken away, and the difference either vanishes or does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.case import Case
from conformance.compare import Difference
from conformance.data import Array
from conformance.stage import Stage
from conformance.tolerance import distance, ulp
from conformance.trace import Trace


@dataclass(frozen=True)
class Context:
    """What a deviation may look at.

    Attributes:
        axis: the axis of the difference.
        difference: the difference.
        suspect: the trace of the arm asked about.
        reference: the trace it is held against.
        allowed: what rounding explains of a quantity of the reference.
        options: the optimizer's options.
        case: the case, or None where a user's own parts are judged.
        vanishes: trains another case in the same two arms and says whether they agree at least up to the stage where
            they first differed; None where there is no case to change.
    """

    axis: str
    difference: Difference
    suspect: Trace
    reference: Trace
    allowed: Callable[[tuple[int, Stage, str]], float]
    options: Mapping[str, Any]
    case: Case | None = None
    vanishes: Callable[[Case], bool] | None = None

    def rows(self, step: int) -> list[int]:
        """Rows each replica of the suspect was given at a step."""
        batch = self.suspect.stage(step, Stage.BATCH)
        return [len(part) for part in next(iter(batch.values()))] if batch else []

    def matches(self, key: tuple[int, Stage, str], replayed: Array, recorded: Array) -> bool:
        """Whether a replayed quantity is the recorded one within rounding.

        The replay adds in float64 what an arm added in float32, so the allowance is what rounding explains of the
        quantity itself and of the largest of its parts.
        """
        parts = max((ulp(part) for part in self.suspect.values.get(key, ())), default=0.0)
        return distance(np.asarray(replayed), np.asarray(recorded)) <= 4 * self.allowed(key) + 64 * parts


@dataclass(frozen=True)
class Replay:
    """A deviation that reproduces what was seen.

    Attributes:
        exact: whether it reproduces every step, rather than the first wrong one.
        evidence: what was computed and found, a line each.
        feature: the layer, loss or optimizer feature involved, for the signature.
    """

    exact: bool
    evidence: tuple[str, ...]
    feature: str = ""


@dataclass(frozen=True)
class Deviation:
    """A named replacement of one sentence of what training means; the name's own entry says which, and what to do.

    Attributes:
        name: its name in the contract, an entry of `conformance.causes`.
        replay: looks at what an arm did; None where it does not reproduce it.
        told: what of all that the name stands for this is, where the entry's sentence does not say it.
    """

    name: str
    replay: Callable[[Context], Replay | None]
    told: str = ""
