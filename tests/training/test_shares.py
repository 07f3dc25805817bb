"""A loss function that makes one number of a replica's rows is asked whether that is a mean or a share."""

from __future__ import annotations

from typing import Any

import numpy as np

import conformance
from conformance.prepare import release

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def check(loss: Any) -> Any:
    import keras

    verdict = conformance.check(
        model=lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]),
        loss=loss,
        optimizer="sgd",
        data=(X, Y),
        batch_size=4,
        replicas=(1, 2),
        executions=("eager",),
    )
    release()
    return verdict


def test_a_sum_over_the_global_batch_size_is_a_share_and_conforms_on_replicas() -> None:
    def average(y: Any, p: Any) -> Any:
        import tensorflow as tf

        return tf.nn.compute_average_loss(tf.reduce_mean(tf.square(y - p), axis=-1), global_batch_size=4)

    assert check(average).conforms


def test_a_mean_of_a_replicas_rows_is_none_and_fit_does_not_divide_it() -> None:
    def mean(y: Any, p: Any) -> Any:
        import tensorflow as tf

        return tf.reduce_mean(tf.square(y - p))

    verdict = check(mean)
    assert verdict.wrong_arm == "fit/mirrored:2/eager"
    assert [item.cause.name for item in verdict.observations] == ["replica_loss_not_scaled"]
