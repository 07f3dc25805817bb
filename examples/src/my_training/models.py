"""The model that the loops train, its data and its optimizer: small, for a few steps show what a loop does."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

RATE = 0.05
"""The learning rate, which the loop that updates by hand needs too."""

BATCH = 4
"""Rows in a global batch: all replicas together train on so many in a step."""


def build_model() -> keras.Model:
    """A regression from four features, with a penalty on the first layer's weights."""
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.1)),
            keras.layers.Dense(1),
        ]
    )


def build_optimizer() -> keras.optimizers.Optimizer:
    """Plain gradient descent."""
    return keras.optimizers.SGD(RATE)


def regression_data(rows: int = 12) -> tuple[Any, Any]:
    """Features (rows, 4) and targets (rows, 1), both float32, the same on every call."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4)).astype("float32")
    return x, np.tanh(x.sum(axis=1, keepdims=True))
