"""What an arm did: for every step and stage the arrays, on every replica.

A trace is only NumPy and knows nothing of how it was recorded, so that traces of `fit`, of a user's loop and of the
referee are the same thing to whoever compares them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from conformance.arm import Arm
from conformance.costs import Traced
from conformance.data import Array
from conformance.raised import Raised
from conformance.stage import FINAL, STAGES, Stage

PerReplica = tuple[Array, ...]
"""One array a replica, in the strategy's order."""


_ROWS = frozenset({Stage.BATCH, Stage.OUTPUTS})
_SHARES = frozenset({Stage.LOSS, Stage.LOCAL_GRADIENT})


@dataclass
class Trace:
    """The observations of one run of one arm.

    Attributes:
        arm: the arm.
        replicas: in how many parts a batch was split.
        steps: how many steps ran to their end.
        values: by (step, stage, name) the arrays of every replica; step `FINAL` holds what was left at the end.
        start: by (stage, name) what the training started from: slots, weights, states.
        first: by (stage, name) the weights and states as the first step found them: a loop may have loaded or
            initialized them anew after the start.
        begun: by (step, stage, name) what callbacks left before a step, where there are callbacks: they set rates and
            weights between the steps.
        carried: by step and name what recurrent layers had carried on to it when the model was called.
        evaluated: by (step, stage, name) what was evaluated with after a step, where there are callbacks.
        stopped: whether a callback ended the training early, so that fewer steps are due.
        moved_at_end: whether callbacks moved the weights after the last step.
        rates: by step the learning rate that the first replica's update rule received; no step without an update.
        calls: by step how often the model was called under a tape on each replica, where calls are watched; batch,
            outputs and loss of a step are those of the first call. Calls that have a part of the batch each are one.
        logs: by (step, name) what was reported after a step; by (epoch, name) under `epoch_logs`.
        parts: by step on every replica the rows of the parts in which its batch goes through the model before an
            update, where it does so in several.
        handed: by call of the optimizer in a step the weights it was given, in order; one where it is called once a
            step, and for each call one where it is given other weights in each.
        handed_a_step: how often the optimizer is called in the first step; 0 where that is not known.
        by_hand: the weights that are assigned by anybody but the optimizer.
        applied: whether the optimizer that was given was called.
        foreign: the paths of the variables that optimizer was given where none of them was the model's.
        error: what it raised, if it raised.
        reached: the last stage that was run or traced.
        data_intact: whether the arrays it trained on were left as they were.
        seconds: the time the run took, the first one with its tracing.
        durations: the seconds of each step, watching included; empty where steps cannot be timed.
        functions: what TensorFlow traced meanwhile; None where it does not tell.
    """

    arm: Arm
    replicas: int
    steps: int = 0
    values: dict[tuple[int, Stage, str], PerReplica] = field(default_factory=dict)
    start: dict[tuple[Stage, str], PerReplica] = field(default_factory=dict)
    first: dict[tuple[Stage, str], PerReplica] = field(default_factory=dict)
    begun: dict[tuple[int, Stage, str], PerReplica] = field(default_factory=dict)
    carried: dict[tuple[int, str], PerReplica] = field(default_factory=dict)
    evaluated: dict[tuple[int, Stage, str], PerReplica] = field(default_factory=dict)
    stopped: bool = False
    moved_at_end: bool = False
    rates: dict[int, float] = field(default_factory=dict)
    calls: dict[int, tuple[int, ...]] = field(default_factory=dict)
    logs: dict[tuple[int, str], float] = field(default_factory=dict)
    epoch_logs: dict[tuple[int, str], float] = field(default_factory=dict)
    parts: dict[int, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    handed: tuple[frozenset[str], ...] = ()
    handed_a_step: int = 0
    by_hand: frozenset[str] = frozenset()
    applied: bool = True
    foreign: tuple[str, ...] = ()
    error: Raised | None = None
    reached: Stage | None = None
    data_intact: bool = True
    seconds: float = 0.0
    durations: list[float] = field(default_factory=list)
    functions: tuple[Traced, ...] | None = None

    def keys(self) -> Iterator[tuple[int, Stage, str]]:
        """Every quantity's key in the order of training: by step, by stage, as recorded; the final ones last."""
        place = {key: index for index, key in enumerate(self.values)}
        last = float("inf")
        yield from sorted(self.values, key=lambda k: (last if k[0] == FINAL else k[0], k[1].order, place[k]))

    def stage(self, step: int, stage: Stage) -> dict[str, PerReplica]:
        """Everything recorded at a stage of a step, by name."""
        return {key[2]: value for key, value in self.values.items() if key[:2] == (step, stage)}

    def before(self, step: int, stage: Stage) -> dict[str, PerReplica]:
        """What a step started from, by name: what the last step left of a stage, or the training's own start.

        What callbacks changed in between is what they left.
        """
        found = self.stage(step - 1, stage) if step > 0 else {n: v for (at, n), v in self.start.items() if at is stage}
        if not self.begun:
            return found
        return {name: self.begun.get((step, stage, name), value) for name, value in found.items()}

    def moved_between(self, step: int) -> tuple[str, ...]:
        """The names of what recurrent layers carry on that a step did not begin with as the last one left it."""
        before = self.before(step, Stage.STATE)
        pairs = ((name, values, before.get(name)) for (at, name), values in self.carried.items() if at == step)
        return tuple(
            name
            for name, values, left in pairs
            if left is None or any(not np.array_equal(a, b) for a, b in zip(values, left, strict=True))
        )

    def merged(self, key: tuple[int, Stage, str]) -> Array:
        """A quantity as the global batch sees it, whatever the number of replicas.

        Rows are put together again, shares of the loss and of the gradient are added, and of what every replica holds
        a copy the first is given (`copies_differ` says whether there is a choice).
        """
        values = self.values[key]
        if len(values) == 1:
            return values[0]
        if key[1] in _ROWS:
            return np.concatenate(values)
        if key[1] in _SHARES:
            return np.sum(np.stack(values), axis=0, dtype=values[0].dtype)
        if key[1] is Stage.STATE and values[0].dtype.kind == "f":
            return np.mean(np.stack(values), axis=0, dtype=values[0].dtype)
        return values[0]

    def copies_differ(self, key: tuple[int, Stage, str]) -> bool:
        """Whether replicas that should hold the same value hold different ones."""
        if key[1] not in (Stage.GRADIENT, Stage.UPDATE, Stage.WEIGHTS):
            return False
        first, *others = self.values[key]
        return any(not np.array_equal(first, other, equal_nan=True) for other in others)

    def furthest(self) -> Stage:
        """The stage at which an exception stopped the training: the one after the last that was reached.

        What is raised inside of the optimizer is the update's, however far its tracing had come.
        """
        if self.reached is None:
            return Stage.BATCH
        ran = any(key[0] != FINAL for key in self.values)
        if not ran and self.reached.order >= Stage.UPDATE.order:
            # The step was traced to its end, and its graph failed before it recorded anything.
            return Stage.BATCH
        after = STAGES[min(self.reached.order + 1, len(STAGES) - 1)]
        return Stage.UPDATE if after is Stage.GRADIENT else after
