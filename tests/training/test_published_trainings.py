"""Trainings as people publish them, which hold what no drawn case has: layers and steps of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import conformance
from conformance.prepare import release

RNG = np.random.default_rng(5)
X = RNG.normal(size=(8, 3)).astype("float32")
LABELS = RNG.integers(0, 2, size=8).astype("int32")


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    release()


def augmenting_autoencoder() -> Any:
    """Augments, and draws in TensorFlow's operations, in the dtype of Keras's generator."""
    import keras
    import tensorflow as tf

    class Sampling(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.seed_generator = keras.random.SeedGenerator(1)

        def call(self, given: Any) -> Any:
            mean, log_variance = given
            self.add_loss(-0.5 * tf.reduce_mean(1 + log_variance - tf.square(mean) - tf.exp(log_variance)))
            return mean + tf.exp(0.5 * log_variance) * keras.random.normal(tf.shape(mean), seed=self.seed_generator)

    inputs = keras.Input((4, 4, 1))
    augmented = keras.layers.RandomRotation(0.1, seed=2)(keras.layers.RandomFlip("horizontal", seed=1)(inputs))
    flat = keras.layers.Flatten()(augmented)
    latent = Sampling()([keras.layers.Dense(2)(flat), keras.layers.Dense(2)(flat)])
    return keras.Model(inputs, keras.layers.Dense(3)(latent))


def test_a_model_that_augments_and_draws_by_a_layer_of_its_own_is_judged_on_replicas() -> None:
    verdict = conformance.check(
        model=augmenting_autoencoder,
        loss="mse",
        optimizer="sgd",
        data=(RNG.normal(size=(8, 4, 4, 1)).astype("float32"), X),
        batch_size=8,
        replicas=(1, 2),
        executions=("eager",),
    )
    assert verdict.conforms, str(verdict)
    assert not any("judges nothing" in line for line in verdict.not_compared)
    assert [remark.split(",")[0] for remark in verdict.remarks] == ["random_stream_differs"]


def test_a_loop_with_a_model_in_half_precision_all_through_is_judged() -> None:
    import keras
    import tensorflow as tf

    def build() -> Any:
        with_policy = {"dtype": "mixed_float16"}
        inputs = keras.Input((3,))
        hidden = keras.layers.Dense(2, **with_policy)(inputs)
        model = keras.Model(inputs, keras.layers.Activation("softmax", dtype="float32")(hidden))
        model.dtype_policy = keras.DTypePolicy("mixed_float16")
        return model

    def step(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
            scaled = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    verdict = conformance.check(
        step,
        model=build,
        loss="sparse_categorical_crossentropy",
        optimizer=lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
        data=(X, LABELS),
        batch_size=4,
    )
    assert verdict.conforms, str(verdict)
    assert not any("judges nothing" in line for line in verdict.not_compared)
