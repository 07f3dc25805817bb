"""Deviations from chapters 2 and 8: how the model is called, and what becomes of its states."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from conformance.data import Array
from conformance.referee.deviation import Deviation, Variant
from conformance.referee.evaluate import Evaluator
from conformance.referee.gradient_clauses import Gradients
from conformance.stage import Stage


def _mode(**changes: Any) -> dict[str, Callable[..., Any]]:
    return {"called": lambda mode: replace(mode, **changes)}


def _inference(evaluator: Evaluator) -> Iterator[Variant]:
    if evaluator.twin.random or evaluator.twin.coupled:
        yield Variant(_mode(training=False), "the outputs are those of inference mode")


def _twice(evaluator: Evaluator) -> Iterator[Variant]:
    if evaluator.twin.random or evaluator.twin.coupled:
        yield Variant(_mode(times=2), "statistics and random states move twice a step")


def _after_update(evaluator: Evaluator) -> Iterator[Variant]:
    yield Variant(_mode(start="after"), "the loss is that of the weights after the step")
    if evaluator.twin.random or evaluator.twin.coupled:
        yield Variant(_mode(start="after", training=False), "the loss is that of inference mode after the step")


def _kept_alone(name: str, before: Mapping[str, Array], after: Mapping[str, Array]) -> dict[str, Array]:
    return {path: before[path] if path.endswith(name) else after[path] for path in after}


def _statistics_kept(evaluator: Evaluator) -> Iterator[Variant]:
    def kept(before: Mapping[str, Array], after: Mapping[str, Array]) -> dict[str, Array]:
        return {name: after[name] if "seed_generator" in name else before[name] for name in after}

    if evaluator.twin.coupled:
        yield Variant({"states_left": kept}, "the moving statistics stay what they were")
        for statistic in ("moving_mean", "moving_variance"):
            alone = partial(_kept_alone, statistic)
            yield Variant({"states_left": alone}, f"the {statistic.replace('_', ' ')} stays what it was")
        every = evaluator.reading.training.steps_per_epoch
        yield Variant(_mode(anew_every=every), "the moving statistics start anew with every epoch")


def _of_no_rows(evaluator: Evaluator) -> Iterator[Variant]:
    if not evaluator.twin.coupled or not evaluator.leaves_out_a_replica:
        return

    def undefined(gradients: Gradients, scales: Collection[str]) -> Gradients:
        return {name: np.full_like(value, np.nan) if name in scales else value for name, value in gradients.items()}

    states = {"statistics_of_no_rows": lambda before, after: dict(after)}
    told = "a replica without rows takes the mean of nothing, NaN, into its moving statistics"
    yield Variant({**states, "gradient_of_no_rows": undefined}, f"{told} and the gradient of gamma", _NO_ROWS)
    yield Variant(states, told, _NO_ROWS)


_NO_ROWS = "no_rows"


def _stream_kept(evaluator: Evaluator) -> Iterator[Variant]:
    def kept(before: Mapping[str, Array], after: Mapping[str, Array]) -> dict[str, Array]:
        return {name: before[name] if "seed_generator" in name else after[name] for name in after}

    if evaluator.twin.random:
        yield Variant({"states_left": kept}, "the random states do not move")
        every = evaluator.reading.training.steps_per_epoch
        yield Variant(_mode(anew_every=every, anew="seed_generator"), "the random states start anew with every epoch")
        yield Variant(_mode(anew_every=1, anew="seed_generator"), "the random states start anew with every step")


FORWARD_DEVIATIONS: tuple[Deviation, ...] = (
    Deviation("training_flag_false", (Stage.OUTPUTS,), _inference),
    Deviation("model_called_twice", (Stage.OUTPUTS, Stage.LOCAL_GRADIENT, Stage.STATE), _twice),
    Deviation("replica_local_statistics", (Stage.LOCAL_GRADIENT, Stage.STATE), _of_no_rows, today=True),
    Deviation("batchnorm_statistics_not_updated", (Stage.STATE,), _statistics_kept),
    Deviation("random_stream_differs", (Stage.OUTPUTS, Stage.STATE), _stream_kept),
    Deviation("loss_reported_after_update", (Stage.LOSS,), _after_update),
)
"""How the model may be called otherwise, and what may become of its states."""
