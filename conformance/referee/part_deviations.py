"""Deviations of loops that pass a batch through the model in parts: what the parts' means come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from conformance.referee.deviation import Deviation, Variant
from conformance.referee.evaluate import Evaluator
from conformance.referee.loss_clauses import regularization, weights_of
from conformance.referee.scene import Part, Rules, Scene
from conformance.stage import Stage


def _as_parts(evaluator: Evaluator, *, averaged: bool) -> Rules | None:
    """The rules of a batch that goes through the model in parts, whose means are added up, or averaged as they are."""
    import tensorflow as tf

    parts = evaluator.reading.trace.parts
    if evaluator.reading.replicas > 1 or not parts:
        return None

    def sizes(part: Part) -> tuple[int, ...]:
        return parts.get(-1 if part.step is None else part.step, ((part.rows,),))[0]

    def weighted(scene: Scene, part: Part, output: int, values: Any) -> Any:
        known, found = weights_of(scene, part, output, values), sizes(part)
        times = [part.rows / size / (len(found) if averaged else 1) for size in found for _ in range(size)]
        factors = tf.constant(times, part.outputs[output].dtype)
        return factors if known is None else tf.cast(known, factors.dtype) * factors

    rules: dict[str, Callable[..., Any]] = {"weights_of": weighted}
    if not averaged:
        rules["regularization"] = lambda scene, part: regularization(scene, part) * len(sizes(part))
    return rules


def _parts_added(evaluator: Evaluator) -> Iterator[Variant]:
    rules = _as_parts(evaluator, averaged=False)
    if rules is not None:
        yield Variant(rules, "the sum of the means of a batch's parts in the place of the batch's mean")
        plain = {"weights_of": rules["weights_of"]}
        yield Variant(plain, "the sum of the means of a batch's parts, with the penalties once")


def _parts_averaged(evaluator: Evaluator) -> Iterator[Variant]:
    rules = _as_parts(evaluator, averaged=True)
    if rules is not None and any(len(set(sizes[0])) > 1 for sizes in evaluator.reading.trace.parts.values()):
        yield Variant(rules, "the mean of the means of a batch's parts in the place of the batch's mean")


PART_DEVIATIONS: tuple[Deviation, ...] = (
    Deviation("accumulation_not_averaged", (Stage.LOCAL_GRADIENT,), _parts_added),
    Deviation("accumulation_mean_of_means", (Stage.LOCAL_GRADIENT,), _parts_averaged),
)
"""What the gradient of a batch in parts may be otherwise."""
