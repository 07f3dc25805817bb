"""Evaluation as the guide's loop does it after an epoch: inference mode, penalties in the loss, metrics begun anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.trainers.driving import compile_step, split
from conformance.trainers.losses import loss_function, with_penalties
from conformance.trainers.tally import Tally
from conformance.training import Setup


def evaluation(setup: Setup, tally: Tally) -> Callable[[], dict[str, Any]]:
    """Give the function that evaluates the training's validation data and returns what is reported.

    Args:
        setup: the arm.
        tally: takes losses and metrics; what it held before is gone.
    """
    import tensorflow as tf

    training = setup.training
    assert training.validation is not None
    data = training.validation.copy()

    def replica_step(batch: Any) -> None:
        x, y, sample_weight = (*batch, None)[:3]
        parts: list[Any] = []
        loss_fn = loss_function(setup.losses, training.parts.loss_weights, parts.extend, names=training.data.y_names)
        outputs = setup.model(x, training=False)
        loss = with_penalties(setup.model, loss_fn(y, outputs, sample_weight))
        tally.outputs(y, outputs)
        tally.loss(loss, parts, tf.shape(tf.nest.flatten(x)[0])[0])

    def global_step(batch: Any) -> None:
        setup.strategy.run(replica_step, args=(batch,))

    compiled: list[Callable[[Any], None]] = []

    def evaluate() -> dict[str, Any]:
        dataset = split(setup, data.dataset())
        if not compiled:
            compiled.append(compile_step(global_step, setup.execution, dataset.element_spec))
        tally.reset()
        for batch in dataset:
            compiled[0](batch)
        return tally.results()

    return evaluate
