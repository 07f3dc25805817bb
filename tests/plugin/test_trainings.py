"""A new project of twenty lines, with the engine itself: what a user sees first."""

from __future__ import annotations

import pytest

PROJECT = """
import keras, numpy as np, pytest, tensorflow as tf

x = np.random.default_rng(0).normal(size=(48, 4)).astype("float32")

def build():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, kernel_regularizer="l2")])

def wrong(model, optimizer, loss_fn, x, y, penalties=lambda model: 0.0):
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True)) + penalties(model)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return loss

def right(model, optimizer, loss_fn, x, y):
    return wrong(model, optimizer, loss_fn, x, y, lambda m: tf.nn.scale_regularization_loss(tf.add_n(m.losses)))

@pytest.mark.parametrize("replicas", [(1,), (1, 2)], ids=["one", "two"])
@pytest.mark.parametrize("loop", [right, wrong])
def test_loop(conformance, loop, replicas):
    conformance.assert_conforms(loop, model=build, loss="mse", optimizer="sgd", data=(x, x[:, :1]), batch_size=16,
                                replicas=replicas)

def broken(model, optimizer, loss_fn, x, y):
    raise KeyError("mine")

def test_broken(conformance):
    conformance.assert_conforms(broken, model=build, loss="mse", optimizer="sgd", data=(x, x[:, :1]))
"""


def test_a_correct_loop_passes_and_a_wrong_one_is_told_in_25_lines(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    pytester.makepyfile(test_loop=PROJECT)
    result = pytester.runpytest_subprocess("-pno:xdist", "--conformance-report=out", "-v")
    result.stdout.fnmatch_lines_random(
        [f"test_loop.py::test_loop[[]right-{name}[]] PASSED*" for name in ("one", "two")]
        + [f"test_loop.py::test_loop[[]wrong-{name}[]] FAILED*" for name in ("one", "two")]
        + ["test_loop.py::test_broken FAILED*"]
    )
    told = result.stdout.str().partition("= FAILURES =")[2].partition("= conformance =")[0]
    for name in ("wrong-one", "wrong-two"):
        block = told.partition(f" test_loop[{name}] ")[2].partition("\n____")[0]
        message = [line for line in block.splitlines() if line.startswith("E ")]
        assert len(message) <= 25
        assert "diverges: trial/" in message[0]
        assert "first wrong: step 0, loss" in message[1]
        assert "cause: regularization_omitted" in block
        assert "cure: Add them under the tape: `loss = loss_fn(y, predictions) + sum(model.losses)`." in block
        assert not [line for line in block.splitlines() if ".py:" in line and not line.startswith("test_loop.py:")]
    assert "KeyError: 'mine'" in told.partition(" test_broken ")[2]
    # The folder of a finding has its pages, whether or not a script could be written.
    (folder,) = [line.split()[-1] for line in result.outlines if line.startswith("  folder: ")][:1]
    assert "regularization_omitted" in (pytester.path / folder / "report.md").read_text("utf-8")


DRAWN = """
import conformance
import keras, tensorflow as tf
from hypothesis import Phase, settings

tf.constant(1.0) + 1.0

def halves(model, optimizer, loss_fn, x, y, sample_weight):
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True), sample_weight)
        half = loss / 2.0
    gradients = tape.gradient(half, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return loss

@settings(max_examples=2, phases=[Phase.generate], database=None)
@conformance.given(loop=halves, max_layers=1, losses=["mean_squared_error"], optimizers=["SGD"])
def test_drawn():
    pass

def test_late(conformance):
    conformance.check(halves, model=lambda: None, replicas=(1, 2))
"""


def test_drawn_cases_are_trained_and_who_started_tensorflow_is_told_the_cure(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_drawn=DRAWN)
    result = pytester.runpytest_subprocess("-pno:xdist")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "E*DivergenceError: diverges: trial/single/graph differs from*",
            "E*signature: *gradient*",
            "E*DeviceError: mirrored:2 needs 2 logical CPU devices*; or set `conformance_replicas = 1,2` in pytest*",
        ]
    )
    cured = pytester.runpytest_subprocess("-pno:xdist", "--conformance-replicas=1,2", "-k", "late")
    cured.stdout.fnmatch_lines(["E*UsageError: check() misses loss, optimizer, data*"])
