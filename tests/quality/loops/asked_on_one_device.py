"""Loops that people asked about in public, written anew at a small size: those for which one device is enough.

What was asked, where, and what the answer is stands in `docs/questions.py`, by the names of the functions here. Each
loop has the structure and the idiom of the one that was asked about, and its mistake.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import parts
import tensorflow as tf
from parts import Asked, given


def pretrained_base_and_head() -> Any:
    """A base with batch normalization that was trained elsewhere, and a new head."""
    base = keras.Sequential(
        [
            keras.Input((parts.WIDTH,)),
            keras.layers.Dense(4, use_bias=False),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.ReLU(),
        ],
        name="base",
    )
    return keras.Sequential([base, keras.layers.Dense(3, activation="softmax")])


def transfer_learning(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> dict[str, list[float]]:
    train_loss = keras.metrics.Mean(name="train_loss")
    train_accuracy = keras.metrics.SparseCategoricalAccuracy(name="train_accuracy")

    @tf.function
    def train_step(images: Any, labels: Any) -> None:
        with tf.GradientTape() as tape:
            predictions = model(images)
            loss = loss_fn(labels, predictions)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        train_loss(loss)
        train_accuracy(labels, predictions)

    history: dict[str, list[float]] = {"loss": [], "accuracy": []}
    for _ in range(epochs):
        train_loss.reset_state()
        train_accuracy.reset_state()
        for images, labels in dataset:
            train_step(images, labels)
        history["loss"].append(float(train_loss.result()))
        history["accuracy"].append(float(train_accuracy.result()))
    return history


def flat_labels(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    with tf.GradientTape() as tape:
        y_pred = model(x, training=True)
        loss = tf.reduce_mean(tf.square(y - y_pred))
    grads = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(grads, model.trainable_variables, strict=True))
    return loss


def train_step_of_a_classifier() -> Any:
    loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    accuracy = keras.metrics.SparseCategoricalAccuracy()

    class CustomModel(keras.Model):
        def train_step(self, data: Any) -> dict[str, Any]:
            images, labels = data
            with tf.GradientTape() as tape:
                predictions = self(images, training=True)
                loss = loss_fn(labels, predictions)
            grads = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply_gradients(zip(grads, self.trainable_weights, strict=True))
            accuracy.update_state(labels, predictions)
            return {"sparse_categorical_accuracy": accuracy.result()}

        @property
        def metrics(self) -> list[Any]:
            return [accuracy]

    inputs = keras.Input((parts.WIDTH,))
    hidden = keras.layers.Dense(4, activation="relu", kernel_regularizer=keras.regularizers.L2(0.05))(inputs)
    return CustomModel(inputs, keras.layers.Dense(3, activation="softmax")(hidden))


def detector() -> Any:
    """Two outputs behind one regularized layer."""
    inputs = keras.Input((parts.WIDTH,))
    shared = keras.layers.Dense(4, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.05))(inputs)
    boxes = keras.layers.Dense(1, name="boxes")(shared)
    return keras.Model(inputs, [boxes, keras.layers.Dense(1, name="confidence", activation="sigmoid")(shared)])


def boxes_and_confidence() -> Any:
    x, y = parts.regression(8, outputs=2)
    return x, (y[:, :1], (y[:, 1:] > 0).astype("float32"))


def several_terms(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    with tf.GradientTape() as tape:
        boxes, confidence = model(x, training=True)
        box_loss = tf.reduce_mean(keras.losses.mean_squared_error(y[0], boxes))
        conf_loss = tf.reduce_mean(keras.losses.binary_crossentropy(y[1], confidence))
        total_loss = box_loss + conf_loss
    gradients = tape.gradient(total_loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return total_loss


def mask_by_hand(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    with tf.GradientTape() as tape:
        words = tf.square(y - model(x, training=True))[..., 0]
        mask = tf.cast(tf.not_equal(x, 0), words.dtype)
        loss = tf.reduce_mean(words * mask)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def mask_by_sentence(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    with tf.GradientTape() as tape:
        words = tf.square(y - model(x, training=True))[..., 0]
        mask = tf.cast(tf.not_equal(x, 0), words.dtype)
        loss = tf.reduce_sum(words * mask, -1) / tf.reduce_sum(mask, -1)
        loss = tf.reduce_mean(loss)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def weighted_average(model: Any, optimizer: Any, x: Any, y: Any, sample_weight: Any) -> Any:
    with tf.GradientTape() as tape:
        score_array = keras.losses.mean_absolute_error(y, model(x, training=True))
        loss = tf.reduce_sum(score_array * sample_weight) / tf.reduce_sum(sample_weight)
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    return loss


def loss_returned_by_a_train_step() -> Any:
    class Enhancer(keras.Model):
        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
            return {"loss": loss}

    made = parts.dense()
    return Enhancer(made.inputs, made.outputs)


def class_weight_in_a_train_step() -> Any:
    class Grader(keras.Model):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.loss_tracker = keras.metrics.Mean(name="loss")

        def train_step(self, data: Any) -> dict[str, Any]:
            x, y, *_ = data
            with tf.GradientTape() as tape:
                grade_out = self(x, training=True)
                losses = keras.losses.sparse_categorical_crossentropy(y, grade_out)
                grade_loss = tf.reduce_mean(losses)
            grads = tape.gradient(grade_loss, self.trainable_weights)
            self.optimizer.apply_gradients(zip(grads, self.trainable_weights, strict=True))
            self.loss_tracker.update_state(grade_loss)
            return {"loss": self.loss_tracker.result()}

        @property
        def metrics(self) -> list[Any]:
            return [self.loss_tracker]

    made = parts.classifier()
    return Grader(made.inputs, made.outputs)


def loss_weights_in_a_train_step() -> Any:
    class CustomModel(keras.Model):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.loss_tracker = keras.metrics.Mean(name="loss")

        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            with tf.GradientTape() as tape:
                y_pred = self(x, training=True)
                pairs = zip(y, y_pred, strict=True)
                losses = [tf.reduce_mean(keras.losses.mean_squared_error(*pair)) for pair in pairs]
                loss = losses[0] + losses[1]
            trainable_vars = self.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(loss, trainable_vars), trainable_vars, strict=True))
            self.loss_tracker.update_state(loss)
            return {"loss": self.loss_tracker.result()}

        @property
        def metrics(self) -> list[Any]:
            return [self.loss_tracker]

    made = parts.two_outputs()
    return CustomModel(made.inputs, made.outputs)


def mean_over_batches(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    losses = []
    for _ in range(epochs):
        total, count = 0.0, 0
        for x, y in dataset:
            with tf.GradientTape() as tape:
                loss = loss_fn(y, model(x, training=True))
            grads = tape.gradient(loss, model.trainable_weights)
            optimizer.apply_gradients(zip(grads, model.trainable_weights, strict=True))
            total += float(loss)
            count += 1
        losses.append(total / count)
    return losses


def metrics_through_all_epochs(
    model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int
) -> dict[str, list[float]]:
    train_loss = keras.metrics.Mean(name="train_loss")
    train_accuracy = keras.metrics.SparseCategoricalAccuracy(name="train_accuracy")
    history: dict[str, list[float]] = {"loss": [], "accuracy": []}
    for _ in range(epochs):
        for images, labels in dataset:
            with tf.GradientTape() as tape:
                predictions = model(images)
                loss = loss_fn(labels, predictions)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            train_loss(loss)
            train_accuracy(labels, predictions)
        history["loss"].append(float(train_loss.result()))
        history["accuracy"].append(float(train_accuracy.result()))
    return history


def validation_in_training_mode(
    model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int
) -> dict[str, list[float]]:
    val_data = tf.data.Dataset.from_tensor_slices(parts.held_out()).batch(parts.BATCH)
    train_loss, val_loss = keras.metrics.Mean(), keras.metrics.Mean()

    @tf.function
    def train_step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        train_loss(loss)

    @tf.function
    def val_step(x: Any, y: Any) -> None:
        val_loss(loss_fn(y, model(x, training=True)))

    history: dict[str, list[float]] = {"loss": [], "val_loss": []}
    for _ in range(epochs):
        train_loss.reset_state()
        val_loss.reset_state()
        for x, y in dataset:
            train_step(x, y)
        for x, y in val_data:
            val_step(x, y)
        history["loss"].append(float(train_loss.result()))
        history["val_loss"].append(float(val_loss.result()))
    return history


def whole_batches_of_arrays(model: Any, optimizer: Any, x: Any, y: Any, batch_size: int, epochs: int) -> list[float]:
    n_batches = int(len(x) / batch_size)
    history = []
    for _ in range(epochs):
        loss_t: Any = 0
        it = 0
        for _ in range(n_batches):
            with tf.GradientTape() as tape:
                tape.watch([variable.value for variable in model.trainable_variables])
                curr = x[it : it + batch_size]
                forward = model(curr, training=True)
                loss = keras.losses.MeanAbsoluteError()(y[it : it + batch_size], forward)
                loss_t += loss
            grads = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(grads, model.trainable_variables, strict=True))
            it += batch_size
        history.append(float(loss_t) / n_batches)
    return history


def halved_each_epoch(epoch: int, rate: float) -> float:
    return rate / 2 if epoch else rate


def scheduler_of_fit(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    history = []
    for _ in range(epochs):
        losses = []
        for x, y in dataset:
            with tf.GradientTape() as tape:
                loss = loss_fn(y, model(x, training=True))
            grads = tape.gradient(loss, model.trainable_weights)
            optimizer.apply_gradients(zip(grads, model.trainable_weights, strict=True))
            losses.append(float(loss))
        history.append(float(np.mean(losses)))
    return history


def scheduler() -> list[Any]:
    return [keras.callbacks.LearningRateScheduler(halved_each_epoch)]


N_GRADIENTS = 2


def accumulated_losses(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    optimizer.gradient_accumulation_steps = None
    seen: list[float] = []
    acum_step, total_loss = 0, 0.0
    for _ in range(epochs):
        for x, y in dataset:
            acum_step += 1
            with tf.GradientTape() as tape:
                loss = loss_fn(y, model(x, training=True))
                total_loss = total_loss + loss / N_GRADIENTS
            seen.append(float(loss))
            if acum_step == N_GRADIENTS:
                gradients = tape.gradient(total_loss, model.trainable_variables)
                optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
                acum_step, total_loss = 0, 0.0
    return seen


class GradientAccumulator:
    def __init__(self, variables: Any) -> None:
        self.n_acum_step = tf.Variable(0, dtype=tf.int32, trainable=False)
        self.gradient_accumulation = [tf.Variable(tf.zeros(v.shape), trainable=False) for v in variables]


def accumulator_of_sums(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    optimizer.gradient_accumulation_steps = None
    accumulator = GradientAccumulator(model.trainable_variables)

    def apply_accu_gradients() -> None:
        gradients = [held.read_value() for held in accumulator.gradient_accumulation]
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        accumulator.n_acum_step.assign(0)
        for held in accumulator.gradient_accumulation:
            held.assign(tf.zeros_like(held))

    @tf.function
    def train_step(x: Any, y: Any) -> Any:
        accumulator.n_acum_step.assign_add(1)
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        for held, gradient in zip(accumulator.gradient_accumulation, gradients, strict=True):
            held.assign_add(gradient)
        tf.cond(tf.equal(accumulator.n_acum_step, N_GRADIENTS), apply_accu_gradients, lambda: None)
        return loss

    return [float(train_step(x, y)) for _ in range(epochs) for x, y in dataset]


def scaled_as_in_keras_2(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    with tf.GradientTape() as tape:
        predictions = model(x)
        loss = loss_fn(y, predictions)
        scaled_loss = optimizer.get_scaled_loss(loss)
    scaled_gradients = tape.gradient(scaled_loss, model.trainable_variables)
    gradients = optimizer.get_unscaled_gradients(scaled_gradients)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def loss_scaling_adamw() -> Any:
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.AdamW(0.01), initial_scale=256.0)


def wrapped_and_left_at_that(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        loss = loss_fn(y, predictions)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def loss_as_python_numbers(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    def loss(x: Any, y: Any) -> Any:
        y_ = model(x)
        losses = [float(loss_fn(y[i : i + 1], y_[i : i + 1])) for i in range(y.shape[0])]
        return tf.convert_to_tensor(np.mean(losses), dtype=tf.float32)

    history = []
    for _ in range(epochs):
        epoch_loss_avg = keras.metrics.Mean()
        for x, y in dataset:
            with tf.GradientTape() as tape:
                loss_value = loss(x, y)
            grads = tape.gradient(loss_value, model.trainable_variables)
            optimizer.apply_gradients(zip(grads, model.trainable_variables, strict=True))
            epoch_loss_avg.update_state(loss_value)
        history.append(float(epoch_loss_avg.result()))
    return history


def scheduler_stepped_inside(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    class Decay:
        def __init__(self) -> None:
            self.steps = 0

        def step(self) -> float:
            rate = 0.2 * 0.5**self.steps
            self.steps += 1
            return rate

    lr_scheduler = Decay()

    @tf.function
    def train_step(image: Any, target: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(target, model(image, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.learning_rate.assign(lr_scheduler.step())
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    history = []
    for _ in range(epochs):
        losses: list[float] = []
        for x, y in dataset:
            losses.append(float(train_step(x, y)))
        history.append(float(np.mean(losses)))
    return history


def halving() -> list[Any]:
    """A callback with which `fit` halves the learning rate every step."""

    class Halving(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.model.optimizer.learning_rate.assign(0.2 * 0.5**batch)

    return [Halving()]


def max_norm() -> Any:
    constraint = keras.constraints.MaxNorm(2)
    return keras.Sequential(
        [
            keras.Input((parts.WIDTH,)),
            keras.layers.Dense(
                3,
                kernel_initializer="lecun_normal",
                activation="selu",
                kernel_constraint=constraint,
                bias_constraint=constraint,
            ),
            keras.layers.Dense(1),
        ]
    )


def with_constraints(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    history = []
    for _ in range(epochs):
        losses = keras.metrics.Mean()
        for batch_x, batch_y in dataset:
            with tf.GradientTape() as tape:
                loss = loss_fn(batch_y, model(batch_x, training=True))
            gradient = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradient, model.trainable_variables, strict=True))
            losses.update_state(loss)
        history.append(float(losses.result()))
    return history


def shuffled_by_hand(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, batch_size: int, epochs: int) -> Any:
    rng = np.random.default_rng(0)
    history = []
    for _ in range(epochs):
        index = np.arange(len(x))
        rng.shuffle(index)
        losses = []
        for it in range(0, len(x), batch_size):
            rows = index[it : it + batch_size]
            with tf.GradientTape() as tape:
                loss = loss_fn(y[rows], model(x[rows], training=True))
            grads = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(grads, model.trainable_variables, strict=True))
            losses.append(float(loss))
        history.append(float(np.mean(losses)))
    return history


ASKED: dict[str, Asked] = {
    "transfer_learning": Asked(
        transfer_learning,
        given(
            pretrained_base_and_head,
            parts.three_classes,
            loss=keras.losses.SparseCategoricalCrossentropy,
            metrics=("accuracy",),
            epochs=2,
            optimizer=parts.adam,
        ),
    ),
    "flat_labels": Asked(flat_labels, given(parts.dense, parts.flat_targets)),
    "train_step_of_a_classifier": Asked(
        None, given(train_step_of_a_classifier, parts.three_classes, loss="sparse_categorical_crossentropy")
    ),
    "several_terms": Asked(several_terms, given(detector, boxes_and_confidence, loss=["mse", "binary_crossentropy"])),
    "mask_by_hand": Asked(mask_by_hand, given(parts.masked, parts.sentences)),
    "mask_by_sentence": Asked(mask_by_sentence, given(parts.masked, parts.sentences)),
    "weighted_average": Asked(weighted_average, given(parts.dense, parts.weighted, loss="mae")),
    "class_weight_in_a_train_step": Asked(
        None,
        given(
            class_weight_in_a_train_step,
            parts.three_classes,
            loss="sparse_categorical_crossentropy",
            class_weight={0: 1.0, 1: 2.0, 2: 0.5},
        ),
    ),
    "loss_weights_in_a_train_step": Asked(
        None,
        given(loss_weights_in_a_train_step, parts.two_targets, loss=["mse", "mse"], loss_weights=[1.0, 0.25]),
    ),
    "loss_returned_by_a_train_step": Asked(None, given(loss_returned_by_a_train_step, parts.regression)),
    "mean_over_batches": Asked(mean_over_batches, given(parts.dense, parts.ten_rows, epochs=2)),
    "metrics_through_all_epochs": Asked(
        metrics_through_all_epochs,
        given(
            parts.classifier,
            parts.three_classes,
            loss="sparse_categorical_crossentropy",
            metrics=("accuracy",),
            epochs=2,
        ),
    ),
    "validation_in_training_mode": Asked(
        validation_in_training_mode,
        given(parts.normalized, parts.regression, validation_data=parts.held_out, epochs=2),
    ),
    "whole_batches_of_arrays": Asked(
        whole_batches_of_arrays,
        given(parts.dense, parts.ten_rows, loss="mae", epochs=2, optimizer=parts.adam),
    ),
    "shuffled_by_hand": Asked(shuffled_by_hand, given(parts.dense, parts.regression, epochs=2)),
    "scheduler_of_fit": Asked(scheduler_of_fit, given(parts.dense, parts.regression, epochs=2, callbacks=scheduler)),
    "scheduler_stepped_inside": Asked(
        scheduler_stepped_inside, given(parts.dense, parts.twelve_rows, callbacks=halving)
    ),
    "accumulated_losses": Asked(
        accumulated_losses, given(parts.dense, parts.regression, optimizer=parts.accumulating, epochs=2)
    ),
    "accumulator_of_sums": Asked(
        accumulator_of_sums, given(parts.dense, parts.regression, optimizer=parts.accumulating, epochs=2)
    ),
    "scaled_as_in_keras_2": Asked(
        scaled_as_in_keras_2, given(parts.in_half_precision, parts.regression, optimizer=parts.loss_scaling)
    ),
    "wrapped_and_left_at_that": Asked(
        wrapped_and_left_at_that, given(parts.in_half_precision, parts.regression, optimizer=loss_scaling_adamw)
    ),
    "loss_as_python_numbers": Asked(loss_as_python_numbers, given(parts.dense, parts.regression)),
    "with_constraints": Asked(with_constraints, given(max_norm, parts.regression, epochs=2)),
}
"""By the names of the questions."""
