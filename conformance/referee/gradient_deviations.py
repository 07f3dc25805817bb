"""Deviations from chapters 5 and 6, from a replica's gradients to what the update rule receives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from conformance.referee.apply_rules import CLIPPING_RULES, accumulated, clipped, like
from conformance.referee.base_rules import UpdateStep
from conformance.referee.deviation import Deviation, Variant
from conformance.referee.evaluate import ALL_RULES, Evaluator
from conformance.referee.gradient_clauses import Gradients, summed_over_replicas
from conformance.referee.update_rules import UPDATE_RULES
from conformance.stage import Stage


def _unscaled(evaluator: Evaluator) -> Iterator[Variant]:
    config = evaluator.reading.optimizer_config
    if config.get("loss_scale_factor") or evaluator.reading.optimizer_class == "LossScaleOptimizer":
        yield Variant({"loss_scale": lambda *_: 1.0}, "the gradients are those of a loss that was not scaled")


def _not_reduced(evaluator: Evaluator) -> Iterator[Variant]:
    if evaluator.reading.replicas > 1:
        yield Variant({"summed_over_replicas": lambda parts, replica: dict(parts[replica])}, "each replica has its own")
        yield Variant({"summed_over_replicas": lambda parts, replica: dict(parts[0])}, "all have the first one's")
        yield Variant({"summed_over_replicas": _mean}, "their mean in the place of their sum")


def _mean(parts: list[Gradients], replica: int) -> Gradients:
    return {name: value / len(parts) for name, value in summed_over_replicas(parts, replica).items()}


def _reduced_twice(evaluator: Evaluator) -> Iterator[Variant]:
    def twice(parts: list[Gradients], replica: int) -> Gradients:
        return {name: value * len(parts) for name, value in summed_over_replicas(parts, replica).items()}

    if evaluator.reading.replicas > 1:
        yield Variant({"summed_over_replicas": twice}, "the sum, summed over the replicas once more")


def _clipping(evaluator: Evaluator) -> str | None:
    config = evaluator.reading.optimizer_config
    return next((name for name in CLIPPING_RULES if config.get(name)), None)


def _clip_order(evaluator: Evaluator) -> Iterator[Variant]:
    kind, config = _clipping(evaluator), evaluator.reading.optimizer_config
    if kind is None:
        return

    def first(parts: list[Gradients], replica: int) -> Gradients:
        return summed_over_replicas([clipped(part, config, ALL_RULES) for part in parts], replica)

    def unclipped(gradients: Gradients, *_: Any) -> Gradients:
        return dict(gradients)

    rule = UPDATE_RULES.get(evaluator.reading.optimizer_class)
    if rule is not None:

        def of_moves(step: UpdateStep) -> Any:
            made, rate = rule(step), step.learning_rate
            moves = {n: (made.variables[n] - step.variables[n]) / like(made.variables[n], rate) for n in step.gradients}
            left = clipped(moves, config, ALL_RULES)
            moved = {n: step.variables[n] + left[n] * like(left[n], rate) for n in left}
            return replace(made, variables={**made.variables, **moved})

        told = "what the update rule makes of them is clipped, a unit of learning rate"
        yield Variant({rule.__name__: of_moves}, told, kind)
    if evaluator.reading.replicas > 1:
        told = "each replica's gradients clipped, and then summed"
        yield Variant({"summed_over_replicas": first, "clipped": unclipped}, told, kind)
    if config.get("gradient_accumulation_steps"):

        def one_by_one(gradients: Gradients, held: Gradients, steps: int, iterations: int) -> Any:
            return accumulated(clipped(gradients, config, ALL_RULES), held, steps, iterations)

        yield Variant({"accumulated": one_by_one, "clipped": unclipped}, "clipped before they are accumulated", kind)
    yield Variant({"clipped": unclipped}, "the update rule is given the gradients unclipped", kind)


def _clip_kind(evaluator: Evaluator) -> Iterator[Variant]:
    kind = _clipping(evaluator)
    if kind is None:
        return
    limit = evaluator.reading.optimizer_config[kind]
    for other, rule in CLIPPING_RULES.items():
        if other != kind:

            def otherwise(gradients: Gradients, *_: Any, rule: str = rule) -> Gradients:
                return dict(ALL_RULES[rule](gradients, limit))

            yield Variant({"clipped": otherwise}, f"{other}={limit:g} in the place of {kind}={limit:g}", kind)

    def elementwise(gradients: Gradients, *_: Any) -> Gradients:
        """What some write for a norm: every gradient normalized to the limit, small ones too."""
        return {n: g * like(g, limit) / max(np.sqrt((g * g).sum()), like(g, 1e-30)) for n, g in gradients.items()}

    if kind == "clipnorm":
        yield Variant({"clipped": elementwise}, "every gradient scaled to the norm, smaller ones too", kind)


def _accumulates(evaluator: Evaluator) -> int:
    return int(evaluator.reading.optimizer_config.get("gradient_accumulation_steps") or 1)


def _not_averaged(evaluator: Evaluator) -> Iterator[Variant]:
    def added_up(gradients: Gradients, held: Gradients, steps: int, iterations: int) -> Any:
        made = accumulated(gradients, held, steps, iterations)
        if made.received is None:
            return made
        return replace(made, received={name: value * like(value, steps) for name, value in made.received.items()})

    if _accumulates(evaluator) > 1:
        yield Variant({"accumulated": added_up}, "the sum of the accumulated gradients in the place of their mean")
    if evaluator.reading.accumulated and evaluator.reading.by_hand:
        yield Variant({"gathered": lambda total, *_: total}, "the sum of the gradients in the place of their mean")


def _tail(evaluator: Evaluator) -> Iterator[Variant]:
    training = evaluator.reading.training
    if _accumulates(evaluator) < 2:
        return

    def last_alone(gradients: Gradients, held: Gradients, steps: int, iterations: int) -> Any:
        made = accumulated(gradients, held, steps, iterations)
        if made.received is None:
            return made
        parts = {name: value / like(value, steps) for name, value in gradients.items()}
        return replace(made, received=parts)

    yield Variant({"accumulated": last_alone}, "an update has the last gradient of its group alone")

    def at_the_end(gradients: Gradients, held: Gradients, steps: int, iterations: int) -> Any:
        if (iterations + 1) % training.steps_per_epoch:
            return accumulated(gradients, held, steps, iterations)
        sums = {name: value + held[name] for name, value in gradients.items()}
        means = {name: value / like(value, steps) for name, value in sums.items()}
        return replace(accumulated(gradients, held, 1, 0), received=means)

    yield Variant({"accumulated": at_the_end}, "an incomplete group at the end of an epoch updates too")


def _decay_in_gradient(evaluator: Evaluator) -> Iterator[Variant]:
    decay = evaluator.reading.optimizer_config.get("weight_decay")
    if not decay:
        return
    for factor, told in ((1.0, "decay times the weight"), (2.0, "twice the decay times the weight")):

        def with_decay(gradients: Gradients, variables: Gradients, factor: float = factor) -> Gradients:
            return {n: g + variables[n] * like(g, decay * factor) for n, g in gradients.items()}

        yield Variant({"handed_over": with_decay}, f"{told} is added to the gradient")


GRADIENT_DEVIATIONS: tuple[Deviation, ...] = (
    Deviation("loss_scaling_missing", (Stage.LOCAL_GRADIENT,), _unscaled),
    Deviation("clip_order", (Stage.GRADIENT, Stage.WEIGHTS), _clip_order, today=True),
    Deviation("clip_kind", (Stage.GRADIENT,), _clip_kind),
    Deviation("weight_decay", (Stage.GRADIENT,), _decay_in_gradient),
    Deviation("replica_gradients_not_reduced", (Stage.GRADIENT,), _not_reduced),
    Deviation("replica_gradients_reduced_twice", (Stage.GRADIENT,), _reduced_twice),
    Deviation("accumulation_not_averaged", (Stage.GRADIENT, Stage.WEIGHTS), _not_averaged),
    Deviation("accumulation_tail", (Stage.GRADIENT,), _tail),
)
"""What may become of the gradients otherwise."""
