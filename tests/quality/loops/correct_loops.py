"""Loops that train as `fit` does, in many styles: none of them may be found wrong."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import parts
import tensorflow as tf
from parts import Loop, given


@tf.function
def step_in_a_function(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The step of the TensorFlow guide, under its own `tf.function`."""
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        loss = loss_fn(y, predictions)
        loss += sum(model.losses)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def plain_step(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The step of the Keras guide."""
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
        if model.losses:
            loss = loss + tf.math.add_n(model.losses)
    gradients = tape.gradient(loss, model.trainable_weights)
    optimizer.apply(gradients, model.trainable_weights)
    return loss


def step_with_python_numbers(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> float:
    """A step that can only run eagerly, for it returns a Python number."""
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True)) + sum(model.losses)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return float(loss)


def persistent_tape(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """A persistent tape, asked for the gradients of each layer."""
    with tf.GradientTape(persistent=True) as tape:
        loss = loss_fn(y, model(x, training=True))
    variables = [variable for layer in model.layers for variable in layer.trainable_variables]
    gradients = [gradient for layer in model.layers for gradient in tape.gradient(loss, layer.trainable_variables)]
    del tape
    optimizer.apply_gradients(zip(gradients, variables, strict=True))
    return loss


def loss_closed_over(model: Any, x: Any, y: Any, optimizer: Any) -> Any:
    """Parameters in an order of its own, and a loss that it knows by itself."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(y - model(x, training=True)))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def logits_found_by_keras(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """Looks wrong and is not: Keras finds the model's own sigmoid, warns, and takes what went into it."""
    bce = keras.losses.BinaryCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        loss = bce(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def clipped_by_hand(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The loop clips each gradient by its norm, and the optimizer leaves it to the loop."""
    optimizer.clipnorm = None
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = [tf.clip_by_norm(g, parts.CLIPNORM) for g in tape.gradient(loss, model.trainable_variables)]
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def updated_by_hand(model: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """Gradient descent in one line, without the optimizer."""
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
        variable.assign_sub(parts.RATE * gradient)
    return loss


def weights_passed_on(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, sample_weight: Any) -> Any:
    """The rows' weights go to the loss."""
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True), sample_weight=sample_weight)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def mask_applied_by_hand(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """The mean over the words that are no padding."""
    with tf.GradientTape() as tape:
        squared = tf.square(y - model(x, training=True))[..., 0]
        mask = tf.cast(x != 0, tf.float32)
        loss = tf.reduce_sum(squared * mask) / tf.reduce_sum(mask)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def weighted_outputs(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """A dictionary of losses over two outputs, with their weights."""
    losses = {"level": keras.losses.MeanSquaredError(), "trend": keras.losses.MeanAbsoluteError()}
    weights = {"level": 1.0, "trend": 0.25}
    with tf.GradientTape() as tape:
        outputs = dict(zip(("level", "trend"), model(x, training=True), strict=True))
        targets = dict(zip(("level", "trend"), y, strict=True))
        loss = tf.add_n([weights[name] * losses[name](targets[name], outputs[name]) for name in losses])
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def classes_weighted(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """Class weights looked up by the labels."""
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True), tf.gather([1.0, 3.0, 0.25], y))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def loss_scaled(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """Mixed precision: the loss is scaled for the tape, and the optimizer scales the gradients back."""
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
        scaled = optimizer.scale_loss(loss)
    gradients = tape.gradient(scaled, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def global_mean(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """The replica's share of the mean over the global batch, counted by all replicas together."""
    context = tf.distribute.get_replica_context()
    rows = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(tf.shape(x)[0], tf.float32))
    with tf.GradientTape() as tape:
        losses = keras.losses.mean_squared_error(y, model(x, training=True))
        loss = tf.reduce_sum(losses) / rows
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def penalties_shared_out(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """Every replica adds its share of the penalties."""
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
        loss += tf.nn.scale_regularization_loss(tf.add_n(model.losses))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def reduced_and_updated_by_hand(model: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """Gradient descent by hand on replicas, with the gradients of all of them."""
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
        variable.assign_sub(parts.RATE * gradient)
    return loss


def guide_loop(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """The loop of the Keras guide; the loss of an epoch is weighted with the rows."""

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
            loss += sum(model.losses)
        gradients = tape.gradient(loss, model.trainable_weights)
        optimizer.apply(gradients, model.trainable_weights)
        return loss

    history = []
    for _ in range(epochs):
        losses, rows = [], []
        for x, y in dataset:
            losses.append(float(train_step(x, y)))
            rows.append(len(x))
        history.append(float(np.average(losses, weights=rows)))
    return history


def eager_loop(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """No `tf.function` at all; a loss for every step."""
    losses = []
    for _ in range(epochs):
        for x, y in dataset:
            with tf.GradientTape() as tape:
                loss = loss_fn(y, model(x, training=True)) + sum(model.losses)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            losses.append(float(loss))
    return losses


def loop_in_the_graph(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """The dataset is read inside of the `tf.function`, an epoch a call."""

    @tf.function
    def train_epoch() -> Any:
        total, rows = tf.constant(0.0), tf.constant(0.0)
        for x, y in dataset:
            with tf.GradientTape() as tape:
                loss = loss_fn(y, model(x, training=True))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            count = tf.cast(tf.shape(x)[0], tf.float32)
            total += loss * count
            rows += count
        return total / rows

    return [float(train_epoch()) for _ in range(epochs)]


def metrics_and_validation(
    model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int
) -> dict[str, list[float]]:
    """Metrics that are reset, and a validation in inference mode."""
    mean, mae = keras.metrics.Mean(), keras.metrics.MeanAbsoluteError()
    val_mean, val_mae = keras.metrics.Mean(), keras.metrics.MeanAbsoluteError()
    validation = tf.data.Dataset.from_tensor_slices(parts.held_out()).batch(parts.BATCH)

    @tf.function
    def train_step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            predictions = model(x, training=True)
            loss = loss_fn(y, predictions) + sum(model.losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        mean.update_state(loss, sample_weight=tf.shape(x)[0])
        mae.update_state(y, predictions)

    @tf.function
    def test_step(x: Any, y: Any) -> None:
        predictions = model(x, training=False)
        val_mean.update_state(loss_fn(y, predictions) + sum(model.losses), sample_weight=tf.shape(x)[0])
        val_mae.update_state(y, predictions)

    history: dict[str, list[float]] = {"loss": [], "mae": [], "val_loss": [], "val_mae": []}
    for _ in range(epochs):
        for metric in (mean, mae, val_mean, val_mae):
            metric.reset_state()
        for x, y in dataset:
            train_step(x, y)
        for x, y in validation:
            test_step(x, y)
        for name, metric in zip(history, (mean, mae, val_mean, val_mae), strict=True):
            history[name].append(float(metric.result()))
    return history


def compiled_loss(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """The model is compiled, and its `compute_loss` gives loss and penalties."""
    model.compile(optimizer=optimizer, loss=loss_fn)

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            predictions = model(x, training=True)
            loss = model.compute_loss(x=x, y=y, y_pred=predictions)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return [float(np.mean([train_step(x, y) for x, y in dataset])) for _ in range(epochs)]


def trained_on_batches(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """`train_on_batch` in a loop; it returns each batch's loss."""
    model.compile(optimizer=optimizer, loss=loss_fn)
    return [float(model.train_on_batch(x, y)) for _ in range(epochs) for x, y in dataset]


def averages_taken_over(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """The moving averages become the weights at the end."""

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    history = [float(np.mean([train_step(x, y) for x, y in dataset])) for _ in range(epochs)]
    optimizer.finalize_variable_values(model.trainable_variables)
    return history


def sliced_by_hand(
    model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, batch_size: int, epochs: int
) -> list[float]:
    """Arrays in slices, the last one smaller."""

    @tf.function(reduce_retracing=True)
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    losses = []
    for _ in range(epochs):
        for start in range(0, len(x), batch_size):
            rows = slice(start, start + batch_size)
            losses.append(float(train_step(tf.constant(x[rows]), tf.constant(y[rows]))))
    return losses


def weights_sliced_by_hand(
    model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, sample_weight: Any, batch_size: int, epochs: int
) -> list[float]:
    """Arrays in slices, with weights."""
    history = []
    for _ in range(epochs):
        losses = []
        for start in range(0, len(x), batch_size):
            rows = slice(start, start + batch_size)
            with tf.GradientTape() as tape:
                loss = loss_fn(y[rows], model(x[rows], training=True), sample_weight[rows])
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            losses.append(float(loss))
        history.append(float(np.mean(losses)))
    return history


def guide_loop_on_replicas(model: Any, optimizer: Any, dataset: Any, epochs: int, strategy: Any) -> list[float]:
    """The distributed loop of the TensorFlow guide, where all batches are full."""
    with strategy.scope():
        optimizer.build(model.trainable_variables)
        loss_object = keras.losses.MeanSquaredError(reduction="none")

    def replica_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            losses = loss_object(y, model(x, training=True))
            loss = tf.nn.compute_average_loss(losses, global_batch_size=parts.BATCH)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def distributed_train_step(batch: Any) -> Any:
        per_replica_losses = strategy.run(replica_step, args=batch)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica_losses, axis=None)

    distributed = strategy.experimental_distribute_dataset(dataset)
    history = []
    for _ in range(epochs):
        total, batches = 0.0, 0
        for batch in distributed:
            total += float(distributed_train_step(batch))
            batches += 1
        history.append(total / batches)
    return history


def own_train_step() -> Any:
    """A model with a `train_step` of its own, as the Keras guide has it."""

    class Regression(keras.Model):
        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            with tf.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss, sample_weight=keras.ops.shape(x)[0])
                else:
                    metric.update_state(y, y_pred)
            return {metric.name: metric.result() for metric in self.metrics}

    made = parts.of_everything()
    return Regression(made.inputs, made.outputs)


def own_loss_and_metrics() -> Any:
    """A `train_step` with a loss and metrics of the model's own, which `compile` knows nothing of."""

    class Regression(keras.Model):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.loss_tracker = keras.metrics.Mean(name="loss")
            self.mae_metric = keras.metrics.MeanAbsoluteError(name="mae")
            self.loss_fn = keras.losses.MeanSquaredError()

        @property
        def metrics(self) -> list[Any]:
            return [self.loss_tracker, self.mae_metric]

        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            with tf.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = self.loss_fn(y, y_pred)
            gradients = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
            self.loss_tracker.update_state(loss)
            self.mae_metric.update_state(y, y_pred)
            return {"loss": self.loss_tracker.result(), "mae": self.mae_metric.result()}

    made = parts.dense()
    return Regression(made.inputs, made.outputs)


_EVERYTHING = given(parts.of_everything, parts.twelve_rows, optimizer=parts.adam, epochs=2)
_PLAIN = given(parts.dense, parts.regression)


def squared(y_true: Any, y_pred: Any) -> Any:
    """A loss of one's own, which `fit` gives targets of the predictions' rank."""
    return tf.reduce_mean(tf.square(y_true - y_pred))


def flat_labels_matched(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """Flat labels, which the loop gives the rank of the predictions as `fit` does."""
    with tf.GradientTape() as tape:
        loss = loss_fn(y[:, tf.newaxis], model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


LOOPS = (
    Loop("step_in_a_function", None, step_in_a_function, given(parts.regularized, parts.ten_rows)),
    Loop("plain_step", None, plain_step, _EVERYTHING),
    Loop("step_with_python_numbers", None, step_with_python_numbers, _EVERYTHING, executions=("eager",)),
    Loop("persistent_tape", None, persistent_tape, given(parts.dense, parts.regression, optimizer=parts.adam)),
    Loop("loss_closed_over", None, loss_closed_over, given(parts.dense, parts.ten_rows, optimizer=parts.momentum)),
    Loop(
        "logits_found_by_keras",
        None,
        logits_found_by_keras,
        given(parts.probability, parts.binary, loss="binary_crossentropy"),
    ),
    Loop(
        "clipped_by_keras",
        None,
        plain_step,
        given(parts.dense, parts.regression, optimizer=parts.clipping),
    ),
    Loop("clipped_by_hand", None, clipped_by_hand, given(parts.dense, parts.regression, optimizer=parts.clipping)),
    Loop("updated_by_hand", None, updated_by_hand, given(parts.dense, parts.ten_rows, epochs=2)),
    Loop("weights_passed_on", None, weights_passed_on, given(parts.dense, parts.weighted)),
    Loop("targets_without_an_axis", None, plain_step, given(parts.dense, parts.flat_targets)),
    Loop("mask_left_to_keras", None, plain_step, given(parts.masked, parts.sentences)),
    Loop("mask_applied_by_hand", None, mask_applied_by_hand, given(parts.masked, parts.sentences)),
    Loop(
        "weighted_outputs",
        None,
        weighted_outputs,
        given(
            parts.two_outputs,
            parts.two_targets,
            loss={"level": "mse", "trend": "mae"},
            loss_weights={"level": 1.0, "trend": 0.25},
        ),
    ),
    Loop(
        "classes_weighted",
        None,
        classes_weighted,
        given(
            parts.classifier,
            parts.three_classes,
            loss="sparse_categorical_crossentropy",
            class_weight={0: 1.0, 1: 3.0, 2: 0.25},
        ),
    ),
    Loop("scheduled", None, plain_step, given(parts.dense, parts.twelve_rows, optimizer=parts.decaying, epochs=2)),
    Loop(
        "accumulated_by_keras",
        None,
        plain_step,
        given(parts.dense, parts.twelve_rows, optimizer=parts.accumulating, epochs=2),
    ),
    Loop("constrained", None, plain_step, given(parts.constrained, parts.regression)),
    Loop("frozen", None, plain_step, given(parts.frozen, parts.regression)),
    Loop(
        "loss_scaled",
        None,
        loss_scaled,
        given(parts.in_half_precision, parts.regression, optimizer=parts.loss_scaling),
    ),
    Loop("global_mean", None, global_mean, _PLAIN, (1, 2)),
    Loop("penalties_shared_out", None, penalties_shared_out, given(parts.regularized, parts.regression), (1, 2)),
    Loop("reduced_and_updated_by_hand", None, reduced_and_updated_by_hand, _PLAIN, (2,)),
    Loop("guide_loop", None, guide_loop, given(parts.of_everything, parts.ten_rows, optimizer=parts.adam, epochs=2)),
    Loop("eager_loop", None, eager_loop, _EVERYTHING, executions=("eager",)),
    Loop("eager_loop_beside_a_graph", None, eager_loop, given(parts.regularized, parts.regression, epochs=2)),
    Loop("loop_in_the_graph", None, loop_in_the_graph, given(parts.dropped, parts.ten_rows, epochs=2)),
    Loop(
        "metrics_and_validation",
        None,
        metrics_and_validation,
        given(
            parts.of_everything,
            parts.ten_rows,
            optimizer=parts.momentum,
            epochs=2,
            metrics=("mae",),
            validation_data=parts.held_out,
        ),
    ),
    Loop("compiled_loss", None, compiled_loss, _EVERYTHING),
    Loop("trained_on_batches", None, trained_on_batches, given(parts.of_everything, parts.ten_rows, epochs=2)),
    Loop(
        "averages_taken_over",
        None,
        averages_taken_over,
        given(parts.dense, parts.regression, optimizer=parts.averaging, epochs=2),
    ),
    Loop("sliced_by_hand", None, sliced_by_hand, given(parts.dense, parts.ten_rows, epochs=2)),
    Loop(
        "weights_sliced_by_hand",
        None,
        weights_sliced_by_hand,
        given(parts.dense, parts.weighted, epochs=2),
        executions=("eager",),
    ),
    Loop("guide_loop_on_replicas", None, guide_loop_on_replicas, given(parts.dense, parts.twelve_rows, epochs=2), (2,)),
    Loop(
        "guide_loop_on_replicas_with_momentum",
        None,
        guide_loop_on_replicas,
        given(parts.dense, parts.regression, optimizer=parts.momentum, epochs=2),
        (1, 2),
    ),
    Loop(
        "own_train_step",
        None,
        None,
        given(own_train_step, parts.ten_rows, optimizer=parts.adam, epochs=2, metrics=("mae",)),
    ),
    Loop("own_loss_and_metrics", None, None, given(own_loss_and_metrics, parts.regression, epochs=2, metrics=("mae",))),
    Loop("flat_labels_matched", None, flat_labels_matched, given(parts.dense, parts.flat_targets, loss=squared)),
)
