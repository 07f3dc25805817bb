"""Loops that people asked about in public, written anew at a small size: those that take replicas.

What was asked, where, and what the answer is stands in `docs/questions.py`, by the names of the functions here.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import parts
import tensorflow as tf
from parts import BATCH, Loop, given


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


def whole_dataset_on_every_replica(
    model: Any, optimizer: Any, dataset: Any, epochs: int, strategy: Any
) -> list[float]:
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
            return {"loss": loss}

    made = parts.dense()
    return CustomModel(made.inputs, made.outputs)


def clipnorm() -> Any:
    return keras.optimizers.Adam(0.01, clipnorm=0.1)


def updated_under_a_condition() -> Any:
    """A model that updates every second batch, for which `apply_gradients` stands in a `tf.cond`."""

    class CustomTrainStep(keras.Model):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.n_acum_step = tf.Variable(
                0, dtype=tf.int32, trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
            )

        def train_step(self, data: Any) -> dict[str, Any]:
            self.n_acum_step.assign_add(1)
            x, y = data
            with tf.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
            gradients = tape.gradient(loss, self.trainable_variables)
            tf.cond(self.n_acum_step > 0, lambda: self.apply_accu_gradients(gradients), lambda: None)
            return self.compute_metrics(x, y, y_pred)

        def apply_accu_gradients(self, gradients: Any) -> None:
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))

    made = parts.dense()
    return CustomTrainStep(made.inputs, made.outputs)


LOOPS: tuple[Loop, ...] = (
    Loop("clipped_by_the_optimizer", "clip_order", None,
         given(parts.dense, parts.regression, optimizer=clipnorm), replicas=(1, 2)),
    Loop("divided_by_a_constant", "replica_loss_scaled_twice", None,
         given(parts.dense, parts.regression, loss=DividedByAConstant), replicas=(1, 2)),
    Loop("mean_of_a_replica", "replica_loss_not_scaled", None,
         given(parts.dense, parts.regression, loss=mean_of_a_replica), replicas=(1, 2)),
    Loop("reduced_by_the_mean", "replica_reported_loss", reduced_by_the_mean,
         given(parts.dense, parts.regression), replicas=(1, 2)),
    Loop("whole_dataset_on_every_replica", "replica_data_not_split", whole_dataset_on_every_replica,
         given(parts.dense, parts.regression), replicas=(1, 2)),
    Loop("penalty_of_every_replica", "replica_regularization_not_scaled", penalty_of_every_replica,
         given(parts.regularized, parts.regression), replicas=(1, 2)),
    Loop("share_reported_by_a_train_step", "replica_reported_loss", None,
         given(share_reported_by_a_train_step, parts.regression), replicas=(1, 2)),
    Loop("statistics_of_a_replica", "replica_local_statistics", None,
         given(parts.normalized, parts.regression), replicas=(1, 2)),
    Loop("mse_of_keras_3", None, None, given(parts.dense, parts.regression), replicas=(1, 2)),
    Loop("updated_under_a_condition", "raises_in_one_arm", None,
         given(updated_under_a_condition, parts.regression), replicas=(1, 2)),
)
