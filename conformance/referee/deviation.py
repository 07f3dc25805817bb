"""Deviations: clauses replaced by name, to be replayed against what an arm did.

Nothing is guessed. A deviation is a set of functions in the places of clauses; with them the referee computes what the
arm should have given, and the arm either gave that, at every step, or it did not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from conformance.referee.evaluate import Evaluator
from conformance.referee.scene import Rules
from conformance.stage import Stage


@dataclass(frozen=True)
class Variant:
    """One way of deviating.

    Attributes:
        rules: the functions that take the place of clauses, by the clause's name.
        told: what this variant does, to be said as evidence; may be empty.
        feature: the option involved, for the signature.
    """

    rules: Rules
    told: str = ""
    feature: str = ""


@dataclass(frozen=True)
class Deviation:
    """A named replacement of clauses.

    Attributes:
        name: a name of the contract.
        stages: the stages at which it shows first.
        variants: the ways of deviating that can differ from the clauses in what an evaluator reads; none where the
            training has nothing that the deviation is about.
        today: whether Keras does this today on replicas, so that it is tried first.
    """

    name: str
    stages: tuple[Stage, ...]
    variants: Callable[[Evaluator], Iterable[Variant]] = field(compare=False)
    today: bool = False
