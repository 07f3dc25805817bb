"""Callbacks of a user's own: called alike in every way of training, and what they change is no step's doing."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import conformance
from conformance import user_callbacks
from conformance.errors import UsageError

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def build() -> Any:
    import keras

    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


def train_step(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    return loss


def without(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
    for _ in range(epochs):
        for x, y in dataset:
            train_step(model, optimizer, loss_fn, x, y)


def by_hand(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
    for epoch in range(epochs):
        optimizer.learning_rate = scheduled(epoch)
        for x, y in dataset:
            train_step(model, optimizer, loss_fn, x, y)


def calling(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int, callbacks: Any) -> None:
    import keras

    calls = keras.callbacks.CallbackList(callbacks, model=model)
    calls.on_train_begin()
    for epoch in range(epochs):
        calls.on_epoch_begin(epoch)
        losses = []
        for step, (x, y) in enumerate(dataset):
            calls.on_train_batch_begin(step)
            losses.append(float(train_step(model, optimizer, loss_fn, x, y)))
            calls.on_train_batch_end(step)
        calls.on_epoch_end(epoch, {"loss": float(np.mean(losses))})
        if model.stop_training:
            break
    calls.on_train_end()


def scheduled(epoch: int) -> float:
    return 0.1 / (epoch + 1)


def schedule() -> Any:
    import keras

    return keras.callbacks.LearningRateScheduler(scheduled)


def stopping(monitor: str = "loss") -> Any:
    """Ends the training after its second epoch, and puts the weights of the first back."""
    import keras

    return keras.callbacks.EarlyStopping(monitor=monitor, min_delta=1e6, restore_best_weights=True)


def given(**changes: Any) -> dict[str, Any]:
    own = {"model": build, "loss": "mse", "optimizer": "adam", "data": (X, Y), "batch_size": 4, "epochs": 4}
    return {**own, **changes}


def test_callbacks_are_called_in_every_way_of_training_and_may_change_and_end_it() -> None:
    import keras

    runs: list[list[tuple[str, float]]] = []

    class Observer(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_train_begin(self, logs: Any = None) -> None:
            runs.append([])

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            runs[-1].append(("rate", round(float(self.model.optimizer.learning_rate.numpy()), 6)))

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            runs[-1].append(("epoch", epoch))
            assert logs is not None
            assert {"loss", "val_loss", "mae", "val_mae"} <= logs.keys()

    def make() -> list[Any]:
        halving = keras.callbacks.ReduceLROnPlateau(monitor="val_mae", patience=0, min_delta=1e6, factor=0.5)
        return [schedule(), halving, stopping("val_mae"), Observer()]

    verdict = conformance.check(
        train_step, **given(callbacks=make, metrics=("mae",), validation_data=(X[:4], Y[:4]), epochs=4)
    )
    assert verdict.conforms, verdict
    assert not any(line.startswith(("update", "weights")) for line in verdict.not_compared)
    assert len(runs) >= 2
    first = [("rate", 0.1)] * 3 + [("epoch", 0)] + [("rate", 0.05)] * 3 + [("epoch", 1)]
    assert all(run == first for run in runs)


def test_a_whole_loop_may_call_them_itself() -> None:
    verdict = conformance.check(calling, **given(callbacks=[schedule(), stopping()]))
    assert verdict.conforms, verdict
    assert verdict.remarks == ()


def test_a_whole_loop_without_callbacks_and_with_nothing_in_their_place_is_found() -> None:
    verdict = conformance.check(without, **given(callbacks=[stopping()]))
    assert verdict.cause is not None
    assert (verdict.cause.name, verdict.cause.exact) == ("callbacks_not_called", True)
    assert verdict.wrong_arm == "trial/single/graph"
    assert verdict.signature == "trainer/batch/callbacks_not_called"
    assert verdict.remarks == ("the callbacks are called by fit alone: without takes no parameter `callbacks`",)


def test_a_whole_loop_may_do_by_hand_what_callbacks_do() -> None:
    verdict = conformance.check(by_hand, **given(callbacks=schedule, executions=("eager",), epochs=2))
    assert verdict.conforms, verdict


def test_every_run_has_callbacks_of_its_own() -> None:
    import keras

    class Counting(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        seen = 0

    mine = Counting()
    make = user_callbacks.maker([mine])
    assert make is not None
    (first,), (second,) = make(), make()
    first.seen += 1
    assert (mine.seen, second.seen) == (0, 0)
    assert type(first) is Counting


def test_callbacks_that_cannot_be_copied_are_refused() -> None:
    import keras

    class Locked(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

    with pytest.raises(UsageError, match=r"cannot be copied for every run: TypeError: .*; give a function that makes"):
        user_callbacks.maker(Locked())
    assert user_callbacks.maker(Locked) is not None


@pytest.mark.parametrize("nothing", [None, [], ()])
def test_no_callbacks_are_none(nothing: Any) -> None:
    assert user_callbacks.maker(nothing) is None
