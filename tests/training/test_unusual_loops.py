"""Loops that people write and no form foresees: what they did is told, and whose fault a difference is."""

from __future__ import annotations

import functools
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
    """The last batch of three rows is two and one on two replicas."""
    verdict = conformance.check(over_all_rows, **given(replicas=(1, 2)))
    assert verdict.acquitted == ("fit/mirrored:2/graph",)
    assert [item.cause.name for item in verdict.observations] == ["replica_mean_of_means", "replica_reported_loss"]
    assert verdict.divergence is not None
    assert verdict.divergence.arms[0] == verdict.wrong_arm == "fit/mirrored:2/graph"
    assert str(verdict).startswith("diverges, and your loop is right: fit/mirrored:2/graph is wrong\n")


# Loops of classes.


class Trainer:
    """Somebody's, with its loss in itself, and its step compiled."""

    def __init__(self) -> None:
        import keras
        import tensorflow as tf

        self.loss_fn = keras.losses.MeanSquaredError()
        self.compiled_step = tf.function(self.step)

    def step(self, model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        loss, gradients = gradients_of(model, self.loss_fn, x, y)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    def __call__(self, model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        return self.compiled_step(model, optimizer, x, y)

    def fit(self, model: Any, optimizer: Any, dataset: Any, epochs: int) -> None:
        for _ in range(epochs):
            for x, y in dataset:
                self.step(model, optimizer, x, y)


def configured(rate: float, model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    optimizer.learning_rate.assign(rate)
    loss, gradients = gradients_of(model, loss_fn, x, y)
    optimizer.apply(gradients, model.trainable_variables)
    return loss


FEW: dict[str, Any] = {"data": (X[:4], Y[:4]), "executions": ("eager",)}
"""One step, and no graph of `fit`."""

CLASSES = {
    "a method": lambda: Trainer().step,
    "an object": Trainer,
    "a whole loop": lambda: Trainer().fit,
    "a partial": lambda: functools.partial(configured, RATE),
    "a partial by name": lambda: functools.partial(configured, rate=RATE),
}


@pytest.mark.parametrize("name", CLASSES)
def test_a_loop_that_is_no_plain_function_conforms(name: str) -> None:
    conformance.assert_conforms(CLASSES[name](), **given(**FEW))


def test_a_method_that_is_compiled_conforms_on_replicas() -> None:
    # TensorFlow keeps no object alive for its compiled methods.
    trainer = Trainer()
    conformance.assert_conforms(trainer.compiled_step, **given(**FEW, replicas=(2,)))


# Loops that leave the model alone, and loops that train with what nobody can watch.


def forgetful(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
    for _ in range(epochs):
        for x, y in dataset:
            gradients_of(model, loss_fn, x, y)


def copying(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    import keras

    copy = keras.models.clone_model(model)
    loss, gradients = gradients_of(copy, loss_fn, x, y)
    optimizer.apply(gradients, copy.trainable_variables)
    return loss


def standing(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    return configured(0.0, model, optimizer, loss_fn, x, y)


UNTRAINED = {
    "without an update": (forgetful, "the optimizer is never called, and no weight is assigned"),
    "of a copy": (copying, "the optimizer is given variables of another model, and none of the given one's: "),
    "at a rate of zero": (standing, "the optimizer is called at each of 1 steps, with a learning rate of 0"),
}


@pytest.mark.parametrize("name", UNTRAINED)
def test_a_training_that_leaves_the_model_alone_diverges(name: str) -> None:
    loop, told = UNTRAINED[name]
    verdict = conformance.check(loop, **given(**FEW))
    assert [item.cause.name for item in verdict.observations] == ["model_not_trained"]
    assert verdict.cause is not None
    assert verdict.cause.exact
    assert told in verdict.cause.evidence[0]
    assert verdict.wrong_arm == "trial/single/eager"
    assert verdict.signature == "trainer/weights/model_not_trained"


def with_another_model(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    import tensorflow as tf

    other = build()
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True) + other(x, training=True))
    weights = model.trainable_variables + other.trainable_variables
    optimizer.apply(tape.gradient(loss, weights), weights)
    return loss


class Closed:
    """Brings its own optimizer, and a model of its own where it is given none."""

    def __init__(self) -> None:
        self.model, self.optimizer = build(), sgd()
        self.optimizer.build(self.model.trainable_variables)

    def step(self, model: Any, loss_fn: Any, x: Any, y: Any) -> Any:
        loss, gradients = gradients_of(model, loss_fn, x, y)
        self.optimizer.apply(gradients, model.trainable_variables)
        return loss

    def alone(self, loss_fn: Any, x: Any, y: Any) -> Any:
        return self.step(self.model, loss_fn, x, y)


UNWATCHED: dict[str, tuple[Any, str]] = {
    "another model beside": (lambda: with_another_model, "and 3 more beside the model it was given; put all that is"),
    "an optimizer of another model": (
        lambda: Closed().step,
        "step calls an optimizer of its own that was built for another model",
    ),
    "no model": (lambda: Closed().alone, "alone takes no `model` and leaves the one it would be given alone"),
}


@pytest.mark.parametrize("name", UNWATCHED)
def test_what_is_trained_with_what_cannot_be_watched_is_unsupported_and_told_what_to_change(name: str) -> None:
    loop, told = UNWATCHED[name]
    verdict = conformance.check(loop(), **given(**FEW))
    assert verdict.verdict == "unsupported"
    assert verdict.reason is not None
    assert told in verdict.reason
    assert "; " in verdict.reason


def own_optimizer(rate: float) -> Any:
    optimizer: list[Any] = []

    def step(model: Any, loss_fn: Any, x: Any, y: Any) -> Any:
        import keras

        if not optimizer:
            optimizer.append(keras.optimizers.SGD(rate))
        loss, gradients = gradients_of(model, loss_fn, x, y)
        optimizer[0].apply(gradients, model.trainable_variables)
        return loss

    return step


def test_a_step_with_an_optimizer_of_its_own_is_judged_by_its_weights() -> None:
    conformance.assert_conforms(own_optimizer(RATE), **given(**FEW))
    wrong = conformance.check(own_optimizer(2 * RATE), **given(**FEW))
    assert wrong.divergence is not None
    assert (wrong.wrong_arm, wrong.divergence.stage) == ("trial/single/eager", "weights")
