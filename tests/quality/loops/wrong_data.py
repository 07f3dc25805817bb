"""Loops that feed other data, or start from something else than `fit` does.

Each docstring says what is wrong and gives the line that would be right; everything else is as `fit` does it.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import parts
import tensorflow as tf
from parts import Loop, given


def partial_batch_dropped(
    model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, batch_size: int, epochs: int
) -> list[float]:
    """The rows that do not fill a batch are never reached.

    Right: `steps = math.ceil(len(x) / batch_size)`
    """

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    losses = []
    steps = len(x) // batch_size
    for _ in range(epochs):
        for i in range(steps):
            rows = slice(i * batch_size, (i + 1) * batch_size)
            losses.append(float(train_step(tf.constant(x[rows]), tf.constant(y[rows]))))
    return losses


def remainder_dropped(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> dict[str, list[float]]:
    """The dataset is batched again, for a step of one shape, and without the remainder.

    Right: `for x, y in dataset:`
    """
    mean = keras.metrics.Mean()

    @tf.function
    def train_step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        mean.update_state(loss, sample_weight=tf.shape(x)[0])

    history = []
    for _ in range(epochs):
        mean.reset_state()
        for x, y in dataset.unbatch().batch(parts.BATCH, drop_remainder=True):
            train_step(x, y)
        history.append(float(mean.result()))
    return {"loss": history}


def epochs_run_together(
    model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, batch_size: int, epochs: int
) -> list[float]:
    """The rows are repeated and then batched, so that a batch holds the end of one epoch and the start of the next.

    Right: `dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size).repeat(epochs)`
    """
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).repeat(epochs).batch(batch_size)

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return [float(train_step(x, y)) for x, y in dataset]


def rows_shuffled(
    model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, batch_size: int, epochs: int
) -> list[float]:
    """The rows are shuffled in every epoch, and `fit` was told not to.

    Right: `order = np.arange(len(x))`
    """
    rng = np.random.default_rng(5)

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    history = []
    for _ in range(epochs):
        order = rng.permutation(len(x))
        losses = []
        for start in range(0, len(x), batch_size):
            rows = order[start : start + batch_size]
            losses.append(float(train_step(tf.constant(x[rows]), tf.constant(y[rows]))))
        history.append(float(np.mean(losses)))
    return history


def batches_shuffled(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """The batches come in another order in every epoch.

    Right: `for x, y in dataset:`
    """

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    losses = []
    shuffled = dataset.shuffle(16, seed=2)
    for _ in range(epochs):
        for x, y in shuffled:
            losses.append(float(train_step(x, y)))
    return losses


def inputs_shuffled_without_targets(
    model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, batch_size: int, epochs: int
) -> list[float]:
    """The inputs are put into another order, and the targets are not.

    Right: leave `x = x[order]` out, or `x, y = x[order], y[order]` in both trainings
    """
    order = np.random.default_rng(7).permutation(len(x))
    x = x[order]

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    history = []
    for _ in range(epochs):
        losses = []
        for start in range(0, len(x), batch_size):
            rows = slice(start, start + batch_size)
            losses.append(float(train_step(tf.constant(x[rows]), tf.constant(y[rows]))))
        history.append(float(np.mean(losses)))
    return history


def initialized_again(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """The loop gives the kernels new initial values.

    Right: leave `layer.kernel.assign(...)` out
    """
    initializer = keras.initializers.HeNormal(seed=1)
    for layer in model.layers:
        layer.kernel.assign(initializer(layer.kernel.shape))

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return [float(np.mean([train_step(x, y) for x, y in dataset])) for _ in range(epochs)]


def reseeded_every_epoch(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """Dropout is seeded anew in every epoch, "to be reproducible", and drops the same units again.

    Right: leave `generator.state.assign(...)` out
    """

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    generators = [layer.seed_generator for layer in model.layers if hasattr(layer, "seed_generator")]
    history = []
    for _ in range(epochs):
        for generator in generators:
            generator.state.assign([42, 0])
        history.append(float(np.mean([train_step(x, y) for x, y in dataset])))
    return history


def dropout_of_its_own(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """Dropout is applied by hand, from another seed than the layer's.

    Right: `hidden = dropout(first(x), training=True)`
    """
    first, dropout, head = model.layers
    with tf.GradientTape() as tape:
        hidden = tf.nn.dropout(first(x), rate=dropout.rate, seed=1)
        loss = loss_fn(y, head(hidden))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


LOOPS = (
    Loop(
        "partial_batch_dropped",
        "partial_batch_dropped",
        partial_batch_dropped,
        given(parts.dense, parts.ten_rows, epochs=2),
    ),
    Loop("remainder_dropped", "partial_batch_dropped", remainder_dropped, given(parts.dense, parts.ten_rows, epochs=2)),
    Loop(
        "epochs_run_together",
        "batches_cross_epochs",
        epochs_run_together,
        given(parts.dense, parts.ten_rows, epochs=2),
    ),
    Loop("rows_shuffled", "data_order_differs", rows_shuffled, given(parts.dense, parts.regression, epochs=2)),
    Loop("batches_shuffled", "data_order_differs", batches_shuffled, given(parts.dense, parts.twelve_rows, epochs=2)),
    Loop(
        "inputs_shuffled_without_targets",
        "inputs_and_targets_misaligned",
        inputs_shuffled_without_targets,
        given(parts.dense, parts.regression, epochs=2),
    ),
    Loop(
        "initialized_again",
        "initial_weights_differ",
        initialized_again,
        given(parts.dense, parts.regression, epochs=2),
    ),
    Loop(
        "reseeded_every_epoch",
        "random_stream_differs",
        reseeded_every_epoch,
        given(parts.dropped, parts.regression, epochs=2),
    ),
    Loop("dropout_of_its_own", "random_stream_differs", dropout_of_its_own, given(parts.dropped, parts.regression)),
)
