"""Loops that are wrong on several replicas only.

Each docstring says what is wrong and gives the line that would be right; everything else is as `fit` does it. The
losses are those that `fit` itself gets right on replicas, unless what a loop is held against is one device.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import parts
import tensorflow as tf
from parts import Loop, given


def mean_of_the_replicas_rows(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """The loss is the mean over a replica's rows, and the optimizer adds the replicas' gradients.

    Right: `loss = tf.reduce_mean(losses) / tf.distribute.get_strategy().num_replicas_in_sync`
    """
    with tf.GradientTape() as tape:
        losses = keras.losses.mean_squared_error(y, model(x, training=True))
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def mean_of_the_replicas_rows_in_a_loop(
    model: Any, optimizer: Any, dataset: Any, epochs: int, strategy: Any
) -> list[float]:
    """The loss is the mean over a replica's rows, and the optimizer adds the replicas' gradients.

    Right: `loss = tf.reduce_mean(losses) / strategy.num_replicas_in_sync`, and `ReduceOp.SUM`
    """

    def replica_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            losses = keras.losses.mean_squared_error(y, model(x, training=True))
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def train_step(batch: Any) -> Any:
        per_replica = strategy.run(replica_step, args=batch)
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, per_replica, axis=None)

    distributed = strategy.experimental_distribute_dataset(dataset)
    return [float(np.mean([train_step(batch) for batch in distributed])) for _ in range(epochs)]


def divided_by_the_replicas_again(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """A Keras loss has divided by the replicas already.

    Right: `loss = loss_fn(y, model(x, training=True))`
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True)) / replicas
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def penalties_on_every_replica(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """Every replica adds the whole penalties, and they are summed over the replicas.

    Right: `loss += tf.nn.scale_regularization_loss(tf.add_n(model.losses))`
    """
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
        loss += tf.add_n(model.losses)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def updated_by_hand_on_replicas(model: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The update is written by hand, and every replica's copy of a variable gets that replica's gradient.

    Right: `gradients = tf.distribute.get_replica_context().all_reduce("sum", gradients)`, before the update
    """
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
        variable.assign_sub(parts.RATE * gradient)
    return loss


def aggregation_turned_off(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """What `skip_gradients_aggregation=True` did in Keras 2, and then nobody reduces.

    Right: leave `optimizer._all_reduce_sum_gradients = list` out
    """
    optimizer._all_reduce_sum_gradients = list
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def reduced_by_hand_and_again(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The gradients are summed over the replicas by hand, and the optimizer sums the sums.

    Right: leave the `all_reduce` out
    """
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def mean_of_unequal_replicas(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """The mean of the replicas' means, where one has two rows and the other one; `fit` trains on the same.

    Right: `loss = tf.reduce_sum(losses) / context.all_reduce(tf.distribute.ReduceOp.SUM, rows)`, with
    `rows = tf.cast(tf.shape(x)[0], tf.float32)`
    """
    context = tf.distribute.get_replica_context()
    with tf.GradientTape() as tape:
        losses = keras.losses.mean_squared_error(y, model(x, training=True))
        loss = tf.reduce_mean(losses) / context.num_replicas_in_sync
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def divided_by_a_full_batch(
    model: Any, optimizer: Any, x: Any, y: Any, batch_size: int, epochs: int, strategy: Any
) -> list[float]:
    """Every batch's loss is divided by the rows of a full one, the smaller last one's too.

    Right: `loss = tf.nn.compute_average_loss(losses)`
    """
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)

    def replica_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            losses = keras.losses.mean_squared_error(y, model(x, training=True))
            loss = tf.nn.compute_average_loss(losses, global_batch_size=batch_size)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def train_step(batch: Any) -> Any:
        per_replica = strategy.run(replica_step, args=batch)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

    distributed = strategy.experimental_distribute_dataset(dataset)
    return [float(train_step(batch)) for _ in range(epochs) for batch in distributed]


def divided_by_the_replicas_own_weights(model: Any, optimizer: Any, x: Any, y: Any, sample_weight: Any) -> Any:
    """The weighted losses are divided by the replica's weights; those of a whole batch have the mean one.

    Right: `total = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(sample_weight))`, and not `/ replicas`
    """
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    total = tf.reduce_sum(sample_weight)
    with tf.GradientTape() as tape:
        losses = keras.losses.mean_squared_error(y, model(x, training=True))
        loss = tf.reduce_sum(losses * sample_weight) / total / replicas
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def statistics_of_the_replicas_rows(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The loop is right; the model's batch normalization looks at the replica's rows alone, under `fit` too.

    Right: `layers.BatchNormalization(momentum=0.5, synchronized=True)`
    """
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def whole_batch_on_every_replica(model: Any, optimizer: Any, dataset: Any, epochs: int, strategy: Any) -> list[float]:
    """The dataset is not distributed, so that every replica trains on the whole batch.

    Right: `for batch in strategy.experimental_distribute_dataset(dataset):`
    """

    def replica_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            losses = keras.losses.mean_squared_error(y, model(x, training=True))
            loss = tf.nn.compute_average_loss(losses, global_batch_size=parts.BATCH)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def train_step(batch: Any) -> Any:
        per_replica = strategy.run(replica_step, args=batch)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

    history = []
    for _ in range(epochs):
        losses = []
        for batch in dataset:
            losses.append(float(train_step(batch)))  # noqa: PERF401 - as they write it
        history.append(float(np.mean(losses)))
    return history


def whole_batch_and_the_same_mean(
    model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int, strategy: Any
) -> list[float]:
    """The dataset is not distributed; the numbers come out the same, and each replica does the work of all.

    Right: `for batch in strategy.experimental_distribute_dataset(dataset):`
    """

    def replica_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def train_step(batch: Any) -> Any:
        per_replica = strategy.run(replica_step, args=batch)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

    history = []
    for _ in range(epochs):
        losses = []
        for batch in dataset:
            losses.append(float(train_step(batch)))  # noqa: PERF401 - as they write it
        history.append(float(np.mean(losses)))
    return history


def batch_size_for_every_replica(
    model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, batch_size: int, epochs: int, strategy: Any
) -> list[float]:
    """The given batch size is taken for a replica's, and multiplied with the replicas.

    Right: `global_batch_size = batch_size`
    """
    global_batch_size = batch_size * strategy.num_replicas_in_sync
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(global_batch_size)

    def replica_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def train_step(batch: Any) -> Any:
        per_replica = strategy.run(replica_step, args=batch)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

    distributed = strategy.experimental_distribute_dataset(dataset)
    return [float(train_step(batch)) for _ in range(epochs) for batch in distributed]


def batch_size_divided_before_distributing(
    model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, batch_size: int, epochs: int, strategy: Any
) -> list[float]:
    """The batch is divided by the replicas by hand, and distributing the dataset divides it again.

    Right: `dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)`
    """
    per_replica_batch_size = batch_size // strategy.num_replicas_in_sync
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(per_replica_batch_size)

    def replica_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def train_step(batch: Any) -> Any:
        per_replica = strategy.run(replica_step, args=batch)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

    distributed = strategy.experimental_distribute_dataset(dataset)
    return [float(train_step(batch)) for _ in range(epochs) for batch in distributed]


def mean_of_the_shares(
    model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int, strategy: Any
) -> list[float]:
    """What is reported is the mean of the replicas' shares of the loss, which are to be added.

    Right: `strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)`
    """

    def replica_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def train_step(batch: Any) -> Any:
        per_replica = strategy.run(replica_step, args=batch)
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, per_replica, axis=None)

    distributed = strategy.experimental_distribute_dataset(dataset)
    return [float(np.mean([train_step(batch) for batch in distributed])) for _ in range(epochs)]


def loss_of_the_first_replica(
    model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int, strategy: Any
) -> list[float]:
    """What is reported is the loss of the first replica's rows.

    Right: `strategy.reduce(tf.distribute.ReduceOp.MEAN, per_replica, axis=None)`
    """

    def replica_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss * strategy.num_replicas_in_sync

    @tf.function
    def train_step(batch: Any) -> Any:
        per_replica = strategy.run(replica_step, args=batch)
        return strategy.experimental_local_results(per_replica)[0]

    distributed = strategy.experimental_distribute_dataset(dataset)
    return [float(np.mean([train_step(batch) for batch in distributed])) for _ in range(epochs)]


def clipped_on_every_replica(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """Each replica clips its gradients, and then they are summed; `fit` with `clipnorm` does the same.

    Right: `gradients = tf.distribute.get_replica_context().all_reduce("sum", gradients)` before the clipping, and
    divided by the replicas behind it, for the optimizer sums them again
    """
    optimizer.clipnorm = None
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    gradients = [tf.clip_by_norm(gradient, parts.CLIPNORM) for gradient in gradients]
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


_PLAIN = given(parts.dense, parts.regression)
_TWICE = given(parts.dense, parts.regression, epochs=2)
_TWELVE = given(parts.dense, parts.twelve_rows, epochs=2)

LOOPS = (
    Loop("mean_of_the_replicas_rows", "replica_loss_not_scaled", mean_of_the_replicas_rows, _PLAIN, (2,)),
    Loop(
        "mean_of_the_replicas_rows_in_a_loop",
        "replica_loss_not_scaled",
        mean_of_the_replicas_rows_in_a_loop,
        _TWICE,
        (1, 2),
    ),
    Loop("divided_by_the_replicas_again", "replica_loss_scaled_twice", divided_by_the_replicas_again, _PLAIN, (2,)),
    Loop(
        "penalties_on_every_replica",
        "replica_regularization_not_scaled",
        penalties_on_every_replica,
        given(parts.regularized, parts.regression),
        (2,),
    ),
    Loop("updated_by_hand_on_replicas", "replica_gradients_not_reduced", updated_by_hand_on_replicas, _TWICE, (2,)),
    Loop("aggregation_turned_off", "replica_gradients_not_reduced", aggregation_turned_off, _TWICE, (2,)),
    Loop("reduced_by_hand_and_again", "replica_gradients_reduced_twice", reduced_by_hand_and_again, _PLAIN, (2,)),
    Loop(
        "mean_of_unequal_replicas",
        "replica_mean_of_means",
        mean_of_unequal_replicas,
        given(parts.dense, parts.eleven_rows),
        (1, 2),
    ),
    # Six rows and four; then four and two, where the factor is by chance that of the two replicas.
    Loop(
        "divided_by_a_full_batch",
        "replica_fixed_batch_divisor",
        divided_by_a_full_batch,
        given(parts.dense, parts.ten_rows, epochs=2, batch_size=6),
        (2,),
    ),
    Loop(
        "divided_by_twice_the_rows",
        "replica_fixed_batch_divisor",
        divided_by_a_full_batch,
        given(parts.dense, parts.ten_rows, epochs=2),
        (2,),
    ),
    Loop(
        "divided_by_the_replicas_own_weights",
        "replica_local_normalization",
        divided_by_the_replicas_own_weights,
        given(parts.dense, parts.weighted_to_mean_one),
        (1, 2),
    ),
    Loop(
        "statistics_of_the_replicas_rows",
        "replica_local_statistics",
        statistics_of_the_replicas_rows,
        given(parts.normalized, parts.regression),
        (1, 2),
    ),
    Loop(
        "whole_batch_on_every_replica",
        "replica_data_not_split",
        whole_batch_on_every_replica,
        _TWICE,
        (2,),
        # Every replica's mean is the whole batch's, and nobody divides it.
        also=("replica_loss_not_scaled",),
    ),
    Loop("whole_batch_and_the_same_mean", "replica_data_not_split", whole_batch_and_the_same_mean, _TWICE, (2,)),
    Loop("batch_size_for_every_replica", "replica_batch_size", batch_size_for_every_replica, _TWELVE, (2,)),
    Loop(
        "batch_size_divided_before_distributing",
        "replica_batch_size",
        batch_size_divided_before_distributing,
        _TWICE,
        (2,),
    ),
    Loop("mean_of_the_shares", "replica_reported_loss", mean_of_the_shares, _TWICE, (1, 2)),
    Loop("loss_of_the_first_replica", "replica_reported_loss", loss_of_the_first_replica, _TWICE, (2,)),
    Loop(
        "clipped_on_every_replica",
        "clip_order",
        clipped_on_every_replica,
        given(parts.dense, parts.regression, optimizer=parts.clipping),
        (1, 2),
    ),
)
