"""What `assert_conforms` costs: one call for a small model on one device, against the bare `fit` plus the bare loop.

    python tests/quality/benchmark_assert.py [RUNS]

Prints the medians of interleaved runs in one process, everything built and traced anew each time, and their ratio;
exits with 1 where it is more than `MOST`. The bare trainings are what a user's own test would run: a model made,
compiled and fitted, and the same model trained by the same step in a `tf.function`. The first run starts TensorFlow and
is left out.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

import click
import keras
import numpy as np
import tensorflow as tf

import conformance
from conformance import devices
from conformance.prepare import release

MOST = 3.0
"""The most that an assertion may cost, as a multiple of the two trainings it compares."""

ROWS, BATCH_SIZE = 64, 16

_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(ROWS, 8)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def build_model() -> Any:
    """A small model: three layers with a penalty."""
    return keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, activation="relu", kernel_regularizer="l2"),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.Dense(1),
        ]
    )


def make_optimizer() -> Any:
    """The optimizer."""
    return keras.optimizers.Adam(0.01)


def train_step(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    """A step that is right."""
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True)) + sum(model.losses)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def bare() -> None:
    """The two trainings alone, each built and traced."""
    model = build_model()
    model.compile(optimizer=make_optimizer(), loss="mse")
    model.fit(X, Y, batch_size=BATCH_SIZE, shuffle=False, verbose=0)
    model, optimizer, loss_fn = build_model(), make_optimizer(), keras.losses.MeanSquaredError()
    optimizer.build(model.trainable_variables)
    step = tf.function(lambda x, y: train_step(model, optimizer, loss_fn, x, y))
    for x, y in tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH_SIZE):
        step(x, y)


def asserted() -> None:
    """The same with everything watched, judged and compared."""
    conformance.assert_conforms(
        train_step, model=build_model, loss="mse", optimizer=make_optimizer, data=(X, Y), batch_size=BATCH_SIZE
    )


def main(runs: int) -> int:
    """Print the medians and their ratio."""
    devices.set_up(1, one_thread=True)
    taken: dict[Any, list[float]] = {bare: [], asserted: []}
    for _ in range(runs + 1):
        for run, seconds in taken.items():
            started = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - started)
            release()
    # The first run starts TensorFlow.
    alone, judged = (statistics.median(seconds[1:]) for seconds in taken.values())
    ratio = judged / alone
    told = f"bare fit and loop {alone:.2f} s, assert_conforms {judged:.2f} s: {ratio:.2f}"
    click.echo(f"{told} (of {runs} runs, at most {MOST:g})")
    return int(ratio > MOST)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 7))
