"""Loops that people write and no form foresees: what they did is told, and whose fault a difference is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import conformance
from conformance.prepare import release

RNG = np.random.default_rng(3)
X = RNG.normal(size=(7, 3)).astype("float32")
Y = RNG.normal(size=(7, 1)).astype("float32")
RATE = 0.125


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    release()


def build() -> Any:
    import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="tanh"), keras.layers.Dense(1)])


def sgd() -> Any:
    import keras

    return keras.optimizers.SGD(RATE)


def given(**changes: Any) -> dict[str, Any]:
    return {"model": build, "loss": "mse", "optimizer": sgd, "data": (X, Y), "batch_size": 4} | changes


def gradients_of(model: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    return loss, tape.gradient(loss, model.trainable_variables)


# Whose fault it is.


def over_all_rows(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """Divides by the rows of all replicas, which `fit` does not."""
    import tensorflow as tf

    def mean(targets: Any, outputs: Any) -> Any:
        rows = tf.cast(tf.shape(targets)[0], tf.float32)
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            rows = context.all_reduce("sum", rows)
        return tf.reduce_sum(tf.square(targets - outputs)) / rows

    loss, gradients = gradients_of(model, mean, x, y)
    optimizer.apply(gradients, model.trainable_variables)
    return loss


def test_beside_a_loop_that_is_right_the_fault_is_told_once_and_as_that_of_fit() -> None:
    """Three rows are two and one on two replicas."""
    verdict = conformance.check(over_all_rows, **given(replicas=(1, 2)))
    assert verdict.acquitted == ("fit/mirrored:2/graph",)
    assert [item.cause.name for item in verdict.observations] == ["replica_mean_of_means", "replica_reported_loss"]
    assert verdict.divergence is not None
    assert verdict.divergence.arms[0] == verdict.wrong_arm == "fit/mirrored:2/graph"
    assert str(verdict).startswith("diverges, and your loop is right: fit/mirrored:2/graph is wrong\n")
