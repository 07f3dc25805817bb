"""Six ways to write a training loop: three that do what `model.fit` does, and three that do not.

None of them knows of keras-conformance. They are written as people write them, and their parameters have the names that
are used everywhere: model, optimizer, loss_fn, x, y, dataset, epochs, strategy.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from my_training.models import RATE


def mean_over_the_global_batch(losses: Any) -> Any:
    """A replica's share of the mean of all replicas' losses.

    Args:
        losses: one loss a row of this replica, (rows,).

    Returns:
        Their sum, divided by the rows that all replicas have in this step. On one device, the mean.
    """
    rows = tf.cast(tf.shape(losses)[0], tf.float32)
    all_rows = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, rows)
    return tf.reduce_sum(losses) / all_rows


def share_of_the_penalties(model: keras.Model) -> Any:
    """A replica's share of the model's penalties: all of them on one device, half of them on two."""
    return tf.nn.scale_regularization_loss(tf.add_n(model.losses))


# Correct.


@tf.function
def compiled_step(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """A compiled step with a loss of its own, which knows that there may be other replicas."""
    with tf.GradientTape() as tape:
        losses = keras.losses.mean_squared_error(y, model(x, training=True))
        loss = mean_over_the_global_batch(losses) + share_of_the_penalties(model)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def step_by_hand(model: Any, x: Any, y: Any) -> Any:
    """Gradient descent in two lines, without an optimizer; the replicas' gradients are summed by hand."""
    with tf.GradientTape() as tape:
        losses = keras.losses.mean_squared_error(y, model(x, training=True))
        loss = mean_over_the_global_batch(losses) + share_of_the_penalties(model)
    gradients = tape.gradient(loss, model.trainable_variables)
    gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
        variable.assign_sub(RATE * gradient)
    return loss


def train(model: Any, optimizer: Any, dataset: Any, epochs: int, strategy: Any) -> list[float]:
    """A whole training: distributes its data, compiles its step, and returns the mean loss of every epoch."""

    def replica_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            losses = keras.losses.mean_squared_error(y, model(x, training=True))
            loss = mean_over_the_global_batch(losses) + share_of_the_penalties(model)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def train_step(batch: Any) -> Any:
        per_replica = strategy.run(replica_step, args=batch)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

    history = []
    for _ in range(epochs):
        losses = [float(train_step(batch)) for batch in strategy.experimental_distribute_dataset(dataset)]
        history.append(sum(losses) / len(losses))
    return history


# Wrong.


def forgets_the_penalties(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """`fit` adds the model's penalties to the loss. A loop has to do it itself, and this one does not."""
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def sums_the_losses(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """`mean_squared_error` gives one loss a row. They are added up where `fit` takes their mean."""
    with tf.GradientTape() as tape:
        losses = keras.losses.mean_squared_error(y, model(x, training=True))
        loss = tf.reduce_sum(losses) + sum(model.losses)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def forgets_the_other_replicas(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """Right on one device. On two, each takes the mean over its own rows, and the sum of both is twice the mean."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(y - model(x, training=True))) + share_of_the_penalties(model)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss
