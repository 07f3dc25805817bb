"""What is usual in people's training code, and was refused, missed or blamed for what something else does."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
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
    verdict = conformance.check(step, optimizer=warmed, **TRAINING)
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
    verdict = conformance.check(train, epochs=2, executions=("eager",), **given, **TRAINING)
    assert verdict.wrong_arm == "trial/single/eager"
    assert verdict.divergence is not None
    assert (verdict.divergence.variable, verdict.divergence.stage.value) == ("auc", "logs")
