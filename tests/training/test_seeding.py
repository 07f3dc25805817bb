"""TensorFlow's generators are seeded again exactly where something may draw from them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from conformance import prepare
from conformance.arm import parse_arm
from conformance.build import Parts
from conformance.data import Arrays
from conformance.prepare import PreparedArm, release
from conformance.seeding import draws
from conformance.training import Training


def graph(function: Any) -> Any:
    return tf.function(function).get_concrete_function(tf.TensorSpec((None, 2), tf.float32)).graph


def within(x: Any) -> Any:
    return tf.cond(tf.reduce_sum(x) > 0, lambda: x + tf.random.normal(tf.shape(x)), lambda: x)


@pytest.mark.parametrize(
    ("function", "may_draw"),
    [
        (lambda x: x * 2, False),
        (lambda x: x + tf.random.stateless_normal(tf.shape(x), (1, 2)), False),
        (lambda x: x + tf.random.normal(tf.shape(x)), True),
        (tf.random.shuffle, True),
        (within, True),
        (lambda x: tf.function(within)(x) + 1, True),
        (lambda x: tf.numpy_function(lambda a: a + np.random.normal(size=a.shape), [x], tf.float32), True),
        (lambda x: tf.py_function(lambda a: a + tf.random.normal(a.shape), [x], tf.float32), True),
    ],
)
def test_what_may_draw_is_seen_wherever_it_is(function: Any, may_draw: bool) -> None:
    assert draws([graph(function)]) is may_draw
    assert draws([graph(lambda x: x), graph(function)]) is may_draw


def test_a_variable_that_is_written_draws_nothing() -> None:
    held = tf.Variable(tf.zeros((3, 2)))
    assert not draws([graph(lambda x: held.scatter_nd_add([[1]], x[:1]))])


X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")


class Noisy(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    def call(self, x: Any) -> Any:
        return x + tf.random.normal(tf.shape(x))


@pytest.mark.parametrize(("layer", "seeded"), [(Noisy, 3), (lambda: keras.layers.Dropout(0.5), 2)])
def test_a_second_run_draws_as_the_first_and_seeds_only_what_it_draws_from(
    monkeypatch: pytest.MonkeyPatch, layer: Any, seeded: int
) -> None:
    seeds: list[int] = []
    seed_all = prepare.seed_all
    monkeypatch.setattr(prepare, "seed_all", lambda seed: (seeds.append(seed), seed_all(seed)))
    parts = Parts(
        lambda: keras.Sequential([keras.Input((3,)), layer(), keras.layers.Dense(1)]),
        lambda: keras.optimizers.SGD(0.1),
        lambda: ["mse"],
        None,
        lambda: [[]],
        built_first=True,
    )
    arm = PreparedArm(parse_arm("fit/single/graph"), Training(parts, Arrays((X,), (X[:, :1],)), 4))
    first, second = arm.run(), arm.run()
    # When it is built, before its first run, and before the second where that is needed.
    assert len(seeds) == seeded
    assert first.steps == 2
    for key, values in first.values.items():
        np.testing.assert_array_equal(values[0], second.values[key][0], err_msg=str(key))
    release()
