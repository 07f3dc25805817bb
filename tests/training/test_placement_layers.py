"""Layers that have to differ on replicas: what of them is no divergence, and what is named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import conformance
from conformance.prepare import release

RNG = np.random.default_rng(3)
X = RNG.normal(size=(8, 3)).astype("float32")
Y = RNG.normal(size=(8, 1)).astype("float32")


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    release()


def model_with(*names: str) -> Any:
    def build() -> Any:
        import keras

        class Jitter(keras.layers.Layer):  # type: ignore[misc]
            """Draws without naming a dtype."""

            def __init__(self) -> None:
                super().__init__()
                self.seeds = keras.random.SeedGenerator(1)

            def call(self, x: Any, training: bool = False) -> Any:
                return x + keras.random.uniform(keras.ops.shape(x), seed=self.seeds) if training else x

        made = {
            "Dropout": lambda: keras.layers.Dropout(0.4, seed=1),
            "BatchNormalization": keras.layers.BatchNormalization,
            "Jitter": Jitter,
        }
        between = [made[name]() for name in names]
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), *between, keras.layers.Dense(1)])

    return build


def step(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, scale: float = 1.0) -> None:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True)) * scale
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)


def doubled(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> None:
    import tensorflow as tf

    step(model, optimizer, loss_fn, x, y, float(tf.distribute.get_strategy().num_replicas_in_sync))


def check(loop: Any, *names: str) -> Any:
    return conformance.check(
        loop,
        model=model_with(*names),
        loss="mse",
        optimizer="sgd",
        data=(X, Y),
        batch_size=8,
        replicas=(1, 2),
        executions=("eager",),
    )


@pytest.mark.parametrize("name", ["Dropout", "Jitter"])
def test_that_replicas_draw_other_numbers_is_no_divergence_of_a_loop(name: str) -> None:
    verdict = check(step, name)
    assert verdict.conforms
    assert not any("judges nothing" in line for line in verdict.not_compared)
    (remark,) = verdict.remarks
    assert remark.startswith("random_stream_differs, which is no divergence: outputs[step 0] ")


def test_beside_other_numbers_on_replicas_a_fault_is_told_alone() -> None:
    verdict = check(doubled, "Dropout")
    assert [item.cause.name for item in verdict.observations] == ["replica_loss_not_scaled"]
    assert verdict.wrong_arm == "trial/mirrored:2/eager"


def test_local_statistics_are_named_where_random_numbers_differ_as_well() -> None:
    verdict = check(step, "BatchNormalization", "Dropout")
    assert verdict.signature is not None
    assert verdict.signature.endswith("/outputs/replica_local_statistics/BatchNormalization")


def test_draws_are_told_apart_where_keras_makes_the_update_its_own_way() -> None:
    def of_words() -> Any:
        import keras

        words = keras.Input((3,), dtype="int32")
        hidden = keras.layers.Flatten()(keras.layers.Embedding(4, 2)(words))
        return keras.Model(words, keras.layers.Dense(1)(keras.layers.Dropout(0.4, seed=1)(hidden)))

    verdict = conformance.check(
        step,
        model=of_words,
        loss="mse",
        optimizer="adam",
        data=(RNG.integers(0, 4, (8, 3)).astype("int32"), Y),
        batch_size=8,
        replicas=(1, 2),
        executions=("eager",),
    )
    assert verdict.conforms, str(verdict)
    assert any(remark.startswith("random_stream_differs") for remark in verdict.remarks)
    assert any("IndexedSlices" in remark for remark in verdict.remarks)
