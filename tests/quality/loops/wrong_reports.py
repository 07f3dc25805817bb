"""Loops that train as `fit` does, and report something else.

Each docstring says what is wrong and gives the line that would be right.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import parts
import tensorflow as tf
from parts import Loop, given


def metric_never_reset(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> dict[str, list[float]]:
    """The metrics are made once and go on through all epochs.

    Right: `mae.reset_state()`, at the start of an epoch
    """
    mae, losses = keras.metrics.MeanAbsoluteError(), keras.metrics.Mean()

    @tf.function
    def train_step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            predictions = model(x, training=True)
            loss = loss_fn(y, predictions)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        losses.update_state(loss)
        mae.update_state(y, predictions)

    history: dict[str, list[float]] = {"loss": [], "mae": []}
    for _ in range(epochs):
        losses.reset_state()
        for x, y in dataset:
            train_step(x, y)
        history["loss"].append(float(losses.result()))
        history["mae"].append(float(mae.result()))
    return history


def loss_never_reset(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """The running loss goes on through all epochs.

    Right: `running, steps = 0.0, 0`, at the start of an epoch
    """

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    history = []
    running, steps = 0.0, 0
    for _ in range(epochs):
        for x, y in dataset:
            running += float(train_step(x, y))
            steps += 1
        history.append(running / steps)
    return history


def mean_of_unequal_batches(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """The loss of an epoch is the plain mean over its batches, of which the last is smaller.

    Right: `history.append(np.average(losses, weights=rows))`
    """

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    history = []
    for _ in range(epochs):
        losses = [float(train_step(x, y)) for x, y in dataset]
        history.append(float(np.mean(losses)))
    return history


def mean_of_unequal_batches_in_a_train_step() -> Any:
    """The `train_step` of the Keras guide, in which a row of the last batch counts more.

    Right: `metric.update_state(loss, sample_weight=keras.ops.shape(x)[0])`
    """

    class Regression(keras.Model):
        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            with tf.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = self.compute_loss(y=y, y_pred=y_pred)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, y_pred)
            return {metric.name: metric.result() for metric in self.metrics}

    made = parts.dense()
    return Regression(made.inputs, made.outputs)


def metric_given_nothing() -> Any:
    """The metrics are reported and not updated, and `fit` takes an epoch's numbers from them.

    Right: `metric.update_state(loss, sample_weight=keras.ops.shape(x)[0])`, for the one that is called `loss`
    """

    class Regression(keras.Model):
        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return {metric.name: metric.result() for metric in self.metrics}

    made = parts.dense()
    return Regression(made.inputs, made.outputs)


def mean_of_the_batches_accuracies(
    model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int
) -> dict[str, list[float]]:
    """The accuracy of an epoch is the plain mean of its batches', of which the last is smaller.

    Right: `history["accuracy"].append(np.average(accuracies, weights=rows))`
    """
    history: dict[str, list[float]] = {"loss": [], "accuracy": []}
    for _ in range(epochs):
        losses, accuracies, rows = [], [], []
        for x, y in dataset:
            with tf.GradientTape() as tape:
                predictions = model(x, training=True)
                loss = loss_fn(y, predictions)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            losses.append(float(loss))
            accuracies.append(np.mean(np.argmax(predictions, axis=-1) == y.numpy()))
            rows.append(len(x))
        history["loss"].append(float(np.average(losses, weights=rows)))
        history["accuracy"].append(float(np.mean(accuracies)))
    return history


def ten_of_three_classes() -> tuple[Any, Any]:
    x, _ = parts.ten_rows()
    return x, np.array([0, 1, 2, 1, 2, 0, 1, 2, 0, 1], "int32")


def loss_of_the_last_batch(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """The loss reported for an epoch is its last batch's.

    Right: `history.append(np.mean(losses))`, over all batches
    """

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    history = []
    for _ in range(epochs):
        for x, y in dataset:
            loss = train_step(x, y)
        history.append(float(loss))
    return history


def batch_taken_for_the_epoch(
    model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int
) -> dict[str, list[float]]:
    """`train_on_batch` is taken to return running means, and returns the batch's loss.

    Right: `losses.append(float(model.train_on_batch(x, y)))`, and their mean
    """
    model.compile(optimizer=optimizer, loss=loss_fn)
    history = []
    for _ in range(epochs):
        model.reset_metrics()
        for x, y in dataset:
            loss = model.train_on_batch(x, y)
        history.append(float(loss))
    return {"loss": history}


def loss_after_the_update(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The loss is computed once more behind the update, and that is reported.

    Right: `return loss`
    """
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss_fn(y, model(x, training=False))


def evaluated_in_training_mode(
    model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int
) -> dict[str, list[float]]:
    """The validation batches are normalized by their own statistics, as in training.

    Right: `val_mean.update_state(loss_fn(y, model(x, training=False)))`
    """
    mean, val_mean = keras.metrics.Mean(), keras.metrics.Mean()
    validation = tf.data.Dataset.from_tensor_slices(parts.held_out()).batch(parts.BATCH)

    @tf.function
    def train_step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        mean.update_state(loss)

    @tf.function
    def test_step(x: Any, y: Any) -> None:
        val_mean.update_state(loss_fn(y, model(x, training=True)))

    history: dict[str, list[float]] = {"loss": [], "val_loss": []}
    for _ in range(epochs):
        mean.reset_state()
        val_mean.reset_state()
        for x, y in dataset:
            train_step(x, y)
        for x, y in validation:
            test_step(x, y)
        history["loss"].append(float(mean.result()))
        history["val_loss"].append(float(val_mean.result()))
    return history


_TWICE = given(parts.dense, parts.regression, epochs=2)
_WITH_METRIC = given(parts.dense, parts.regression, epochs=2, metrics=("mae",))
_HELD_OUT = {"validation_data": parts.held_out}

LOOPS = (
    Loop("metric_never_reset", "metric_not_reset", metric_never_reset, _WITH_METRIC),
    Loop("metric_given_nothing", "metric_not_updated", None, given(metric_given_nothing, parts.ten_rows, epochs=2)),
    Loop("loss_never_reset", "metric_not_reset", loss_never_reset, _TWICE),
    Loop(
        "mean_of_unequal_batches",
        "epoch_loss_unweighted",
        mean_of_unequal_batches,
        given(parts.dense, parts.ten_rows, epochs=2),
    ),
    Loop(
        "mean_of_unequal_batches_in_a_train_step",
        "epoch_loss_unweighted",
        None,
        given(mean_of_unequal_batches_in_a_train_step, parts.ten_rows, epochs=2, metrics=("mae",)),
    ),
    Loop(
        "mean_of_the_batches_accuracies",
        "epoch_loss_unweighted",
        mean_of_the_batches_accuracies,
        given(
            parts.classifier,
            ten_of_three_classes,
            loss="sparse_categorical_crossentropy",
            metrics=("accuracy",),
            epochs=2,
        ),
    ),
    Loop("loss_of_the_last_batch", "epoch_loss_last_batch", loss_of_the_last_batch, _TWICE),
    Loop("batch_taken_for_the_epoch", "epoch_loss_last_batch", batch_taken_for_the_epoch, _TWICE),
    Loop("loss_after_the_update", "loss_reported_after_update", loss_after_the_update, _TWICE),
    Loop(
        "normalized_by_the_held_out_rows",
        "evaluation_in_training_mode",
        evaluated_in_training_mode,
        given(parts.normalized, parts.regression, epochs=2, **_HELD_OUT),
    ),
    Loop(
        "dropped_from_the_held_out_rows",
        "evaluation_in_training_mode",
        evaluated_in_training_mode,
        given(parts.dropped, parts.regression, epochs=1, **_HELD_OUT),
    ),
)
