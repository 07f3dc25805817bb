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

    # NumPy's, for TensorFlow's own draw the same again where somebody has set its seed.
    random = np.random.default_rng(0)

    def noise() -> Any:
        drawn = tf.numpy_function(lambda: random.normal(size=3).astype("float32"), [], tf.float32)
        return tf.ensure_shape(drawn, (3,))

    return slices().map(lambda x, y: (x + noise(), y)).batch(4)


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
    assert verdict.conforms, str(verdict)
    (remark,) = verdict.remarks
    assert f"  remark: {remark}" in str(verdict).splitlines()
    assert verdict_to_data(verdict)["remarks"] == [remark]


NAMED = ({"b": X[:8], "a": -X[:8]}, {"second": Y[:8], "first": -Y[:8]})


def by_list() -> Any:
    """Inputs of one shape, so that those that are mistaken for one another fit."""
    import keras

    b, a = keras.Input((3,), name="b"), keras.Input((3,), name="a")
    joined = keras.layers.Concatenate()([b, keras.layers.Dense(2)(a)])
    return keras.Model([b, a], [keras.layers.Dense(1, name=name)(joined) for name in ("second", "first")])


def by_name() -> Any:
    import keras

    class Named(keras.Model):  # type: ignore[misc]  # Keras has no types
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = keras.layers.Dense(1), keras.layers.Dense(1)

        def call(self, inputs: Any) -> Any:
            return {"second": self.second(inputs["b"]), "first": self.first(inputs["a"] + inputs["b"])}

    return Named()


def in_the_order_of_the_inputs(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
    """Takes the inputs out of their dictionary, and gives the loss the targets in theirs."""
    import tensorflow as tf

    for _ in range(epochs):
        for x, y in dataset:
            with tf.GradientTape() as tape:
                loss = loss_fn(y, model([x["b"], x["a"]], training=True))
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)


def named(loop: Any = None, **changes: Any) -> Any:
    losses = {"second": "mse", "first": "mae"}
    given = {"model": by_list, "loss": losses, "optimizer": "sgd", "data": NAMED, "batch_size": 4, **changes}
    return conformance.check(loop, **given)


def test_inputs_and_targets_by_name_are_those_of_the_model() -> None:
    verdict = named(in_the_order_of_the_inputs, validation_data=NAMED)
    assert verdict.conforms, str(verdict)
    assert not any(line.startswith(("batch", "outputs", "loss")) for line in verdict.not_compared)
    assert verdict.compared > 50


def test_a_model_that_takes_and_gives_dictionaries_is_judged() -> None:
    import tensorflow as tf

    verdict = named(model=by_name, validation_data=tf.data.Dataset.from_tensor_slices(NAMED).batch(4))
    assert verdict.conforms, str(verdict)
    assert verdict.not_compared == ()


def test_that_fit_weighs_no_batch_of_an_output_in_its_evaluation_is_told_of_fit() -> None:
    import tensorflow as tf

    verdict = named(model=by_name, epochs=2, validation_data=tf.data.Dataset.from_tensor_slices(NAMED).batch(5))
    assert {item.wrong_arm for item in verdict.observations} == {"fit/single/graph"}
    (observation,) = verdict.observations
    assert observation.divergence.variable in {"val_first_loss", "val_second_loss"}
    assert (observation.cause.name, observation.cause.exact) == ("epoch_loss_unweighted", True)
    # The corpus has it, for what is reported of the training.
    assert observation.signature == "trainer/logs/epoch_loss_unweighted/output_loss"


BAD_NAMES = {
    "inputs": ({"data": ({"b": X, "c": X}, Y)}, "the inputs ['b', 'c'] are not the model's inputs ['b', 'a']"),
    "targets": ({"data": (NAMED[0], {"first": Y[:8], "third": Y[:8]})}, "are not the model's outputs"),
    "one output": ({"model": build, "data": (X, {"dense": Y})}, "as a dictionary for a model of one output"),
    "weights": (
        {"data": (*NAMED, {"first": Y[:8, 0], "second": Y[:8, 0]})},
        "sample weights as a dictionary for a model whose outputs are a list",
    ),
}


@pytest.mark.parametrize(("changes", "told"), BAD_NAMES.values(), ids=BAD_NAMES.keys())
def test_names_that_do_not_fit_are_refused_in_one_line(changes: Any, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        named(**changes)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
