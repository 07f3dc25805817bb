"""An arm: one way to run a case, trainer x placement x execution.

Written `fit/single/graph` or `loop/mirrored:2/eager`, and parsed from that spelling. An arm is only a name; what runs
it is `conformance.trainers`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import msgspec

from conformance.errors import UsageError

TRAINERS = ("fit", "loop", "train_on_batch")
EXECUTIONS = ("graph", "eager", "xla")
MAX_REPLICAS = 64


class Placement(msgspec.Struct, frozen=True, order=True):
    """Where a case runs: one device, or `replicas` under `tf.distribute.MirroredStrategy`."""

    replicas: int = 1
    mirrored: bool = False

    def __str__(self) -> str:
        return f"mirrored:{self.replicas}" if self.mirrored else "single"


class Arm(msgspec.Struct, frozen=True, order=True):
    """One way to run a case. `trainer` is a name of `TRAINERS`, or `trial` for the user's own loop."""

    trainer: str
    placement: Placement = Placement()
    execution: str = "graph"

    def __str__(self) -> str:
        return f"{self.trainer}/{self.placement}/{self.execution}"


def parse_placement(text: str) -> Placement:
    """`single` or `mirrored:N` as a `Placement`.

    Raises:
        UsageError: for any other spelling, and for fewer than 2 or more than 64 replicas.
    """
    if text == "single":
        return Placement()
    kind, _, count = text.partition(":")
    if kind != "mirrored":
        raise UsageError(f"{text!r} is not a placement; write single or mirrored:N, as in mirrored:2")
    if not count.isdecimal() or not 2 <= int(count) <= MAX_REPLICAS:
        raise UsageError(f"{text!r} does not say how many replicas; write mirrored:N with N from 2 to {MAX_REPLICAS}")
    return Placement(int(count), True)


def parse_execution(text: str) -> str:
    """`graph`, `eager` or `xla`.

    Raises:
        UsageError: for anything else.
    """
    if text not in EXECUTIONS:
        raise UsageError(f"{text!r} is not an execution; choose among {', '.join(EXECUTIONS)}")
    return text


def parse_trainer(text: str) -> str:
    """A trainer's name.

    Raises:
        UsageError: when no such trainer is known.
    """
    if text not in (*TRAINERS, "trial"):
        raise UsageError(f"{text!r} is not a trainer; choose among {', '.join(TRAINERS)}")
    return text


def parse_arm(text: str) -> Arm:
    """`trainer/placement/execution` as an `Arm`.

    Raises:
        UsageError: when a part is missing or unknown.

    Example:
        >>> str(parse_arm("fit/mirrored:2/graph"))
        'fit/mirrored:2/graph'
    """
    parts = text.split("/")
    if len(parts) != 3:
        raise UsageError(f"{text!r} is not an arm; write trainer/placement/execution, as in fit/mirrored:2/graph")
    return Arm(parse_trainer(parts[0]), parse_placement(parts[1]), parse_execution(parts[2]))


def arms(trainers: Iterable[str], placements: Iterable[Placement], executions: Iterable[str]) -> tuple[Arm, ...]:
    """The product of the three axes, in the order given."""
    return tuple(
        Arm(trainer, placement, execution)
        for trainer, placement, execution in itertools.product(trainers, placements, executions)
    )
