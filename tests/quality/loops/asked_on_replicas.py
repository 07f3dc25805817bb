"""Loops that people asked about in public, written anew at a small size: those that take replicas.

What was asked, where, and what the answer is stands in `docs/questions.py`, by the names of the functions here.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import parts
import tensorflow as tf
from parts import BATCH, Asked, given


class DividedByAConstant(keras.losses.Loss):
    """The mean absolute error of a batch, divided by a batch size that was written down."""

    def __init__(self, batch_size: int = BATCH, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_size = batch_size

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return tf.reduce_sum(keras.losses.mean_absolute_error(y_true, y_pred)) * (1.0 / self.batch_size)


def mean_of_a_replica(y_true: Any, y_pred: Any) -> Any:
    return tf.math.reduce_mean(tf.square(y_true - y_pred))


def reduced_by_the_mean(model: Any, optimizer: Any, dataset: Any, epochs: int, strategy: Any) -> list[float]:
    def step_fn(features: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            losses = keras.losses.mean_squared_error(labels, model(features, training=True))
            loss = tf.reduce_sum(losses) * (1.0 / BATCH)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def train_step(inputs: Any) -> Any:
        per_replica_losses = strategy.run(step_fn, args=inputs)
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, per_replica_losses, axis=None)

    history = []
    for _ in range(epochs):
        losses = [float(train_step(batch)) for batch in strategy.experimental_distribute_dataset(dataset)]
        history.append(float(np.mean(losses)))
    return history


def whole_dataset_on_every_replica(model: Any, optimizer: Any, dataset: Any, epochs: int, strategy: Any) -> list[float]:
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            per_example_loss = keras.losses.mean_squared_error(y, model(x, training=True))
            loss = tf.nn.compute_average_loss(per_example_loss)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def distributed_train_step(x: Any, y: Any) -> Any:
        per_replica_losses = strategy.run(train_step, args=(x, y))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica_losses, axis=None)

    history = []
    for _ in range(epochs):
        total_loss, num_batches = 0.0, 0
        for x, y in dataset:
            total_loss += float(distributed_train_step(x, y))
            num_batches += 1
        history.append(total_loss / num_batches)
    return history


def penalty_of_every_replica(model: Any, optimizer: Any, dataset: Any, epochs: int, strategy: Any) -> list[float]:
    loss_object = keras.losses.MeanSquaredError(reduction="none")

    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            per_example_loss = loss_object(y, model(x, training=True))
            loss = tf.nn.compute_average_loss(per_example_loss, global_batch_size=BATCH)
            loss += tf.add_n(model.losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def distributed_train_step(inputs: Any) -> Any:
        per_replica_losses = strategy.run(train_step, args=inputs)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica_losses, axis=None)

    history = []
    for _ in range(epochs):
        losses = [float(distributed_train_step(batch)) for batch in strategy.experimental_distribute_dataset(dataset)]
        history.append(float(np.mean(losses)))
    return history


def share_reported_by_a_train_step() -> Any:
    class CustomModel(keras.Model):
        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            with tf.GradientTape() as tape:
                y_pred = self(x, training=True)
                per_example_loss = keras.losses.mean_squared_error(y, y_pred)
                loss = tf.nn.compute_average_loss(per_example_loss, global_batch_size=BATCH)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, y_pred)
            return {metric.name: metric.result() for metric in self.metrics}

    made = parts.dense()
    return CustomModel(made.inputs, made.outputs)


def statistics_of_a_replica() -> Any:
    return keras.Sequential(
        [
            keras.Input((parts.WIDTH,)),
            keras.layers.Dense(4, use_bias=False),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.Dense(1),
        ]
    )


def clipnorm() -> Any:
    return keras.optimizers.Adam(0.01, clipnorm=0.1)


ASKED: dict[str, Asked] = {
    name: Asked(loop, arguments, replicas=(1, 2))
    for name, loop, arguments in (
        ("clipped_by_the_optimizer", None, given(parts.dense, parts.regression, optimizer=clipnorm)),
        ("accumulated_by_the_optimizer", None, given(parts.dense, parts.regression, optimizer=parts.accumulating)),
        ("mean_of_a_replica", None, given(parts.dense, parts.regression, loss=mean_of_a_replica)),
        ("divided_by_a_constant", None, given(parts.dense, parts.regression, loss=DividedByAConstant)),
        ("mse_of_keras_3", None, given(parts.dense, parts.regression)),
        ("statistics_of_a_replica", None, given(statistics_of_a_replica, parts.regression)),
        ("share_reported_by_a_train_step", None, given(share_reported_by_a_train_step, parts.regression)),
        ("reduced_by_the_mean", reduced_by_the_mean, given(parts.dense, parts.regression)),
        ("whole_dataset_on_every_replica", whole_dataset_on_every_replica, given(parts.dense, parts.regression)),
        ("penalty_of_every_replica", penalty_of_every_replica, given(parts.regularized, parts.regression)),
    )
}
"""By the names of the questions."""
