"""What is usual in people's training code, and was refused, missed or blamed for what something else does."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import conformance
from conformance.optimizer_config import config_of
from conformance.user_parts import made_optimizer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(14, 4)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("float32")[:, None]


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """The schedule of the Transformer tutorial, which has no `get_config`."""

    def __call__(self, step: Any) -> Any:
        step = tf.cast(step, tf.float32) + 1.0
        return tf.minimum(tf.math.rsqrt(step), step * 3**-1.5)


def warmed() -> Any:
    return keras.optimizers.SGD(WarmUp())


def classifier() -> Any:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")])


def step(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


TRAINING: dict[str, Any] = {"model": classifier, "loss": "binary_crossentropy", "data": (X, Y), "batch_size": 4}


def test_a_schedule_without_a_config_is_judged_by_what_it_gives() -> None:
    verdict = conformance.check(step, optimizer=warmed, executions=("eager",), **TRAINING)
    assert verdict.conforms, str(verdict)
    assert not verdict.not_compared


def test_a_schedule_of_ones_own_that_is_asked_too_late_is_named() -> None:
    def by_hand(model: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
        optimizer, rate = keras.optimizers.SGD(0.1), WarmUp()
        for index, (x, y) in enumerate(dataset):
            optimizer.learning_rate.assign(rate(index + 1))
            step(model, optimizer, loss_fn, x, y)

    verdict = conformance.check(by_hand, optimizer=warmed, executions=("eager",), **TRAINING)
    assert verdict.cause is not None
    assert verdict.cause.name == "learning_rate_off_by_one"


def test_a_new_optimizer_is_made_of_one_with_a_schedule_of_ones_own() -> None:
    given = warmed()
    assert made_optimizer(given)._learning_rate is given._learning_rate


def test_a_config_has_a_schedule_of_ones_own_as_the_object_it_is() -> None:
    rate = WarmUp()
    assert config_of(keras.optimizers.Adam(rate))["learning_rate"] is rate
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(rate))
    assert config_of(scaled)["inner_optimizer"]["config"]["learning_rate"] is rate
    of_keras = keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5))
    assert config_of(of_keras) == of_keras.get_config()


def test_a_metric_that_no_clause_knows_is_held_against_that_of_fit() -> None:
    def train(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> dict[str, list[float]]:
        area, found = keras.metrics.AUC(), []
        for _ in range(epochs):
            for x, y in dataset:
                with tf.GradientTape() as tape:
                    predictions = model(x, training=True)
                    loss = loss_fn(y, predictions)
                gradients = tape.gradient(loss, model.trainable_variables)
                optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
                area.update_state(y, predictions)
            found.append(float(area.result()))
        return {"auc": found}

    given = {"optimizer": lambda: keras.optimizers.SGD(2.0), "metrics": [keras.metrics.AUC(name="auc")]}
    training = {**TRAINING, "batch_size": 14}
    verdict = conformance.check(train, epochs=2, executions=("eager",), **given, **training)
    assert verdict.wrong_arm == "trial/single/eager"
    assert verdict.divergence is not None
    assert (verdict.divergence.variable, verdict.divergence.stage.value) == ("auc", "logs")


VALIDATION = X[:5], 1 - Y[:5]
STOPPING: dict[str, Any] = {
    **TRAINING,
    "data": (X[:8], Y[:8]),
    "batch_size": 8,
    "optimizer": lambda: keras.optimizers.SGD(1.0),
    "epochs": 4,
    "executions": ("eager",),
    "validation_data": VALIDATION,
    "callbacks": lambda: [keras.callbacks.EarlyStopping("val_loss", restore_best_weights=True)],
}


def stopping(*, patience: int = 1, restoring: bool = True) -> Any:
    def train(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int, validation_data: Any) -> None:
        x_val, y_val = validation_data
        best, waited, kept = np.inf, 0, model.get_weights()
        for _ in range(epochs):
            for x, y in dataset:
                step(model, optimizer, loss_fn, x, y)
            loss = float(loss_fn(y_val, model(x_val, training=False)))
            if loss < best:
                best, waited, kept = loss, 0, model.get_weights()
                continue
            waited += 1
            if waited >= patience:
                if restoring:
                    model.set_weights(kept)
                return

    return train


def test_a_loop_that_stops_early_by_hand_as_the_callback_does_conforms() -> None:
    verdict = conformance.check(stopping(), **STOPPING)
    assert verdict.conforms, str(verdict)


@pytest.mark.parametrize(
    ("wrong", "evidence"),
    [
        ({"restoring": False}, "a callback of fit leaves other weights than its last step did"),
        ({"patience": 2}, "a callback of fit ends the training after 2 steps, and the loop takes 3"),
    ],
)
def test_a_loop_that_stops_early_otherwise_than_the_callback_is_told_so(wrong: Any, evidence: str) -> None:
    verdict = conformance.check(stopping(**wrong), **STOPPING)
    assert verdict.cause is not None
    assert verdict.cause.name == "callbacks_not_called"
    assert verdict.wrong_arm == "trial/single/eager"
    assert len(verdict.observations) == 1
    assert evidence in verdict.cause.evidence[0]


def test_averages_that_an_optimizer_of_the_loops_own_does_not_take_are_missed() -> None:
    def train(model: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
        optimizer = keras.optimizers.SGD(0.5)
        for x, y in dataset:
            step(model, optimizer, loss_fn, x, y)

    averaging = keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.9)
    verdict = conformance.check(train, optimizer=averaging, executions=("eager",), **TRAINING)
    assert verdict.cause is not None
    assert verdict.cause.name == "ema_not_applied"


def test_class_weights_that_are_broadcast_against_the_losses_are_named() -> None:
    def broadcast(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            losses = keras.losses.binary_crossentropy(y, model(x, training=True))
            loss = tf.reduce_mean(losses * tf.where(y > 0.5, 4.0, 1.0))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    weights = {0: 1.0, 1: 4.0}
    verdict = conformance.check(broadcast, optimizer="sgd", class_weight=weights, executions=("eager",), **TRAINING)
    assert verdict.cause is not None
    assert verdict.cause.name == "class_weight_ignored"


SEQUENCES: dict[str, Any] = {
    "loss": "mse",
    "optimizer": "sgd",
    "data": (RNG.normal(size=(8, 2, 3)).astype("float32"), Y[:8]),
    "batch_size": 4,
    "epochs": 2,
    "executions": ("eager",),
}


def carrying() -> Any:
    inputs = keras.Input(batch_shape=(4, 2, 3))
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.SimpleRNN(2, stateful=True, name="rnn")(inputs)))


class Resetting(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.model.get_layer("rnn").reset_state()


def resetting(every: str) -> Any:
    def train(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
        compiled = tf.function(lambda x, y: step(model, optimizer, loss_fn, x, y))
        for _ in range(epochs):
            if every == "epoch":
                model.get_layer("rnn").reset_state()
            for x, y in dataset:
                if every == "batch":
                    model.get_layer("rnn").reset_state()
                compiled(x, y)

    return train


def test_a_loop_that_resets_a_recurrent_layer_where_the_callback_does_conforms() -> None:
    verdict = conformance.check(resetting("epoch"), model=carrying, callbacks=lambda: [Resetting()], **SEQUENCES)
    assert verdict.conforms, str(verdict)


def test_a_loop_that_resets_a_recurrent_layer_where_fit_does_not_is_wrong() -> None:
    verdict = conformance.check(resetting("batch"), model=carrying, **SEQUENCES)
    assert verdict.wrong_arm == "trial/single/eager"
    assert verdict.cause is not None
    assert "one alone changed rnn/rnn_state_0 between the steps" in str(verdict)


class Positions(keras.layers.Layer):
    """Adds positions that were computed in float32, whatever the layer computes in."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = tf.cast(tf.sin(tf.range(4, dtype=tf.float32)), tf.float32)

    def call(self, inputs: Any) -> Any:
        return inputs + self.positions


def penalized() -> Any:
    layers = [Positions(), keras.layers.Dense(1, activation="sigmoid", kernel_regularizer="l2")]
    return keras.Sequential([keras.Input((4,)), *layers])


class OfTwo(keras.Model):
    """Takes two inputs and no `training`, as the model of the Transformer tutorial does."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.head = keras.layers.Dropout(0.5), keras.layers.Dense(1, activation="sigmoid")

    def call(self, inputs: Any) -> Any:
        first, second = inputs
        return self.head(self.dropout(first + second))


def test_a_model_with_constants_of_float32_is_judged_in_that() -> None:
    verdict = conformance.check(step, optimizer="sgd", executions=("eager",), **{**TRAINING, "model": penalized})
    assert verdict.cause is not None
    assert verdict.cause.name == "regularization_omitted"
    (told,) = [line for line in verdict.not_compared if "float32" in line]
    assert "the referee computes them in float32" in told


def test_fit_is_wrong_of_a_model_that_takes_no_training() -> None:
    training = {**TRAINING, "model": OfTwo, "data": ((X, X), Y)}
    verdict = conformance.check(step, optimizer="sgd", executions=("eager",), **training)
    assert verdict.wrong_arm == "fit/single/eager"
    assert verdict.cause is not None
    assert verdict.cause.name == "training_flag_false"
    assert str(verdict).startswith("diverges, and your loop is right")


def accumulating(*, averaged: bool) -> Any:
    def train(model: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
        optimizer, held = keras.optimizers.SGD(0.5), [tf.zeros_like(weight) for weight in model.trainable_variables]
        for index, (x, y) in enumerate(dataset):
            with tf.GradientTape() as tape:
                loss = loss_fn(y, model(x, training=True))
            gradients = tape.gradient(loss, model.trainable_variables)
            held = [total + gradient for total, gradient in zip(held, gradients, strict=True)]
            if index % 2:
                means = [total / 2 if averaged else total for total in held]
                optimizer.apply_gradients(zip(means, model.trainable_variables, strict=True))
                held = [tf.zeros_like(weight) for weight in model.trainable_variables]

    return train


@pytest.mark.parametrize(("averaged", "cause"), [(True, None), (False, "accumulation_not_averaged")])
def test_a_loop_may_accumulate_by_hand_and_update_with_an_optimizer_of_its_own(averaged: bool, cause: Any) -> None:
    given = keras.optimizers.SGD(0.5, gradient_accumulation_steps=2)
    training = {**TRAINING, "data": (X[:8], Y[:8])}
    verdict = conformance.check(accumulating(averaged=averaged), optimizer=given, executions=("eager",), **training)
    assert (verdict.cause.name if verdict.cause else None) == cause, str(verdict)
    assert not verdict.rounding


def test_what_a_loop_freezes_halfway_is_thawed_for_its_next_run() -> None:
    def build() -> Any:
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="enc"), keras.layers.Dense(1)])

    def freezing(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
        for epoch in range(epochs):
            model.get_layer("enc").trainable = epoch == 0
            for x, y in dataset:
                step(model, optimizer, loss_fn, x, y)

    given = TRAINING | {"model": build, "loss": "mse", "epochs": 2}
    verdict = conformance.check(freezing, optimizer="sgd", executions=("eager",), **given)
    assert verdict.flaky == ()
    assert verdict.divergence is not None
    assert (verdict.divergence.step, verdict.wrong_arm) == (4, "trial/single/eager")
