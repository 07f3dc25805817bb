"""Which deviations reproduce what an arm did at a stage.

Each deviation stands in for its clauses, first alone, then with another, and is replayed on every step. The first that
leaves nothing off is the cause. Where a training is too small to tell two deviations apart (one row: a sum is a mean),
the others that reproduce it as well are said beside the one that is named.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.referee.comparing import Comparing, Off, Wanted
from conformance.referee.departure import Named
from conformance.referee.deviation import Deviation, Variant
from conformance.referee.dispute_deviations import DISPUTE_DEVIATIONS
from conformance.referee.forward_deviations import FORWARD_DEVIATIONS
from conformance.referee.gradient_deviations import GRADIENT_DEVIATIONS
from conformance.referee.loss_deviations import LOSS_DEVIATIONS, REPLICA_LOSS_DEVIATIONS
from conformance.referee.part_deviations import PART_DEVIATIONS
from conformance.referee.scene import Rules
from conformance.referee.update_deviations import UPDATE_DEVIATIONS
from conformance.stage import Stage

DEVIATIONS: tuple[Deviation, ...] = (
    *FORWARD_DEVIATIONS,
    *DISPUTE_DEVIATIONS,
    *REPLICA_LOSS_DEVIATIONS,
    *LOSS_DEVIATIONS,
    *PART_DEVIATIONS,
    *GRADIENT_DEVIATIONS,
    *UPDATE_DEVIATIONS,
)

_SHARPLY_ROUNDED = {Stage.LOSS, Stage.LOCAL_GRADIENT, Stage.UPDATE, Stage.WEIGHTS}
"""The stages whose numbers are seldom short by chance, as counts and states are."""

_BY_HAND = {Stage.LOCAL_GRADIENT, Stage.GRADIENT, Stage.UPDATE, Stage.WEIGHTS}
"""The stages at which a weight that was moved by hand can first show what was done before it."""

Chosen = tuple[tuple[Deviation, Variant], ...]


@dataclass(frozen=True)
class Explaining:
    """What is off at one stage, and everything that is needed to look for its deviations.

    Attributes:
        comparing: the trace beside the clauses.
        stage: the stage.
        wanted: what it should have given.
        steps: the steps that are judged.
        rules: the clauses, with what earlier stages deviated in.
        alternatives: whether those are looked for that reproduce the same.
        pairs: whether two deviations together are looked for.
    """

    comparing: Comparing
    stage: Stage
    wanted: Wanted
    steps: Sequence[int]
    rules: dict[str, Any]
    alternatives: bool = True
    pairs: bool = True

    def explain(
        self, off: Sequence[Off], name: Callable[[Stage, str], str]
    ) -> tuple[tuple[Named, ...], dict[str, Any]]:
        """The deviations that reproduce the stage, and the rules with them in place.

        Args:
            off: what is off, in order.
            name: what a deviation is called at a stage.

        Returns:
            Nothing and the rules as they were, where no deviation does.
        """
        partly: list[Chosen] = []
        first = [item for item in off if item.step == off[0].step]
        for candidates in (self._alone(), self._pairs() if self.pairs else ()):
            for chosen in candidates:
                if self._leaves(chosen, first) or self._off(chosen, [first[0].step]):
                    continue
                if not self._off(chosen, self.steps):
                    others = self._others(chosen, first) if self.alternatives and len(chosen) == 1 else ()
                    return self._named(chosen, name, others, exact=True), self._with(chosen)
                partly.append(chosen)
            if partly:
                break
        if not partly:
            return self._special(off), self.rules
        return self._named(partly[0], name, (), exact=False), self._with(partly[0])

    def _candidates(self) -> list[tuple[Deviation, Variant]]:
        exact = self.comparing.exact
        by_hand = exact.reading.by_hand and self.stage is Stage.WEIGHTS
        stages = _BY_HAND if by_hand else {self.stage}
        return [
            (deviation, variant)
            for deviation in sorted(DEVIATIONS, key=lambda item: not item.today)
            if stages.intersection(deviation.stages)
            for variant in deviation.variants(exact)
        ]

    def _alone(self) -> Iterator[Chosen]:
        return ((item,) for item in self._candidates())

    def _pairs(self) -> Iterator[Chosen]:
        for first, second in itertools.combinations(self._candidates(), 2):
            if first[0].name != second[0].name and not first[1].rules.keys() & second[1].rules.keys():
                yield first, second

    def _others(self, chosen: Chosen, first: Sequence[Off]) -> tuple[str, ...]:
        """What other deviations reproduce every step too."""
        name = chosen[0][0].name
        found: dict[str, str] = {}
        for deviation, variant in self._candidates():
            if deviation.name == name or deviation.name in found:
                continue
            other = ((deviation, variant),)
            if not self._leaves(other, first) and not self._off(other, self.steps):
                found[deviation.name] = variant.told
        return tuple(
            f"here the same as {other}{f' ({told})' if told else ''}: this training cannot tell the two apart"
            for other, told in found.items()
        )

    def _with(self, chosen: Chosen) -> dict[str, Any]:
        return {**self.rules, **{k: v for _, variant in chosen for k, v in variant.rules.items()}}

    def _leaves(self, chosen: Chosen, first: Sequence[Off]) -> bool:
        return self.comparing.leaves(first, self.wanted, self._with(chosen))

    def _off(self, chosen: Chosen, steps: Sequence[int]) -> list[Off]:
        rules: Rules = self._with(chosen)
        return self.comparing.off(self.stage, self.wanted, steps, rules)

    def _named(
        self, chosen: Chosen, name: Callable[[Stage, str], str], others: tuple[str, ...], *, exact: bool
    ) -> tuple[Named, ...]:
        what, count = self.stage.value.replace("_", " "), len(self.steps)
        told = f"reproduces the {what} of {count} of {count} steps"
        if not exact:
            told = f"reproduces the {what} of the first step that departs, not of all"
        return tuple(
            Named(
                name(self.stage, deviation.name),
                exact,
                ((f"{variant.told}: " if variant.told else "") + told, *others),
                variant.feature,
            )
            for deviation, variant in chosen
        )

    def _special(self, off: Sequence[Off]) -> tuple[Named, ...]:
        """What is told by the values themselves."""
        trainable = self.comparing.exact.twin.trainable
        if self.stage is Stage.WEIGHTS and all(item.name not in trainable for item in off):
            told = f"{off[0].name} is not trainable and changes at step {off[0].step}"
            return (Named("frozen_weights_updated", True, (told,)),)
        coarse = _coarse(off) if self.stage in _SHARPLY_ROUNDED else ""
        if coarse:
            what = self.stage.value.replace("_", " ")
            return (Named("numeric_precision", True, (f"every {what} that is off is a number of {coarse}",)),)
        return ()


def _coarse(off: Sequence[Off]) -> str:
    """The half precision in which all of these losses could have been computed, or nothing."""
    import tensorflow as tf

    for dtype, steps in ((tf.float16, 2.0**-11), (tf.bfloat16, 2.0**-8)):
        kept = [np.asarray(tf.cast(tf.cast(item.seen, dtype), tf.float32)) for item in off]
        near = all(item.magnitude <= 16 * steps * np.abs(item.wanted).max(initial=0.0) for item in off)
        if near and all(np.array_equal(a, item.seen) for a, item in zip(kept, off, strict=True)):
            return str(dtype.name)
    return ""
