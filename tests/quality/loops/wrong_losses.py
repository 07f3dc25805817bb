"""Loops whose forward pass or loss is wrong.

Each docstring says what is wrong and gives the line that would be right; everything else is as `fit` does it.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import parts
import tensorflow as tf
from parts import Loop, given


def penalties_forgotten(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The model's penalties never reach the loss.

    Right: `loss = loss_fn(y, predictions) + sum(model.losses)`
    """
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        loss = loss_fn(y, predictions)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def penalties_forgotten_in_a_train_step() -> Any:
    """A model with a `train_step` of its own that forgets the penalties.

    Right: `loss = self.compute_loss(x=x, y=y, y_pred=y_pred)`
    """

    class Regression(keras.Model):
        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            with tf.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = keras.ops.mean(keras.losses.mean_squared_error(y, y_pred))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, y_pred)
            return {metric.name: metric.result() for metric in self.metrics}

    made = parts.regularized()
    return Regression(made.inputs, made.outputs)


def penalties_added_for_the_report(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The penalties are added behind the tape: reported, and not trained on.

    Right: `loss = loss_fn(y, predictions) + tf.add_n(model.losses)`, in the tape
    """
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        loss = loss_fn(y, predictions)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss + tf.add_n(model.losses)


def activity_divided_again(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The activity penalty is divided by the batch size, and Keras has divided it already.

    Right: `penalty = tf.add_n(model.losses)`
    """
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        penalty = tf.add_n(model.losses) / tf.cast(tf.shape(x)[0], tf.float32)
        loss = loss_fn(y, predictions) + penalty
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def activity_undivided(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The activity penalty is computed by hand, as a sum over the rows.

    Right: `penalty = layer.activity_regularizer(hidden) / tf.cast(tf.shape(x)[0], tf.float32)`
    """
    layer, head = model.layers
    with tf.GradientTape() as tape:
        hidden = layer(x)
        penalty = layer.activity_regularizer(hidden)
        loss = loss_fn(y, head(hidden)) + penalty
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)
    return loss


def inference_mode(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """Batch normalization is asked for its moving statistics in training.

    Right: `predictions = model(x, training=True)`
    """
    with tf.GradientTape() as tape:
        predictions = model(x, training=False)
        loss = loss_fn(y, predictions)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def mode_left_out(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """Dropout is asleep, for a model called without `training` infers.

    Right: `loss = loss_fn(y, model(x, training=True))`
    """
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def statistics_dropped(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The moving statistics that `stateless_call` returns are thrown away.

    Right: `for variable, value in zip(model.non_trainable_variables, updated): variable.assign(value)`
    """
    with tf.GradientTape() as tape:
        predictions, _updated = model.stateless_call(
            model.trainable_variables, model.non_trainable_variables, x, training=True
        )
        loss = loss_fn(y, predictions)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)
    return loss


def statistics_put_back(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """Moving statistics are saved before each epoch and restored behind it, to keep those of pretraining.

    Right: leave `variable.assign(value)` out
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
        kept = [variable.numpy() for variable in model.non_trainable_variables]
        history.append(float(np.mean([train_step(x, y) for x, y in dataset])))
        for variable, value in zip(model.non_trainable_variables, kept, strict=True):
            variable.assign(value)
    return history


def predictions_from_a_second_call(
    model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int
) -> dict[str, list[float]]:
    """The model is called once for the loss and once more for the metric, and draws and averages twice.

    Right: `mae.update_state(y, predictions)`, with `predictions` from the tape
    """
    mean, mae = keras.metrics.Mean(), keras.metrics.MeanAbsoluteError()

    @tf.function
    def train_step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            predictions = model(x, training=True)
            loss = loss_fn(y, predictions)
        gradients = tape.gradient(loss, model.trainable_variables)
        mae.update_state(y, model(x, training=True))
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        mean.update_state(loss)

    history: dict[str, list[float]] = {"loss": [], "mae": []}
    for _ in range(epochs):
        mean.reset_state()
        mae.reset_state()
        for x, y in dataset:
            train_step(x, y)
        history["loss"].append(float(mean.result()))
        history["mae"].append(float(mae.result()))
    return history


def statistics_averaged_twice(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """The model is called for its predictions, and called again in the loss.

    Right: `loss = loss_fn(y, predictions)`
    """
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        tf.debugging.assert_all_finite(predictions, "the model has diverged")
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def labels_broadcast(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """Targets (n,) less predictions (n, 1) are (n, n) differences.

    Right: `loss = tf.reduce_mean(tf.square(y[:, tf.newaxis] - predictions))`
    """
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        loss = tf.reduce_mean(tf.square(y - predictions))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def probabilities_taken_for_logits(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """The model ends in a sigmoid, and the loss applies another.

    Right: `losses = keras.losses.binary_crossentropy(y, predictions)`
    """
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=predictions)
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def logits_taken_for_probabilities(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """The model ends in logits, and the loss takes them for probabilities.

    Right: `bce = keras.losses.BinaryCrossentropy(from_logits=True)`
    """
    bce = keras.losses.BinaryCrossentropy()
    with tf.GradientTape() as tape:
        loss = bce(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def mean_over_the_wrong_axis(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """The loss is one mean a column, and the tape differentiates their sum.

    Right: `loss = tf.reduce_mean(tf.square(y - predictions))`
    """
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        loss = tf.reduce_mean(tf.square(y - predictions), axis=0)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def sum_over_the_rows(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """The rows' losses are added, not averaged.

    Right: `loss = tf.reduce_mean(keras.losses.mean_squared_error(y, predictions))`
    """
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        loss = tf.reduce_sum(keras.losses.mean_squared_error(y, predictions))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def one_loss_a_row(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """The losses of the rows go to the tape as they are, which differentiates their sum.

    Right: `loss = tf.reduce_mean(keras.losses.mean_squared_error(y, predictions))`, in the tape
    """
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        loss = keras.losses.mean_squared_error(y, predictions)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return tf.reduce_mean(loss)


def padding_counted(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """The mean is over all words, padding too.

    Right: `loss = tf.reduce_mean(tf.boolean_mask(losses, x != 0))`
    """
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        losses = keras.losses.mean_squared_error(y, predictions)
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def weights_ignored(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    """The rows' weights are unpacked and not used.

    Right: `loss = loss_fn(y, model(x, training=True), sample_weight)`
    """

    @tf.function
    def train_step(x: Any, y: Any, sample_weight: Any) -> Any:
        del sample_weight
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return [float(np.mean([train_step(*batch) for batch in dataset])) for _ in range(epochs)]


def some_left_out() -> tuple[Any, Any, Any]:
    """Rows and weights, some of which are 0."""
    x, y, weights = parts.weighted()
    return x, y, (weights * (np.arange(len(weights)) % 3 > 0)).astype("float32")


def divided_by_the_rows_that_count(model: Any, optimizer: Any, x: Any, y: Any, sample_weight: Any) -> Any:
    """The weighted losses are divided by the number of weights that are not 0, and `fit` divides by that of the rows.

    Right: `loss = tf.reduce_sum(losses * sample_weight) / tf.cast(tf.size(losses), tf.float32)`
    """
    with tf.GradientTape() as tape:
        losses = keras.losses.mean_squared_error(y, model(x, training=True))
        loss = tf.math.divide_no_nan(
            tf.reduce_sum(losses * sample_weight), tf.reduce_sum(tf.cast(sample_weight != 0, tf.float32))
        )
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def divided_by_the_weights(model: Any, optimizer: Any, x: Any, y: Any, sample_weight: Any) -> Any:
    """The weighted losses are divided by the sum of the weights, and `fit` divides by the number of rows.

    Right: `loss = tf.reduce_sum(losses * sample_weight) / tf.cast(tf.size(losses), tf.float32)`
    """
    with tf.GradientTape() as tape:
        losses = keras.losses.mean_squared_error(y, model(x, training=True))
        loss = tf.reduce_sum(losses * sample_weight) / tf.reduce_sum(sample_weight)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


CLASS_WEIGHT = {0: 1.0, 1: 3.0, 2: 0.25}


def class_weights_ignored(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """`fit` was given class weights, and the loop knows nothing of them.

    Right: `loss = loss_fn(y, model(x, training=True), tf.gather([1.0, 3.0, 0.25], y))`
    """
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


LOSS_WEIGHTS = (1.0, 0.25)


def loss_weights_ignored(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """The losses of the outputs are added without their weights.

    Right: `loss = mse(y[0], level) + 0.25 * mae(y[1], trend)`
    """
    mse, mae = keras.losses.MeanSquaredError(), keras.losses.MeanAbsoluteError()
    with tf.GradientTape() as tape:
        level, trend = model(x, training=True)
        loss = mse(y[0], level) + mae(y[1], trend)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def loss_in_half_precision(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """The loss is computed in float16, and cast back.

    Right: `error = y - predictions`
    """
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        error = tf.cast(y - predictions, tf.float16)
        loss = tf.cast(tf.reduce_mean(tf.square(error)), tf.float32)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


_PLAIN = given(parts.dense, parts.regression)
_LOGITS = keras.losses.BinaryCrossentropy(from_logits=True)


def penalties_halved(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """`tf.nn.l2_loss` is half of what `keras.regularizers.L2` is.

    Right: `loss = loss_fn(y, predictions) + sum(model.losses)`
    """
    kernels = [layer.kernel for layer in model.layers]
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        loss = loss_fn(y, predictions) + 0.05 * tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def penalized_by_squares() -> Any:
    squares = keras.regularizers.L2(0.05)
    layers = [keras.layers.Dense(units, kernel_regularizer=squares) for units in (4, 1)]
    return keras.Sequential([keras.Input((parts.WIDTH,)), *layers])


def weights_crossed(model: Any, optimizer: Any, x: Any, y: Any, sample_weight: Any) -> Any:
    """Losses (n,) times weights (n, 1) are n x n numbers, and their mean knows no row.

    Right: `loss = tf.reduce_mean(losses * sample_weight)`
    """
    with tf.GradientTape() as tape:
        losses = keras.losses.mean_squared_error(y, model(x, training=True))
        loss = tf.reduce_mean(losses * sample_weight[:, tf.newaxis])
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def squared(y_true: Any, y_pred: Any) -> Any:
    """A loss of one's own, which `fit` gives targets of the predictions' rank."""
    return tf.reduce_mean(tf.square(y_true - y_pred))


def labels_broadcast_in_a_function(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """Nobody gives the targets of a function of one's own the rank of the predictions.

    Right: `loss = loss_fn(y[:, tf.newaxis], model(x, training=True))`
    """
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


LOOPS = (
    Loop(
        "penalties_forgotten",
        "regularization_omitted",
        penalties_forgotten,
        given(parts.regularized, parts.regression),
    ),
    Loop(
        "penalties_forgotten_in_a_train_step",
        "regularization_omitted",
        None,
        given(penalties_forgotten_in_a_train_step, parts.regression, metrics=("mae",)),
    ),
    Loop(
        "penalties_added_for_the_report",
        "regularization_outside_tape",
        penalties_added_for_the_report,
        given(parts.regularized, parts.regression),
    ),
    Loop(
        "activity_divided_again",
        "activity_loss_scale",
        activity_divided_again,
        given(parts.active, parts.regression),
    ),
    Loop("activity_undivided", "activity_loss_scale", activity_undivided, given(parts.active, parts.regression)),
    Loop(
        "inference_mode",
        "training_flag_false",
        inference_mode,
        given(parts.normalized, parts.regression),
        also=("batchnorm_statistics_not_updated",),
    ),
    Loop("mode_left_out", "training_flag_false", mode_left_out, given(parts.dropped, parts.regression)),
    Loop(
        "statistics_dropped",
        "batchnorm_statistics_not_updated",
        statistics_dropped,
        given(parts.normalized, parts.regression),
    ),
    Loop(
        "statistics_put_back",
        "batchnorm_statistics_not_updated",
        statistics_put_back,
        given(parts.normalized, parts.regression, epochs=2),
    ),
    Loop(
        "predictions_from_a_second_call",
        "model_called_twice",
        predictions_from_a_second_call,
        given(parts.dropped, parts.regression, epochs=2, metrics=("mae",)),
    ),
    Loop(
        "statistics_averaged_twice",
        "model_called_twice",
        statistics_averaged_twice,
        given(parts.normalized, parts.regression),
    ),
    Loop("labels_broadcast", "label_shape_broadcast", labels_broadcast, given(parts.dense, parts.flat_targets)),
    Loop(
        "probabilities_taken_for_logits",
        "logits_mismatch",
        probabilities_taken_for_logits,
        given(parts.probability, parts.binary, loss="binary_crossentropy"),
    ),
    Loop(
        "logits_taken_for_probabilities",
        "logits_mismatch",
        logits_taken_for_probabilities,
        given(parts.dense, parts.binary, loss=_LOGITS),
    ),
    Loop(
        "mean_over_the_wrong_axis",
        "loss_reduced_over_wrong_axis",
        mean_over_the_wrong_axis,
        given(parts.dense_for_two_columns, parts.two_columns),
    ),
    Loop("sum_over_the_rows", "loss_summed_not_averaged", sum_over_the_rows, _PLAIN),
    Loop(
        "one_loss_a_row",
        "loss_summed_not_averaged",
        one_loss_a_row,
        _PLAIN,
        also=("loss_reduced_over_wrong_axis",),
    ),
    Loop("padding_counted", "mask_ignored", padding_counted, given(parts.masked, parts.sentences)),
    Loop("weights_ignored", "sample_weight_ignored", weights_ignored, given(parts.dense, parts.weighted, epochs=2)),
    Loop(
        "divided_by_the_weights",
        "sample_weight_normalization",
        divided_by_the_weights,
        given(parts.dense, parts.weighted),
    ),
    Loop(
        "divided_by_the_rows_that_count",
        "sample_weight_normalization",
        divided_by_the_rows_that_count,
        given(parts.dense, some_left_out),
    ),
    Loop(
        "class_weights_ignored",
        "class_weight_ignored",
        class_weights_ignored,
        given(
            parts.classifier,
            parts.three_classes,
            loss="sparse_categorical_crossentropy",
            class_weight=CLASS_WEIGHT,
        ),
    ),
    Loop(
        "loss_weights_ignored",
        "loss_weights_ignored",
        loss_weights_ignored,
        given(parts.two_outputs, parts.two_targets, loss=["mse", "mae"], loss_weights=LOSS_WEIGHTS),
    ),
    Loop("loss_in_half_precision", "numeric_precision", loss_in_half_precision, _PLAIN),
    Loop(
        "penalties_halved",
        "regularization_omitted",
        penalties_halved,
        given(penalized_by_squares, parts.regression),
    ),
    Loop("weights_crossed", "sample_weight_ignored", weights_crossed, given(parts.dense, parts.weighted)),
    Loop(
        "labels_broadcast_in_a_function",
        "label_shape_broadcast",
        labels_broadcast_in_a_function,
        given(parts.dense, parts.flat_targets, loss=squared),
    ),
)
