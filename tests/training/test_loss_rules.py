"""The referee's losses: against worked values, against their own gradients, and against Keras, in float32.

A worked value says where it is from. `KERAS` and `METRICS` are the documentation of Keras 3.15: the examples of a loss,
or of the metric that is its mean. `HAND` is a value computed in the comment before it.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.referee.disputed_loss_rules import AS_KERAS, DISPUTES
from conformance.referee.loss_rules import PER_SAMPLE, Identified, aligned, counted, identify, per_sample

KERAS, METRICS, HAND = "https://keras.io/api/losses/", "https://keras.io/api/metrics/", "by hand"
ROUNDING = {"float32": 32 * 2.0**-23, "float64": 256 * 2.0**-52}


@dataclass(frozen=True)
class Trial:
    """A loss with options, and the kinds of targets and predictions it is tried on."""

    name: str
    target: str
    output: str
    options: dict[str, Any] = field(default_factory=dict)
    ranks: tuple[int, ...] = (2, 3)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in self.options.items())})"


TRIALS = (
    Trial("MeanSquaredError", "real", "real"),
    Trial("MeanAbsoluteError", "real", "real"),
    Trial("MeanAbsolutePercentageError", "far", "real"),
    Trial("MeanSquaredLogarithmicError", "positive", "positive"),
    Trial("CosineSimilarity", "real", "real"),
    Trial("CosineSimilarity", "real", "real", {"axis": 1}),
    Trial("Huber", "real", "real"),
    Trial("Huber", "real", "real", {"delta": 0.3}),
    Trial("LogCosh", "real", "real"),
    Trial("KLDivergence", "simplex", "simplex"),
    Trial("Poisson", "positive", "positive"),
    Trial("BinaryCrossentropy", "binary", "probability"),
    Trial("BinaryCrossentropy", "binary", "real", {"from_logits": True}),
    Trial("BinaryCrossentropy", "binary", "real", {"from_logits": True, "label_smoothing": 0.2}),
    Trial("BinaryCrossentropy", "binary", "probability", {"label_smoothing": 0.3, "axis": 1}),
    Trial("BinaryFocalCrossentropy", "binary", "probability"),
    Trial("BinaryFocalCrossentropy", "binary", "real", {"from_logits": True, "gamma": 3.0}),
    Trial("BinaryFocalCrossentropy", "binary", "probability", {"apply_class_balancing": True, "alpha": 0.7}),
    Trial("BinaryFocalCrossentropy", "binary", "probability", {"label_smoothing": 0.2, "gamma": 1.5, "axis": 1}),
    Trial("CategoricalCrossentropy", "onehot", "simplex"),
    Trial("CategoricalCrossentropy", "onehot", "probability"),
    Trial("CategoricalCrossentropy", "onehot", "real", {"from_logits": True}),
    Trial("CategoricalCrossentropy", "onehot", "real", {"from_logits": True, "label_smoothing": 0.2}),
    Trial("CategoricalCrossentropy", "onehot", "simplex", {"label_smoothing": 0.1}),
    Trial("CategoricalCrossentropy", "onehot", "probability", {"axis": 1}),
    Trial("CategoricalFocalCrossentropy", "onehot", "simplex"),
    Trial("CategoricalFocalCrossentropy", "onehot", "real", {"from_logits": True, "gamma": 1.0}),
    Trial("CategoricalFocalCrossentropy", "onehot", "simplex", {"alpha": [0.1, 0.2, 0.3, 0.4], "label_smoothing": 0.1}),
    Trial("CategoricalFocalCrossentropy", "onehot", "probability", {"axis": 1}),
    Trial("SparseCategoricalCrossentropy", "label", "simplex"),
    Trial("SparseCategoricalCrossentropy", "label", "probability"),
    Trial("SparseCategoricalCrossentropy", "label", "real", {"from_logits": True}),
    Trial("SparseCategoricalCrossentropy", "column", "real", {"from_logits": True}),
    Trial("SparseCategoricalCrossentropy", "label", "real", {"from_logits": True, "ignore_class": 1}),
    Trial("SparseCategoricalCrossentropy", "label", "simplex", {"ignore_class": 2}),
    Trial("CategoricalGeneralizedCrossEntropy", "label", "simplex"),
    Trial("CategoricalGeneralizedCrossEntropy", "label", "simplex", {"q": 0.8}),
    Trial("Hinge", "sign", "real"),
    Trial("Hinge", "binary", "real"),
    Trial("SquaredHinge", "sign", "real"),
    Trial("SquaredHinge", "binary", "real"),
    Trial("CategoricalHinge", "onehot", "real"),
    Trial("Dice", "binary", "probability"),
    Trial("Dice", "binary", "probability", {"axis": (1,)}),
    Trial("Tversky", "binary", "probability"),
    Trial("Tversky", "binary", "probability", {"axis": (1,)}),
    Trial("Circle", "label", "unit", {}, (2,)),
    Trial("Circle", "column", "unit", {"gamma": 4.0, "margin": 0.25}, (2,)),
    Trial("Circle", "label", "unit", {"gamma": 4.0, "remove_diagonal": False}, (2,)),
    Trial("CTC", "sequence", "real", {}, (3,)),
)
CASES = [pytest.param(trial, rank, id=f"{trial}-{rank}") for trial in TRIALS for rank in trial.ranks]


def drawn(trial: Trial, rank: int, seed: int = 0, dtype: str = "float64") -> tuple[Any, Any]:
    """Targets and predictions, none of them near a kink of their loss; the last axis has four elements."""
    import tensorflow as tf

    rng = np.random.default_rng([zlib.crc32(str(trial).encode()), rank, seed])
    shape = (5, 3, 4)[3 - rank :] if rank == 2 else (5, 3, 4)
    axis = 1 if trial.options.get("axis") == 1 else -1
    real = rng.normal(size=shape)
    outputs = {
        "real": real,
        "positive": rng.uniform(0.2, 2, shape),
        "probability": rng.uniform(0.05, 0.95, shape),
        "simplex": np.exp(real) / np.exp(real).sum(-1, keepdims=True),
        "unit": real / np.linalg.norm(real, axis=-1, keepdims=True),
    }
    label = rng.integers(0, 4, shape[:-1])
    binary = rng.integers(0, 2, shape)
    # Both labels of a hinge, so that none passes for the other kind.
    binary.flat[:2] = 0, 1
    other = rng.normal(size=shape)
    targets = {
        # Far enough from the predictions that no difference is zero, nor any the delta of a Huber loss.
        "real": real + np.where(other < 0, -1, 1) * rng.choice([0.13, 0.7, 1.6], shape),
        "far": np.where(other < 0, -1, 1) * rng.uniform(4, 5, shape),
        "positive": rng.uniform(0.2, 2, shape),
        "simplex": np.exp(other) / np.exp(other).sum(-1, keepdims=True),
        "binary": binary,
        "sign": 2 * binary - 1,
        "onehot": np.moveaxis(np.eye(shape[axis])[rng.integers(0, shape[axis], np.delete(shape, axis))], -1, axis),
        "label": label,
        "column": label[..., np.newaxis],
        "sequence": np.array([[1, 2], [3, 3], [2, 0], [0, 0], [1, 3]]),
    }
    output = outputs[trial.output]
    if trial.target == "sequence":
        output = rng.normal(size=(5, 4, 4))
    target = targets[trial.target]
    kind = "int32" if trial.target in ("label", "column", "sequence") else dtype
    return tf.constant(target, kind), tf.constant(output, dtype)


def value_and_gradient(function: Any, y_pred: Any, weight: Any = None) -> tuple[Any, Any]:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        value = function(y_pred)
        total = tf.reduce_sum(value if weight is None else value * weight)
    return value.numpy(), tape.gradient(total, y_pred).numpy()


def keras_loss(trial: Trial) -> Any:
    import keras

    return getattr(keras.losses, trial.name)(**trial.options)


def is_rounded_by_keras(name: str, options: dict[str, Any]) -> bool:
    """Whether Keras computes something in float32 even where it is given float64: CTC, a log 2, a list of weights."""
    return name in ("CTC", "LogCosh") or isinstance(options.get("alpha"), list)


def keras_classes() -> dict[str, Any]:
    import keras

    found = inspect.getmembers(keras.losses, inspect.isclass)
    return {name: kind for name, kind in found if issubclass(kind, keras.losses.Loss) and kind is not keras.losses.Loss}


# Against reflection.


def test_every_loss_class_of_keras_has_a_rule() -> None:
    assert len(keras_classes()) >= 22
    assert keras_classes().keys() <= PER_SAMPLE.keys()


def test_every_rule_is_tried_here() -> None:
    assert {trial.name for trial in TRIALS} == PER_SAMPLE.keys()


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_options_and_their_defaults_are_those_of_the_keras_class(name: str) -> None:
    theirs = inspect.signature(keras_classes()[name].__init__).parameters
    ours = inspect.signature(PER_SAMPLE[name].function).parameters
    shared = {key: one.default for key, one in theirs.items() if key not in ("self", "name", "reduction", "dtype")}
    assert {key: one.default for key, one in ours.items() if key not in ("y_true", "y_pred")} == shared
    assert all(one.kind is inspect.Parameter.KEYWORD_ONLY for key, one in ours.items() if not key.startswith("y_"))


def test_the_arithmetic_shares_nothing_with_keras() -> None:
    folder = Path(inspect.getfile(identify)).parent
    modules = sorted({*folder.glob("*_loss_rules.py"), folder / "loss_rules.py"})
    assert len(modules) >= 7
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [name.name for name in node.names] if isinstance(node, ast.Import) else [node.module]
                assert "keras" not in names or path.name == "loss_rules.py", path.name
            # `tf.keras` and the losses TensorFlow has, `tf.nn.*_loss` and `tf.nn.*cross_entropy*`.
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tf":
                assert node.attr not in ("keras", "nn", "losses", "compat"), f"{path.name}:{node.lineno}"


# Against worked values.

ROWS = [[0.0, 1.0], [0.0, 0.0]]
LOGITS = [[-18.6, 0.51], [2.94, -12.8]]
VECTORS = [[0.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
ONE_HOT = [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
CLASSES = [[0.05, 0.95, 0.0], [0.1, 0.8, 0.1]]
MASKS = [[[[1.0], [1.0]], [[0.0], [0.0]]], [[[1.0], [1.0]], [[0.0], [0.0]]]]
SEGMENTS = [[[[0.0], [1.0]], [[0.0], [1.0]]], [[[0.4], [0.0]], [[0.0], [0.9]]]]

WORKED: tuple[tuple[str, dict[str, Any], Any, Any, str, str], ...] = (
    ("MeanSquaredError", {}, [1.0, 0.0, 1.0], [0.9, 0.1, 0.8], "0.0200000", KERAS),
    ("MeanAbsoluteError", {}, [1.0, 0.3, 1.0], [1.9, 0.3, 1.8], "0.5666667", KERAS),
    ("MeanAbsolutePercentageError", {}, [100.0, 200.0, 300.0], [90.0, 210.0, 310.0], "6.111111", KERAS),
    # (log 2 - log(1 + 1e-7))² / 2: the metric's documented value for this row.
    ("MeanSquaredLogarithmicError", {}, ROWS, [[1.0, 1.0], [0.0, 0.0]], "0.24022643 0", METRICS),
    ("CosineSimilarity", {}, VECTORS, [[1.0, 0.0], [1.0, 1.0], [-1.0, -1.0]], "0 -0.99999994 0.99999994", KERAS),
    # (0.18 + 0.18) / 2 and (0.08 + 0.18) / 2, of which the documentation has the mean, 0.155.
    ("Huber", {}, ROWS, [[0.6, 0.4], [0.4, 0.6]], "0.1800000 0.1300000", KERAS),
    # |e| = 3 is beyond delta = 2: 2 · 3 - 2² / 2 = 4; |e| = 1 is not: 1/2. Their mean is 2.25.
    ("Huber", {"delta": 2.0}, [0.0, 0.0], [3.0, -1.0], "2.2500000", HAND),
    ("LogCosh", {}, ROWS, [[1.0, 1.0], [0.0, 0.0]], "0.21689045 0", METRICS),
    ("KLDivergence", {}, ROWS[0], [0.6, 0.4], "0.9162892", METRICS),
    ("Poisson", {}, ROWS[0], [1.0, 1.0], "0.99999994", METRICS),
    # 2 - 3 log 2.
    ("Poisson", {}, [3.0], [2.0], "-0.0794415", HAND),
    ("BinaryCrossentropy", {}, ROWS, [[0.6, 0.4], [0.4, 0.6]], "0.916 0.714", KERAS),
    ("BinaryCrossentropy", {}, ROWS[0], [0.6, 0.4], "0.9162905", METRICS),
    ("BinaryCrossentropy", {"from_logits": True}, ROWS, LOGITS, "0.235 1.496", KERAS),
    # Target 1 becomes 0.9, so -0.9 log 0.8 - 0.1 log 0.2.
    ("BinaryCrossentropy", {"label_smoothing": 0.2}, [1.0], [0.8], "0.3617730", HAND),
    ("BinaryFocalCrossentropy", {}, ROWS, [[0.6, 0.4], [0.4, 0.6]], "0.330 0.206", KERAS),
    ("BinaryFocalCrossentropy", {"gamma": 5, "from_logits": True}, ROWS, LOGITS, "0.0017 1.1561", KERAS),
    (
        "BinaryFocalCrossentropy",
        {"gamma": 5, "from_logits": True, "apply_class_balancing": True},
        ROWS,
        LOGITS,
        "0.0004 0.8670",
        KERAS,
    ),
    ("CategoricalCrossentropy", {}, ONE_HOT, CLASSES, "0.0513 2.303", KERAS),
    # Targets 0.05 and 0.95, logits 0 and log 3, so probabilities 1/4 and 3/4: 0.05 log 4 - 0.95 log 0.75.
    (
        "CategoricalCrossentropy",
        {"from_logits": True, "label_smoothing": 0.1},
        [0.0, 1.0],
        [0.0, math.log(3)],
        "0.3426127",
        HAND,
    ),
    (
        "CategoricalFocalCrossentropy",
        {},
        ONE_HOT,
        [[0.05, 0.9, 0.05], [0.1, 0.85, 0.05]],
        "2.63401289e-04 6.75912094e-01",
        KERAS,
    ),
    ("CategoricalFocalCrossentropy", {}, ONE_HOT, CLASSES, "3.2058331e-05 4.6627346e-01", KERAS),
    # The class's own weight: 3 · (1 - 0.5)² · log 2.
    ("CategoricalFocalCrossentropy", {"alpha": [2.0, 3.0]}, [0.0, 1.0], [0.5, 0.5], "0.5198604", HAND),
    ("SparseCategoricalCrossentropy", {}, [1, 2], CLASSES, "0.0513 2.303", KERAS),
    # -log 0.95, and nothing.
    ("SparseCategoricalCrossentropy", {"ignore_class": -1}, [1, -1], CLASSES, "0.0512933 0", HAND),
    # 2 (1 - √0.7) and 2 (1 - √0.8): the documented example, which has no numbers. A column of labels is the same.
    ("CategoricalGeneralizedCrossEntropy", {}, [0, 1], [[0.7, 0.3], [0.2, 0.8]], "0.3266799 0.2111456", HAND),
    ("CategoricalGeneralizedCrossEntropy", {}, [[0], [1]], [[0.7, 0.3], [0.2, 0.8]], "0.3266799 0.2111456", HAND),
    # Labels -1 and 1: (1.6 + 0.6) / 2; -1 and -1: (1.4 + 1.6) / 2. The documentation has 1.1, and 1.3 for both.
    ("Hinge", {}, ROWS, [[0.6, 0.4], [0.4, 0.6]], "1.1000000 1.5000000", METRICS),
    ("SquaredHinge", {}, ROWS, [[0.6, 0.4], [0.4, 0.6]], "1.4600000 2.2600000", METRICS),
    ("CategoricalHinge", {}, ROWS, [[0.6, 0.4], [0.4, 0.6]], "1.2000000 1.6000000", METRICS),
    ("Dice", {"axis": (1, 2, 3)}, MASKS, SEGMENTS, "0.5000000 0.75757575", KERAS),
    ("Dice", {}, MASKS, SEGMENTS, "0.6164384", KERAS),
    # One true positive, two false positives, one false negative: 1 - 1 / (1 + 0.3 · 2 + 0.7 · 1) = 1 - 1 / 2.3.
    ("Tversky", {"alpha": 0.3, "beta": 0.7}, [1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 1.0], "0.5652174", HAND),
    # With m = 1/4, gamma = 2 and the similarities 1/2 (rows 0 and 1, of one label), 0 (0 and 2) and √3/2 (1 and 2):
    # the positive's exponent is -2 · (5/4 - 1/2)(1/2 - 3/4) = 0.375, the negatives' are 2 (s² - m²) = -0.125 and 1.375.
    # So log(1 + exp(0.25)) and log(1 + exp(1.75)); the last row has no other of its label.
    (
        "Circle",
        {"gamma": 2.0, "margin": 0.25},
        [0, 0, 1],
        [[1.0, 0.0], [0.5, math.sqrt(3) / 2], [0.0, 1.0]],
        "0.8259395 1.9102242 0",
        HAND,
    ),
    # Of the 27 paths over three steps, all alike, five read 1 2: 112, 122, -12, 1-2, 12-. So log(27 / 5). Only 1-1 of
    # the eight over {-, 1} reads 1 1. And no path of three steps reads 1 1 2.
    ("CTC", {}, [[1, 2]], [[[0.0] * 3] * 3], "1.6863990", HAND),
    ("CTC", {}, [[1, 1]], [[[0.0] * 2] * 3], "2.0794415", HAND),
    ("CTC", {}, [[1, 1, 2]], [[[0.0] * 3] * 3], "inf", HAND),
)


@pytest.mark.parametrize(("name", "options", "y_true", "y_pred", "printed", "source"), WORKED)
def test_a_rule_gives_the_worked_value(
    name: str, options: dict[str, Any], y_true: Any, y_pred: Any, printed: str, source: str
) -> None:
    import tensorflow as tf

    kind = "int32" if PER_SAMPLE[name].sparse else "float64"
    value = PER_SAMPLE[name].function(tf.constant(y_true, kind), tf.constant(y_pred, tf.float64), **options)
    numbers = printed.split()
    assert np.size(value) == len(numbers)
    for seen, number in zip(np.ravel(value), numbers, strict=True):
        # A unit in the last digit printed, for the documentation cuts as often as it rounds, and no less than what its
        # float32 can say.
        digits = 0 if "e" in number else len(number.partition(".")[2])
        allowed = max(10.0**-digits, 5e-7) if digits else 2e-7
        assert seen == pytest.approx(float(number), rel=0, abs=allowed), source


def test_every_rule_has_a_worked_value() -> None:
    assert {name for name, *_ in WORKED} == PER_SAMPLE.keys()


def test_ctc_is_the_sum_over_all_paths_that_read_the_labels() -> None:
    import tensorflow as tf

    logits = np.random.default_rng(3).normal(size=(1, 4, 3))
    probability = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
    for labels in ([1], [2, 1], [1, 1], [1, 2, 1], [2, 1, 1], []):
        read = [
            math.prod(probability[time, place] for time, place in enumerate(path))
            for path in itertools.product(range(3), repeat=4)
            if [place for place, _ in itertools.groupby(path) if place] == labels
        ]
        padded = tf.constant([labels + [0] * (3 - len(labels))])
        loss = PER_SAMPLE["CTC"].function(padded, tf.constant(logits)).numpy()
        assert loss[0] == pytest.approx(-math.log(sum(read)), rel=1e-12), labels


# Against their own gradients.


@pytest.mark.parametrize(("trial", "rank"), CASES)
def test_a_rules_gradient_is_its_central_difference(trial: Trial, rank: int) -> None:
    y_true, y_pred = drawn(trial, rank)
    identified = Identified(trial.name, trial.options)
    rng = np.random.default_rng(1)

    def rule(prediction: Any) -> Any:
        return per_sample(identified, y_true, prediction)

    weight = rng.uniform(0.5, 1.5, rule(y_pred).shape)
    _, gradient = value_and_gradient(rule, y_pred, weight)
    assert np.any(gradient)
    for _ in range(3):
        direction = rng.normal(size=y_pred.shape)
        if trial.output == "unit":
            # Along the sphere, where a similarity of a row to itself stays below one.
            direction -= y_pred.numpy() * (direction * y_pred.numpy()).sum(-1, keepdims=True)
        step = 1e-6
        ahead, behind = (np.sum(weight * rule(y_pred + sign * step * direction).numpy()) for sign in (1, -1))
        assert (ahead - behind) / (2 * step) == pytest.approx(np.sum(gradient * direction), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(("trial", "rank"), CASES)
def test_a_rule_computes_in_the_precision_of_the_predictions(trial: Trial, rank: int) -> None:
    import tensorflow as tf

    identified = Identified(trial.name, trial.options)
    values = {}
    # The same numbers, exact in both.
    y_true, y_pred = drawn(trial, rank, dtype="float32")
    for dtype in ("float64", "float32"):
        values[dtype] = per_sample(identified, y_true, tf.cast(y_pred, dtype))
        assert values[dtype].dtype.name == dtype
    difference = np.abs(values["float64"].numpy() - values["float32"].numpy())
    assert difference.max() <= ROUNDING["float32"] * max(1, np.abs(values["float64"]).max())
    # Rounding is there: what is called float64 is not float32 in disguise. Hinges and the like may be exact.
    assert difference.max() > 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_a_rule_in_a_graph_is_the_rule(trial: Trial, dtype: str) -> None:
    import tensorflow as tf

    y_true, y_pred = drawn(trial, trial.ranks[0], dtype=dtype)
    identified = Identified(trial.name, trial.options)

    def rule(prediction: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(prediction)
            value = per_sample(identified, y_true, prediction)
        return value, tape.gradient(value, prediction)

    for eager, graph in zip(rule(y_pred), tf.function(rule, autograph=False)(y_pred), strict=True):
        np.testing.assert_allclose(graph, eager, rtol=1e-6 if dtype == "float32" else 1e-13, atol=1e-6)


# Against Keras.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("trial", "rank"), CASES)
def test_a_rule_is_keras_within_rounding_value_and_gradient(trial: Trial, rank: int, dtype: str) -> None:
    if is_rounded_by_keras(trial.name, trial.options):
        dtype = "float32"
    loss = keras_loss(trial)
    identified = identify(loss)
    assert identified is not None
    assert identified.name == trial.name
    for seed in range(4):
        y_true, y_pred = drawn(trial, rank, seed, dtype)
        ours, our_gradient = value_and_gradient(lambda p, t=y_true: per_sample(identified, t, p), y_pred)
        theirs, their_gradient = value_and_gradient(lambda p, t=y_true: loss.call(t, p), y_pred)
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype == dtype
        close(ours, theirs)
        close(our_gradient, their_gradient)


def close(ours: Any, theirs: Any) -> None:
    scale = max(1.0, float(np.abs(theirs).max(initial=0)))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=ROUNDING[str(theirs.dtype)] * scale)


def test_log_cosh_of_no_error_is_zero_in_float64_but_in_keras() -> None:
    import keras
    import tensorflow as tf

    zeros = tf.zeros((1, 2), tf.float64)
    assert abs(float(PER_SAMPLE["LogCosh"].function(zeros, zeros)[0])) <= 2.0**-52
    # Its log 2 is a float32.
    assert abs(float(keras.losses.LogCosh().call(zeros, zeros)[0])) > 1e-9


HALF = [[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
FIFTY = [[-50.0, 50.0, 0.0, 0.0], [50.0, -50.0, -50.0, -50.0], [50.0, 50.0, 50.0, -50.0]]
FIRST = [[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]

EXTREMES: tuple[tuple[str, dict[str, Any], Any, Any], ...] = (
    ("MeanAbsolutePercentageError", {}, [[0.0, 1e-9]] * 2, [[1.0, 1.0], [0.0, -1.0]]),
    ("MeanSquaredLogarithmicError", {}, [[0.0, -3.0]], [[-2.0, 1.0]]),
    ("CosineSimilarity", {}, [[0.0, 0.0], [1.0, 2.0], [1e-9, 0.0]], [[1.0, 2.0], [0.0, 0.0], [1.0, 1.0]]),
    ("Huber", {}, [[0.0, 1e6]], [[-1e6, 1e6]]),
    ("LogCosh", {}, [[0.0, 100.0, -100.0]], [[0.0, -100.0, 100.0]]),
    ("KLDivergence", {}, HALF, FIRST),
    ("Poisson", {}, HALF, FIRST),
    ("BinaryCrossentropy", {}, HALF, FIRST),
    ("BinaryCrossentropy", {"from_logits": True}, HALF, FIFTY),
    ("BinaryFocalCrossentropy", {}, HALF, FIRST),
    ("BinaryFocalCrossentropy", {"from_logits": True, "apply_class_balancing": True}, HALF, FIFTY),
    ("CategoricalCrossentropy", {}, HALF, FIRST),
    ("CategoricalCrossentropy", {"from_logits": True}, FIRST, FIFTY),
    ("CategoricalFocalCrossentropy", {}, HALF, FIRST),
    ("CategoricalFocalCrossentropy", {"from_logits": True}, FIRST, FIFTY),
    ("SparseCategoricalCrossentropy", {}, [0, 1, 2], FIRST),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, [0, 1, 3], FIFTY),
    ("CategoricalGeneralizedCrossEntropy", {}, [0, 0, 3], FIRST),
    ("Hinge", {}, HALF, FIFTY),
    ("SquaredHinge", {}, HALF, FIFTY),
    ("CategoricalHinge", {}, FIRST, FIFTY),
    ("Dice", {}, [[0.0, 0.0]], [[0.0, 0.0]]),
    ("Tversky", {}, [[0.0, 0.0]], [[0.0, 0.0]]),
    # One anchor without a row of its label, and all of one label.
    ("Circle", {}, [0, 0, 1], [[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]),
    ("Circle", {}, [1, 1], [[1.0, 0.0], [0.0, 1.0]]),
    # Similarities of more than one.
    ("Circle", {"gamma": 2.0}, [0, 0, 1], [[1.5, 0.0], [1.2, 0.5], [0.9, 0.9]]),
    ("CTC", {}, [[1, 0], [1, 2]], [FIFTY, FIFTY]),
)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options", "y_true", "y_pred"), EXTREMES)
def test_at_extremes_a_rule_is_keras_and_finite_where_keras_is(
    name: str, options: dict[str, Any], y_true: Any, y_pred: Any, dtype: str
) -> None:
    import tensorflow as tf

    if is_rounded_by_keras(name, options):
        dtype = "float32"
    target = tf.constant(y_true, "int32" if PER_SAMPLE[name].sparse else dtype)
    prediction = tf.constant(y_pred, dtype)
    loss = keras_loss(Trial(name, "", "", options))
    ours, our_gradient = value_and_gradient(lambda p: PER_SAMPLE[name].function(target, p, **options), prediction)
    theirs, their_gradient = value_and_gradient(lambda p: loss.call(target, p), prediction)
    assert np.isfinite(theirs).all()
    close(ours, theirs)
    assert np.array_equal(np.isfinite(our_gradient), np.isfinite(their_gradient))
    finite = np.isfinite(their_gradient)
    close(our_gradient[finite], their_gradient[finite])


# What comes before the arithmetic.


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("column", ["targets", "predictions", "both", "neither"])
def test_targets_and_predictions_are_aligned_as_keras_aligns_them(rank: int, column: str) -> None:
    import keras
    import tensorflow as tf

    shape = (4, 3, 2)[:rank]
    y_true = tf.random.stateless_normal(shape + (1,) * (column in ("targets", "both")), (1, 2))
    y_pred = tf.random.stateless_normal(shape + (1,) * (column in ("predictions", "both")), (3, 4))
    value = per_sample(Identified("MeanSquaredError"), y_true, y_pred)
    theirs = keras.losses.MeanSquaredError().call(y_true, y_pred)
    assert value.shape == theirs.shape
    close(value.numpy(), theirs.numpy())
    ours = aligned(y_true, y_pred)
    assert ours[0].shape == ours[1].shape


def test_labels_are_not_broadcast_against_a_column_of_predictions() -> None:
    import tensorflow as tf

    y_true, y_pred = tf.constant([1.0, 2.0, 4.0]), tf.constant([[1.0], [1.0], [1.0]])
    assert per_sample(Identified("MeanSquaredError"), y_true, y_pred).numpy().tolist() == [0.0, 1.0, 9.0]


def test_what_needs_no_alignment_stays_the_same_object() -> None:
    import tensorflow as tf

    y_true, y_pred = tf.zeros((3,)), tf.zeros((3, 1))
    assert aligned(y_true, y_pred)[1] is y_pred
    # Sparse labels: the last axis of the predictions is the classes.
    classes = tf.zeros((3, 5))
    assert aligned(y_true, classes) == (y_true, classes)


HEADS = (
    ("BinaryCrossentropy", "sigmoid", {}, "binary"),
    ("BinaryCrossentropy", "sigmoid", {"label_smoothing": 0.2}, "binary"),
    ("BinaryFocalCrossentropy", "sigmoid", {}, "binary"),
    ("CategoricalCrossentropy", "softmax", {}, "onehot"),
    ("CategoricalCrossentropy", "softmax", {"label_smoothing": 0.2}, "onehot"),
    ("SparseCategoricalCrossentropy", "softmax", {}, "label"),
    ("SparseCategoricalCrossentropy", "softmax", {"ignore_class": 0}, "label"),
)
SATURATED = [[60.0, -60.0, 0.0], [-1.0, 2.0, 0.5], [0.0, 90.0, -90.0]]
TARGETS: dict[str, Any] = {
    "binary": [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]],
    "onehot": [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
    "label": [1, 0, 2],
}


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(("name", "activation", "options", "target"), HEADS)
def test_a_saturated_activation_is_judged_by_its_inputs_where_keras_does(
    name: str, activation: str, options: dict[str, Any], target: str, graph: bool
) -> None:
    import keras
    import tensorflow as tf

    loss = getattr(keras.losses, name)(reduction=None, **options)
    identified = identify(loss)
    assert identified is not None
    y_true, logits = tf.constant(TARGETS[target]), tf.constant(SATURATED)

    def both(inputs: Any) -> tuple[Any, Any]:
        y_pred = keras.activations.get(activation)(inputs)
        return per_sample(identified, y_true, y_pred), loss(y_true, y_pred)

    ours, theirs = (tf.function(both) if graph else both)(logits)
    close(ours.numpy(), theirs.numpy())
    # From clipped probabilities no loss is above -log(1e-7), which is 16.1.
    assert np.max(ours) > 20 or "ignore_class" in options


def test_a_tensor_operation_after_the_activation_leaves_the_probabilities() -> None:
    import keras
    import tensorflow as tf

    y_pred = tf.identity(keras.activations.softmax(tf.constant(SATURATED)))
    y_true = tf.constant(TARGETS["onehot"])
    value = per_sample(Identified("CategoricalCrossentropy"), y_true, y_pred)
    close(value.numpy(), keras.losses.CategoricalCrossentropy(reduction=None)(y_true, y_pred).numpy())
    assert np.max(value) == pytest.approx(-math.log(1e-7), rel=1e-5)


@pytest.mark.parametrize("options", [{"ignore_class": 0}, {"ignore_class": -1}, {}])
def test_the_ignored_class_does_not_count_in_keras_mean(options: dict[str, Any]) -> None:
    import keras
    import tensorflow as tf

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, **options)
    y_true, y_pred = tf.constant([[1], [0], [2]]), tf.constant(SATURATED)
    assert mean_of_counted(loss, y_true, y_pred) == pytest.approx(float(loss(y_true, y_pred)), rel=1e-6)


def test_circle_losses_of_zero_do_not_count_in_keras_mean() -> None:
    import keras
    import tensorflow as tf

    y_true, y_pred = tf.constant([0, 0, 1]), tf.constant([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    loss = keras.losses.Circle(gamma=4.0)
    identified = identify(loss)
    assert identified is not None
    kept = counted(identified, y_true, per_sample(identified, y_true, y_pred))
    assert kept is not None
    assert kept.numpy().tolist() == [True, True, False]
    assert mean_of_counted(loss, y_true, y_pred) == pytest.approx(float(loss(y_true, y_pred)), rel=1e-6)


def test_whether_a_circle_loss_is_zero_is_said_by_the_precision_of_the_training() -> None:
    import tensorflow as tf

    values = tf.constant([1.0, 1e-60], tf.float64)
    for dtype, expected in (("float32", [True, False]), ("float64", [True, True])):
        kept = counted(Identified("Circle"), None, values, dtype=dtype)
        assert kept is not None
        assert kept.numpy().tolist() == expected


def mean_of_counted(loss: Any, y_true: Any, y_pred: Any) -> float:
    identified = identify(loss)
    assert identified is not None
    values = per_sample(identified, y_true, y_pred)
    kept = counted(identified, y_true, values)
    return float(np.mean(values if kept is None else values.numpy()[kept.numpy()]))


# What compile was given.


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("mse", "MeanSquaredError"),
        ("MSE", "MeanSquaredError"),
        ("mean_squared_error", "MeanSquaredError"),
        ("MeanSquaredError", "MeanSquaredError"),
        ("kld", "KLDivergence"),
        ("bce", "BinaryCrossentropy"),
        ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy"),
        ({"class_name": "Huber", "config": {"delta": 2.0}}, "Huber"),
    ],
)
def test_names_are_identified(given: Any, name: str) -> None:
    identified = identify(given)
    assert identified is not None
    assert (identified.name, identified.reduction) == (name, "sum_over_batch_size")


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_every_class_and_its_function_are_identified(name: str) -> None:
    import keras

    for given in (keras_classes()[name](), getattr(keras.losses, PER_SAMPLE[name].function.__name__)):
        identified = identify(given)
        assert identified is not None
        assert identified.name == name


def test_options_and_reduction_are_identified() -> None:
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=3, reduction="sum")
    assert identify(loss) == Identified(
        "SparseCategoricalCrossentropy", {"from_logits": True, "ignore_class": 3, "axis": -1}, "sum"
    )
    for given, expected in (("mean", "sum_over_batch_size"), ("none", None), (None, None)):
        identified = identify(keras.losses.Huber(delta=3.0, reduction=given))
        assert identified == Identified("Huber", {"delta": 3.0}, expected)
    weighted = identify(keras.losses.Huber(reduction="mean_with_sample_weight"))
    assert weighted is not None
    assert weighted.reduction == "mean_with_sample_weight"


def test_crossentropy_is_identified_by_the_shapes() -> None:
    for target, output, name in (
        ((None, 1), (None, 1), "BinaryCrossentropy"),
        ((None,), (None, 3), "SparseCategoricalCrossentropy"),
        ((None, 1), (None, 3), "SparseCategoricalCrossentropy"),
        ((None, 3), (None, 3), "CategoricalCrossentropy"),
    ):
        identified = identify("crossentropy", target, output)
        assert identified is not None
        assert identified.name == name
    with pytest.raises(ValueError, match="give both"):
        identify("ce")
    with pytest.raises(ValueError, match="no_such_loss"):
        identify("no_such_loss")


def test_what_is_not_keras_own_is_not_identified() -> None:
    import functools

    import keras

    class Inherits(keras.losses.Huber):
        pass

    class Overrides(keras.losses.Huber):
        def call(self, y_true: Any, y_pred: Any) -> Any:
            return super().call(y_true, y_pred)

    class Own(keras.losses.Loss):
        def call(self, y_true: Any, y_pred: Any) -> Any:
            return y_pred - y_true

    def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
        return y_pred - y_true

    wrapper = keras.losses.MeanSquaredError.__mro__[1]
    patched = keras.losses.Huber()
    patched.call = lambda y_true, y_pred: y_pred
    for given in (
        Overrides(),
        Own(),
        mean_squared_error,
        wrapper(mean_squared_error),
        functools.partial(keras.losses.huber, delta=2.0),
        patched,
        None,
    ):
        assert identify(given) is None, given
    inherits = identify(Inherits(delta=2.0))
    wrapped = identify(wrapper(keras.losses.huber, delta=2.0))
    assert inherits == wrapped == Identified("Huber", {"delta": 2.0})


# Where Keras deviates. Each of these fails once Keras no longer does; then its dispute goes.


def disputed(name: str, options: dict[str, Any], y_true: Any, y_pred: Any) -> tuple[Any, Any, Any]:
    """The rule, the rule as Keras, and Keras: values and gradients, in one array each."""
    import tensorflow as tf

    loss = keras_loss(Trial(name, "", "", options))
    identified = identify(loss)
    assert identified is not None
    target = tf.constant(y_true, "int32" if PER_SAMPLE[name].sparse else "float32")
    prediction = tf.constant(y_pred, "float32")
    functions = (
        lambda p: per_sample(identified, target, p),
        lambda p: per_sample(identified, target, p, as_keras=True),
        lambda p: loss.call(target, p),
    )
    pairs = [value_and_gradient(function, prediction) for function in functions]
    ours, as_keras, theirs = (np.concatenate([np.ravel(part) for part in pair]) for pair in pairs)
    return ours, as_keras, theirs


CHANNELS_FIRST = np.moveaxis(np.eye(3)[[[0, 2], [1, 1]]], -1, 1)
SCORES = np.random.default_rng(5).uniform(0.1, 0.9, (2, 3, 2))

DEVIATIONS: tuple[tuple[str, str, dict[str, Any], Any, Any], ...] = (
    ("tversky_coefficients_swapped", "Tversky", {"alpha": 0.9, "beta": 0.1}, [[1.0, 1.0, 0.0]], [[0.8, 0.3, 0.4]]),
    (
        "smoothing_counts_last_axis",
        "CategoricalCrossentropy",
        {"label_smoothing": 0.2, "axis": 1},
        CHANNELS_FIRST,
        SCORES,
    ),
    (
        "smoothing_counts_last_axis",
        "CategoricalFocalCrossentropy",
        {"label_smoothing": 0.2, "axis": 1},
        CHANNELS_FIRST,
        SCORES,
    ),
    (
        "gradient_takes_targets_to_sum_to_one",
        "CategoricalCrossentropy",
        {"from_logits": True},
        [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0]],
        [[0.5, 1.0, -1.0], [0.2, 0.0, 0.3]],
    ),
    (
        "column_of_labels_broadcast",
        "CategoricalGeneralizedCrossEntropy",
        {},
        [[0], [1], [1]],
        [[0.7, 0.3], [0.2, 0.8], [0.6, 0.4]],
    ),
)


@pytest.mark.parametrize(("dispute", "name", "options", "y_true", "y_pred"), DEVIATIONS)
def test_a_disputed_loss_is_keras_as_keras_and_is_not_otherwise(
    dispute: str, name: str, options: dict[str, Any], y_true: Any, y_pred: Any
) -> None:
    assert name in next(known.losses for known in DISPUTES if known.name == dispute)
    ours, as_keras, theirs = disputed(name, options, y_true, y_pred)
    close(as_keras, theirs)
    assert ours.shape != theirs.shape or np.abs(ours - theirs).max() > 0.01


@pytest.mark.parametrize("name", AS_KERAS)
def test_a_disputed_loss_is_undisputed_elsewhere(name: str) -> None:
    for trial in TRIALS:
        if trial.name == name:
            y_true, y_pred = drawn(trial, 2)
            values = [
                value_and_gradient(
                    lambda p, t=y_true, one=trial, way=way: per_sample(
                        Identified(one.name, one.options), t, p, as_keras=way
                    ),
                    y_pred,
                )
                for way in (False, True)
            ]
            for plain, as_keras in zip(*values, strict=True):
                np.testing.assert_allclose(plain, as_keras, rtol=1e-12, atol=1e-12)


def test_weights_of_classes_lie_along_their_axis_and_in_keras_along_the_last() -> None:
    options = {"alpha": [0.2, 0.3, 0.5], "axis": 1}
    square = np.random.default_rng(6).uniform(0.1, 0.9, (2, 3, 3))
    targets = np.moveaxis(np.eye(3)[[[0, 2, 1], [1, 1, 0]]], -1, 1)
    ours, as_keras, theirs = disputed("CategoricalFocalCrossentropy", options, targets, square)
    close(as_keras, theirs)
    assert np.abs(ours - theirs).max() > 0.01


@pytest.mark.parametrize(
    ("name", "activation", "target"),
    [("BinaryCrossentropy", "softmax", "binary"), ("CategoricalCrossentropy", "sigmoid", "onehot")],
)
def test_the_wrong_activations_inputs_are_no_logits_but_in_keras(name: str, activation: str, target: str) -> None:
    import keras
    import tensorflow as tf

    y_true = tf.constant(TARGETS[target])
    y_pred = keras.activations.get(activation)(tf.constant(SATURATED))
    loss = getattr(keras.losses, name)(reduction=None)
    identified = identify(loss)
    assert identified is not None
    ours = per_sample(identified, y_true, y_pred).numpy()
    # What the loss is of the same numbers when nothing is known of where they are from.
    close(ours, loss(y_true, y_pred.numpy()).numpy())
    as_keras = per_sample(identified, y_true, y_pred, as_keras=True).numpy()
    close(as_keras, loss(y_true, y_pred).numpy())
    assert np.abs(ours - as_keras).max() > 1


def test_ctc_of_too_few_steps_is_infinite_but_in_keras() -> None:
    ours, _, theirs = disputed("CTC", {}, [[1, 1, 2]], np.zeros((1, 3, 3)))
    assert math.isinf(ours[0])
    assert 600 < theirs[0] < 800
