"""Loops that update weights without the optimizer they are given, or by it in parts: their steps are told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import conformance
from conformance.prepare import release

RNG = np.random.default_rng(3)
X = RNG.normal(size=(7, 3)).astype("float32")
Y = RNG.normal(size=(7, 1)).astype("float32")
RATE = 0.125

Update = Callable[[Any, Any, list[Any]], None]
"""Updates a model with an optimizer and gradients."""


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    release()


def build() -> Any:
    import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="tanh"), keras.layers.Dense(1)])


def sgd(**config: Any) -> Any:
    import keras

    return keras.optimizers.SGD(RATE, **config)


def given(**changes: Any) -> dict[str, Any]:
    """Two steps: four rows, and three."""
    return {
        "model": build,
        "loss": "mse",
        "optimizer": sgd,
        "data": (X, Y),
        "batch_size": 4,
        "executions": ("eager",),
    } | changes


def gradients_of(model: Any, loss_fn: Any, x: Any, y: Any) -> list[Any]:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    found: list[Any] = tape.gradient(loss, model.trainable_variables)
    return found


def whole(update: Update) -> Callable[..., None]:
    def train(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
        for _ in range(epochs):
            for x, y in dataset:
                update(model, optimizer, gradients_of(model, loss_fn, x, y))

    return train


def stepwise(update: Update) -> Callable[..., None]:
    def train_step(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> None:
        update(model, optimizer, gradients_of(model, loss_fn, x, y))

    return train_step


# Ways to update.


def by_hand(model: Any, optimizer: Any, gradients: list[Any], rate: float = RATE) -> None:
    for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
        variable.assign_sub(rate * gradient)


def by_hand_of_tensorflow(model: Any, optimizer: Any, gradients: list[Any]) -> None:
    for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
        variable.value.assign_add(-RATE * gradient)


def by_set_weights(model: Any, optimizer: Any, gradients: list[Any]) -> None:
    moved = zip(model.get_weights(), gradients, strict=True)
    model.set_weights([weight - RATE * gradient.numpy() for weight, gradient in moved])


def by_another_optimizer(model: Any, optimizer: Any, gradients: list[Any]) -> None:
    sgd().apply(gradients, model.trainable_variables)


def half_by_hand(model: Any, optimizer: Any, gradients: list[Any]) -> None:
    optimizer.apply(gradients[:2], model.trainable_variables[:2])
    for gradient, variable in zip(gradients[2:], model.trainable_variables[2:], strict=True):
        variable.assign_sub(RATE * gradient)


def half_by_another(model: Any, optimizer: Any, gradients: list[Any]) -> None:
    optimizer.apply(gradients[:2], model.trainable_variables[:2])
    sgd().apply(gradients[2:], model.trainable_variables[2:])


def in_parts(model: Any, optimizer: Any, gradients: list[Any]) -> None:
    optimizer.apply(gradients[:2], model.trainable_variables[:2])
    optimizer.apply(gradients[2:], model.trainable_variables[2:])


def again(model: Any, optimizer: Any, gradients: list[Any]) -> None:
    optimizer.apply(gradients, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)


def clipped_afterwards(model: Any, optimizer: Any, gradients: list[Any]) -> None:
    import tensorflow as tf

    optimizer.apply(gradients, model.trainable_variables)
    for variable in model.trainable_variables:
        variable.assign(tf.clip_by_value(variable, -0.5, 0.5))


def in_the_graph(model: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
    import tensorflow as tf

    @tf.function
    def train() -> None:
        for _ in tf.range(epochs):
            for x, y in dataset:
                by_hand(model, None, gradients_of(model, loss_fn, x, y))

    train()


def on_replicas(model: Any, loss_fn: Any, dataset: Any, epochs: int, strategy: Any) -> None:
    import tensorflow as tf

    def replica_step(x: Any, y: Any) -> None:
        gradients = gradients_of(model, loss_fn, x, y)
        by_hand(model, None, tf.distribute.get_replica_context().all_reduce("sum", gradients))

    @tf.function
    def step(batch: Any) -> None:
        strategy.run(replica_step, args=batch)

    for _ in range(epochs):
        for batch in strategy.experimental_distribute_dataset(dataset):
            step(batch)


def accumulated(model: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
    """Two passes, over the halves of a batch before each update."""
    for _ in range(epochs):
        for x, y in dataset:
            parts = [gradients_of(model, loss_fn, x[at : at + 2], y[at : at + 2]) for at in (0, 2)]
            by_hand(model, None, [(one + other) / 2 for one, other in zip(*parts, strict=True)])


def halves(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> None:
    """A step that accumulates by hand what does not fit into memory at once."""
    import tensorflow as tf

    total = [tf.zeros_like(variable) for variable in model.trainable_variables]
    for at in (0, 2):
        gradients = gradients_of(model, loss_fn, x[at : at + 2], y[at : at + 2])
        total = [held + gradient / 2 for held, gradient in zip(total, gradients, strict=True)]
    optimizer.apply(total, model.trainable_variables)


def by_halves(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
    for _ in range(epochs):
        for x, y in dataset:
            halves(model, optimizer, loss_fn, x, y)


def of_parts(size: int, *, averaged: bool) -> Any:
    def train_step(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> None:
        import tensorflow as tf

        starts = range(0, 4, size)
        parts = [gradients_of(model, loss_fn, x[at : at + size], y[at : at + size]) for at in starts]
        count = len(parts) if averaged else 1
        totals = [tf.add_n(items) / count for items in zip(*parts, strict=True)]
        optimizer.apply(totals, model.trainable_variables)

    return train_step


def with_callbacks(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int, callbacks: Any) -> None:
    import keras

    called = keras.callbacks.CallbackList(callbacks, model=model)
    called.on_train_begin()
    for epoch in range(epochs):
        called.on_epoch_begin(epoch)
        for index, (x, y) in enumerate(dataset):
            called.on_train_batch_begin(index)
            by_hand(model, None, gradients_of(model, loss_fn, x, y), float(optimizer.learning_rate))
            called.on_train_batch_end(index)
        called.on_epoch_end(epoch)
    called.on_train_end()


def halving() -> list[Any]:
    import keras

    return [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)]


CORRECT: dict[str, tuple[Any, dict[str, Any]]] = {
    "by hand": (whole(by_hand), {"epochs": 2}),
    "by hand, TensorFlow's variables": (whole(by_hand_of_tensorflow), {}),
    "set_weights": (whole(by_set_weights), {}),
    "an optimizer of its own": (whole(by_another_optimizer), {}),
    "half by hand": (whole(half_by_hand), {}),
    "half by hand, a step": (stepwise(half_by_hand), {}),
    "two optimizers": (whole(half_by_another), {}),
    "in the graph": (in_the_graph, {"executions": ("graph",), "epochs": 2}),
    "on replicas": (on_replicas, {"executions": ("graph",), "replicas": (2,), "data": (X[:4], Y[:4]), "epochs": 2}),
    "accumulated": (accumulated, {"data": (np.tile(X[:4], (2, 1)), np.tile(Y[:4], (2, 1)))}),
    "the rate of callbacks": (with_callbacks, {"callbacks": halving, "epochs": 2}),
}


@pytest.mark.parametrize("name", CORRECT)
def test_a_correct_update_by_hand_conforms_and_its_weights_are_compared(name: str) -> None:
    loop, changes = CORRECT[name]
    verdict = conformance.assert_conforms(loop, **given(**changes))
    hidden = {line.split()[0] for line in verdict.not_compared}
    assert {"local_gradient", "gradient", "update"} <= hidden
    assert not hidden & {"batch", "outputs", "weights", "state"}


@pytest.mark.parametrize("loop", [halves, by_halves])
def test_a_batch_that_goes_through_the_model_in_parts_is_compared_as_one(loop: Any) -> None:
    rows = {"data": (np.tile(X[:4], (2, 1)), np.tile(Y[:4], (2, 1))), "metrics": ("mae",)}
    verdict = conformance.assert_conforms(loop, **given(**rows))
    hidden = {line.split()[0] for line in verdict.not_compared}
    assert not hidden & {"batch", "outputs", "local_gradient", "gradient", "weights", "update"}


OF_PARTS = {
    "added up": (of_parts(2, averaged=False), "accumulation_not_averaged"),
    "a mean of means of three rows and one": (of_parts(3, averaged=True), "accumulation_mean_of_means"),
}


@pytest.mark.parametrize("name", OF_PARTS)
def test_what_the_parts_of_a_batch_come_to_otherwise_is_told(name: str) -> None:
    loop, cause = OF_PARTS[name]
    verdict = conformance.check(loop, **given(data=(np.tile(X[:4], (2, 1)), np.tile(Y[:4], (2, 1)))))
    assert [item.cause.name for item in verdict.observations] == [cause]
    assert verdict.cause is not None
    assert verdict.cause.exact
    assert verdict.wrong_arm == "trial/single/eager"


def test_a_wrong_update_by_hand_is_told_at_its_step_and_how_far_it_goes() -> None:
    made: list[int] = []

    def three_times_as_far_at_last(model: Any, optimizer: Any, gradients: list[Any]) -> None:
        made.append(1)
        by_hand(model, optimizer, gradients, RATE if len(made) % 3 else 3 * RATE)

    # Three steps, of which the last is wrong.
    verdict = conformance.check(whole(three_times_as_far_at_last), **given(data=(X[:6], Y[:6]), batch_size=2))
    assert verdict.wrong_arm == "trial/single/eager"
    assert verdict.divergence is not None
    assert verdict.cause is not None
    assert (verdict.divergence.step, verdict.divergence.stage) == (2, "weights")
    assert "the step moves it 3 times as far as it should" in verdict.cause.evidence


def test_an_update_by_nothing_is_a_step_and_no_pass_of_the_next_one() -> None:
    """Inputs of zero have no gradient here."""
    import keras

    def without_bias() -> Any:
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])

    still = np.concatenate([np.zeros_like(X[:4]), X[4:]])
    conformance.assert_conforms(whole(by_hand), **given(model=without_bias, data=(still, Y), epochs=2))


def test_what_is_assigned_after_the_update_belongs_to_its_step() -> None:
    verdict = conformance.check(whole(clipped_afterwards), **given())
    assert verdict.divergence is not None
    assert verdict.cause is not None
    assert (verdict.divergence.step, verdict.divergence.stage) == (0, "weights")
    assert "the loop assigns it outside of the optimizer's call as well" in verdict.cause.evidence
    # Were the steps after it judged from weights that were not clipped, their outputs would be wrong too.
    assert len(verdict.observations) == 1


def test_what_is_assigned_after_the_last_step_belongs_to_none() -> None:
    def finishing(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
        whole(lambda *update: optimizer.apply(update[2], model.trainable_variables))(
            model, optimizer, loss_fn, dataset, epochs
        )
        for variable in model.trainable_variables:
            variable.assign(variable / 2)

    verdict = conformance.check(finishing, **given())
    assert verdict.divergence is not None
    assert (verdict.divergence.step, verdict.divergence.stage) == (None, "weights")


CALLED_TWICE = {
    "in parts": (stepwise(in_parts), {"optimizer": "adam"}, "with a part of the weights each time"),
    "in parts, a whole loop": (whole(in_parts), {}, "with a part of the weights each time"),
    "again": (whole(again), {}, "with the same weights each time"),
}


@pytest.mark.parametrize("name", CALLED_TWICE)
def test_an_optimizer_that_is_called_twice_a_step_is_told(name: str) -> None:
    loop, changes, told = CALLED_TWICE[name]
    verdict = conformance.check(loop, **given(**changes))
    assert [item.cause.name for item in verdict.observations] == ["optimizer_called_twice"]
    assert verdict.cause is not None
    assert verdict.cause.exact
    assert verdict.wrong_arm == "trial/single/eager"
    assert verdict.cause.evidence[0].startswith(f"the optimizer is called 2 times a step, {told}: reproduces")
