"""Tiny models and data that the loops share: the same shapes and bits on every call, and nothing made at import.

Eight rows are two batches, twelve are three; ten leave a partial batch of two, eleven one of three, which two replicas
cannot share evenly. Dropout has a seed, so that a model made twice draws the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Loop:
    """A loop as somebody would write it, and what is wrong with it.

    Attributes:
        name: its name.
        cause: the cause that the diagnosis has to name, or None for a loop that trains as `fit` does.
        loop: the loop on trial, or None where a model with a `train_step` of its own is.
        arguments: makes the other arguments of `check` anew.
        replicas: as `check` takes them.
        also: further names that would be as right: what else the one mistake amounts to.
        executions: as `check` takes them.
    """

    name: str
    cause: str | None
    loop: Callable[..., Any] | None
    arguments: Callable[[], dict[str, Any]]
    replicas: tuple[int, ...] = (1,)
    also: tuple[str, ...] = ()
    executions: tuple[str, ...] = ("graph",)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Asked:
    """A loop that somebody asked about; the question and its answer are in `docs/questions.py`.

    Attributes:
        loop: the loop on trial, or None where a model with a `train_step` of its own is, or `fit` itself.
        arguments: makes the other arguments of `check` anew.
        replicas: as `check` takes them.
    """

    loop: Callable[..., Any] | None
    arguments: Callable[[], dict[str, Any]]
    replicas: tuple[int, ...] = (1,)


BATCH = 4
"""The global batch size of every loop, and the divisor of those that wrote it down."""

WIDTH = 3
"""Features a row."""


def given(model: Callable[[], Any], data: Callable[[], Any], **more: Any) -> Callable[[], dict[str, Any]]:
    """A function that makes the arguments of `check` anew."""

    def arguments() -> dict[str, Any]:
        made = {"model": model, "loss": "mse", "optimizer": sgd, "data": data(), "batch_size": BATCH, **more}
        if "validation_data" in made:
            made["validation_data"] = made["validation_data"]()
        return made

    return arguments


# Data.


def regression(rows: int = 8, outputs: int = 1, seed: int = 0) -> tuple[Any, Any]:
    """`x` (rows, 3) and `y` (rows, outputs), of no simple relation."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, WIDTH))
    y = np.tanh(x @ rng.normal(size=(WIDTH, outputs))) + 0.5 * rng.normal(size=(rows, outputs))
    return x.astype("float32"), y.astype("float32")


def ten_rows() -> tuple[Any, Any]:
    return regression(10)


def eleven_rows() -> tuple[Any, Any]:
    return regression(11)


def twelve_rows() -> tuple[Any, Any]:
    return regression(12)


def two_columns() -> tuple[Any, Any]:
    return regression(8, outputs=2)


def flat_targets() -> tuple[Any, Any]:
    """Targets (rows,) for predictions (rows, 1)."""
    x, y = regression(8)
    return x, y[:, 0]


def two_targets() -> tuple[Any, tuple[Any, Any]]:
    """A target for each output of `two_outputs`."""
    x, y = regression(8, outputs=2)
    return x, (y[:, :1], y[:, 1:])


def weighted() -> tuple[Any, Any, Any]:
    """Rows with weights of no particular sum."""
    x, y = regression(8)
    return x, y, np.array([0.5, 2.0, 1.0, 0.25, 3.0, 1.0, 0.5, 1.5], "float32")


def weighted_to_mean_one() -> tuple[Any, Any, Any]:
    """Rows whose weights have the mean one over every batch of four, and over no half of one."""
    x, y = regression(8)
    return x, y, np.array([1.75, 1.25, 0.5, 0.5, 0.25, 0.75, 2.0, 1.0], "float32")


def binary() -> tuple[Any, Any]:
    x, y = regression(8)
    return x, (y > 0).astype("float32")


def three_classes() -> tuple[Any, Any]:
    """Labels 0, 1, 2, each in every batch."""
    x, _ = regression(8)
    return x, np.array([0, 1, 2, 1, 2, 0, 1, 2], "int32")


def sentences() -> tuple[Any, Any]:
    """Words (8, 4) padded with zeros to lengths of one to four, and a target a word (8, 4, 1)."""
    rng = np.random.default_rng(3)
    words = rng.integers(1, 6, size=(8, 4))
    lengths = np.array([4, 2, 1, 3, 1, 2, 4, 1])
    words[np.arange(4) >= lengths[:, None]] = 0
    return words.astype("int32"), rng.normal(size=(8, 4, 1)).astype("float32")


def held_out() -> tuple[Any, Any]:
    """Validation data: two batches."""
    return regression(8, seed=9)


# Models.


def _sequential(*layers: Any) -> Any:
    import keras

    return keras.Sequential([keras.Input((WIDTH,)), *layers])


def dense() -> Any:
    from keras import layers

    return _sequential(layers.Dense(4, activation="tanh"), layers.Dense(1))


def dense_for_two_columns() -> Any:
    from keras import layers

    return _sequential(layers.Dense(4, activation="tanh"), layers.Dense(2))


def classifier() -> Any:
    from keras import layers

    return _sequential(layers.Dense(4, activation="tanh"), layers.Dense(3, activation="softmax"))


def probability() -> Any:
    """One output between zero and one."""
    from keras import layers

    return _sequential(layers.Dense(4, activation="tanh"), layers.Dense(1, activation="sigmoid"))


def regularized() -> Any:
    from keras import layers, regularizers

    return _sequential(
        layers.Dense(4, activation="tanh", kernel_regularizer=regularizers.L2(0.1)),
        layers.Dense(1, kernel_regularizer=regularizers.L1(0.02)),
    )


def active() -> Any:
    """Activity regularization and no other."""
    from keras import layers, regularizers

    return _sequential(layers.Dense(4, activation="tanh", activity_regularizer=regularizers.L2(0.2)), layers.Dense(1))


def dropped() -> Any:
    from keras import layers

    return _sequential(layers.Dense(4, activation="tanh"), layers.Dropout(0.5, seed=11), layers.Dense(1))


def normalized() -> Any:
    """Batch normalization behind a layer without bias, whose gradient would be nothing but rounding."""
    from keras import layers

    return _sequential(layers.Dense(4, use_bias=False), layers.BatchNormalization(momentum=0.5), layers.Dense(1))


def normalized_behind_a_bias() -> Any:
    """Batch normalization takes the bias out again, so the bias's gradient is nothing but rounding."""
    from keras import layers

    return _sequential(layers.Dense(4), layers.BatchNormalization(momentum=0.5, synchronized=True), layers.Dense(1))


def of_everything() -> Any:
    """Penalties, batch normalization and dropout."""
    from keras import layers, regularizers

    return _sequential(
        layers.Dense(4, use_bias=False, kernel_regularizer=regularizers.L2(0.05)),
        layers.BatchNormalization(momentum=0.5),
        layers.Activation("tanh", activity_regularizer=regularizers.L2(0.1)),
        layers.Dropout(0.25, seed=11),
        layers.Dense(1),
    )


def constrained() -> Any:
    """No weight may be negative, and half of them are in the beginning."""
    from keras import layers

    return _sequential(layers.Dense(4, activation="tanh"), layers.Dense(1, kernel_constraint="non_neg"))


def frozen() -> Any:
    """The first layer is not to be trained."""
    from keras import layers

    return _sequential(layers.Dense(4, activation="tanh", trainable=False), layers.Dense(1))


def in_half_precision() -> Any:
    """Computes in float16, with variables in float32."""
    from keras import layers

    return _sequential(
        layers.Dense(4, activation="tanh", dtype="mixed_float16"), layers.Dense(1, dtype="mixed_float16")
    )


def masked() -> Any:
    """A prediction a word; padding has a mask."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            layers.Embedding(6, 3, mask_zero=True),
            layers.SimpleRNN(3, return_sequences=True),
            layers.Dense(1),
        ]
    )


def two_outputs() -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((WIDTH,))
    hidden = layers.Dense(4, activation="tanh")(inputs)
    return keras.Model(inputs, [layers.Dense(1, name="level")(hidden), layers.Dense(1, name="trend")(hidden)])


# Optimizers.

RATE = 0.1
"""The learning rate of `sgd`, and of loops that update by hand."""


def sgd() -> Any:
    import keras

    return keras.optimizers.SGD(RATE)


def momentum() -> Any:
    import keras

    return keras.optimizers.SGD(RATE, momentum=0.9)


def adam() -> Any:
    import keras

    return keras.optimizers.Adam(0.01)


def decaying() -> Any:
    """The learning rate halves with every step."""
    import keras

    return keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.2, decay_steps=1, decay_rate=0.5))


CLIPNORM = 0.1
"""The norm of `clipping`, and of loops that clip by hand."""


def clipping() -> Any:
    """Clips the gradient of every variable by its own norm."""
    import keras

    return keras.optimizers.SGD(RATE, clipnorm=CLIPNORM)


def accumulating() -> Any:
    """An update every two batches, from the mean of their gradients."""
    import keras

    return keras.optimizers.SGD(RATE, gradient_accumulation_steps=2)


def averaging() -> Any:
    """The trained weights are to be the moving averages."""
    import keras

    return keras.optimizers.SGD(RATE, use_ema=True, ema_momentum=0.5)


def loss_scaling() -> Any:
    """Divides the gradients by the scale that `scale_loss` multiplies the loss with."""
    import keras

    return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE), initial_scale=256.0)
