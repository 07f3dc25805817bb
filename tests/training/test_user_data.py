"""Datasets that give other batches each time they are read, and what a verdict says of them.

What needs no TensorFlow is in tests/unit/test_user_data.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import conformance
from conformance import user_data
from conformance.errors import UsageError
from conformance.rereading import FROZEN
from conformance.verdict import verdict_to_data

RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 3)).astype("float32")
Y = RNG.normal(size=(10, 1)).astype("float32")


def build() -> Any:
    import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def slices() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, Y))


def shuffled(**options: Any) -> Any:
    return slices().shuffle(10, **options).batch(4)


def augmented() -> Any:
    import tensorflow as tf

    return slices().map(lambda x, y: (x + tf.random.normal((3,)), y)).batch(4)


def from_generator(make: Callable[[], Any]) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_generator(
        make, output_signature=(tf.TensorSpec((None, 3), tf.float32), tf.TensorSpec((None, 1), tf.float32))
    )


def exhausted() -> Any:
    once = iter([(X[:4], Y[:4]), (X[4:8], Y[4:8])])
    return from_generator(lambda: once)


def growing() -> Any:
    calls: list[int] = []

    def batches() -> Any:
        calls.append(1)
        yield from [(X[:4], Y[:4]), (X[4:8], Y[4:8])][: len(calls)]

    return from_generator(batches)


def sequence() -> Any:
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
        order = np.arange(10)

        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            part = self.order[4 * index : 4 * index + 4]
            return X[part], Y[part]

        def on_epoch_end(self) -> None:
            self.order = self.order[::-1]

    return Batches()


DIFFERENT = {
    "a shuffle without a seed": (shuffled, "the same rows in another order: a shuffle without a seed, or with"),
    "a shuffle with a seed, anew each time": (lambda: shuffled(seed=1), "the same rows in another order"),
    "a random augmentation": (augmented, "the same targets with other inputs of the same shape"),
    "a generator that is exhausted": (exhausted, "an exhausted generator: give from_generator a function"),
    "another number of batches": (growing, "the second 2; its cardinality is unknown, so fit counts the steps"),
    "a PyDataset that shuffles": (sequence, "the same rows in another order: it is shuffled by on_epoch_end"),
}


@pytest.mark.parametrize(("make", "told"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_a_dataset_that_gives_other_batches_is_said_with_the_reason(make: Callable[[], Any], told: str) -> None:
    (remark,) = user_data.read(make(), 32).remarks
    assert told in remark
    assert remark.endswith(FROZEN)


@pytest.mark.parametrize(
    "make",
    [
        lambda: slices().batch(4),
        lambda: shuffled(seed=1, reshuffle_each_iteration=False),
        lambda: shuffled(seed=1).take(3).cache(),
        lambda: from_generator(lambda: iter([(X[:4], Y[:4])])),
        lambda: slices().filter(lambda x, y: y[0] > 0).batch(2),
    ],
    ids=["in order", "shuffled once", "cached", "generator", "of unknown cardinality"],
)
def test_nothing_is_said_of_a_dataset_that_stays_the_same(make: Callable[[], Any]) -> None:
    assert user_data.read(make(), 32).remarks == ()


def test_an_endless_dataset_is_refused_without_reading_it() -> None:
    import tensorflow as tf

    def fails() -> Any:
        raise AssertionError("it was read")
        yield

    endless = tf.data.Dataset.from_generator(fails, output_signature=tf.TensorSpec(())).repeat()
    endless = endless.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    with pytest.raises(UsageError, match=r"endless dataset; limit it with take\(n\)"):
        user_data.read(endless, 32)


def test_a_verdict_over_data_that_differs_is_of_the_training_and_says_so() -> None:
    verdict = conformance.check(model=build, loss="mse", optimizer="sgd", data=shuffled(), epochs=2)
    assert verdict.conforms, verdict
    (remark,) = verdict.remarks
    assert f"  remark: {remark}" in str(verdict).splitlines()
    assert verdict_to_data(verdict)["remarks"] == [remark]
