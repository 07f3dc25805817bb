"""The referee's metrics: against the documentation's values and against Keras's running ones, over uneven batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conformance.referee.loss_rules import identify
from conformance.referee.metric_rules import METRIC_RULES, identify_metric
from conformance.referee.metric_value_rules import metric_weights, weighted_mean

ROWS = [[0, 1], [0, 0]]
ONES = [[1, 1], [0, 0]]
SCORES = [[0.6, 0.4], [0.4, 0.6]]
PAGE = "https://keras.io/api/metrics/"

# The class, its options, targets, predictions, the documented value, documented weights and the value with them.
DOCUMENTED: tuple[tuple[str, dict[str, Any], Any, Any, float, Any, float], ...] = (
    ("MeanSquaredError", {}, ROWS, ONES, 0.25, [1, 0], 0.5),
    ("MeanAbsoluteError", {}, ROWS, ONES, 0.25, [1, 0], 0.5),
    ("MeanAbsolutePercentageError", {}, ROWS, ONES, 250000000.0, [1, 0], 500000000.0),
    ("MeanSquaredLogarithmicError", {}, ROWS, ONES, 0.12011322, [1, 0], 0.24022643),
    ("RootMeanSquaredError", {}, ROWS, ONES, 0.5, [1, 0], 0.70710677),
    ("CosineSimilarity", {"axis": 1}, [[0.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]], 0.5, [0.3, 0.7], 0.6999999),
    ("LogCoshError", {}, ROWS, ONES, 0.10844523, [1, 0], 0.21689045),
    ("KLDivergence", {}, ROWS, SCORES, 0.45814306, [1, 0], 0.9162892),
    ("Poisson", {}, ROWS, ONES, 0.49999997, [1, 0], 0.99999994),
    ("BinaryCrossentropy", {}, ROWS, SCORES, 0.81492424, [1, 0], 0.9162905),
    (
        "CategoricalCrossentropy",
        {},
        [[0, 1, 0], [0, 0, 1]],
        [[0.05, 0.95, 0], [0.1, 0.8, 0.1]],
        1.1769392,
        [0.3, 0.7],
        1.6271976,
    ),
    (
        "SparseCategoricalCrossentropy",
        {},
        [1, 2],
        [[0.05, 0.95, 0], [0.1, 0.8, 0.1]],
        1.1769392,
        [0.3, 0.7],
        1.6271976,
    ),
    ("Hinge", {}, ROWS, SCORES, 1.3, [1, 0], 1.1),
    ("SquaredHinge", {}, ROWS, SCORES, 1.86, [1, 0], 1.46),
    ("CategoricalHinge", {}, ROWS, SCORES, 1.4, [1, 0], 1.2),
    ("Accuracy", {}, [[1], [2], [3], [4]], [[0], [2], [3], [4]], 0.75, [1, 1, 0, 0], 0.5),
    ("BinaryAccuracy", {}, [[1], [1], [0], [0]], [[0.98], [1], [0], [0.6]], 0.75, [1, 0, 0, 1], 0.5),
    ("CategoricalAccuracy", {}, [[0, 0, 1], [0, 1, 0]], [[0.1, 0.9, 0.8], [0.05, 0.95, 0]], 0.5, [0.7, 0.3], 0.3),
    ("SparseCategoricalAccuracy", {}, [[2], [1]], [[0.1, 0.6, 0.3], [0.05, 0.95, 0]], 0.5, [0.7, 0.3], 0.3),
    (
        "TopKCategoricalAccuracy",
        {"k": 1},
        [[0, 0, 1], [0, 1, 0]],
        [[0.1, 0.9, 0.8], [0.05, 0.95, 0]],
        0.5,
        [0.7, 0.3],
        0.3,
    ),
    ("SparseTopKCategoricalAccuracy", {"k": 1}, [2, 1], [[0.1, 0.9, 0.8], [0.05, 0.95, 0]], 0.5, [0.7, 0.3], 0.3),
    ("Precision", {}, [0, 1, 1, 1], [1, 0, 1, 1], 0.6666667, [0, 0, 1, 0], 1.0),
    ("Recall", {}, [0, 1, 1, 1], [1, 0, 1, 1], 0.6666667, [0, 0, 1, 0], 1.0),
    ("Mean", {}, None, [1, 3, 5, 7], 4.0, [1, 1, 0, 0], 2.0),
)


@pytest.mark.parametrize(("name", "options", "targets", "outputs", "plain", "weights", "weighted"), DOCUMENTED)
def test_a_metric_has_its_documented_value(
    name: str, options: dict[str, Any], targets: Any, outputs: Any, plain: float, weights: Any, weighted: float
) -> None:
    target = [None if targets is None else np.array(targets)]
    output = [np.array(outputs, np.float64)]
    value = METRIC_RULES[name].value
    assert value(target, output, None, **options) == pytest.approx(plain, rel=5e-7), PAGE
    assert value(target, output, [np.array(weights)], **options) == pytest.approx(weighted, rel=5e-7), PAGE


def test_every_rule_has_a_documented_value() -> None:
    assert {name for name, *_ in DOCUMENTED} == METRIC_RULES.keys()


TRIALS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("MeanSquaredError", "real", "real", {}),
    ("MeanAbsoluteError", "real", "real", {}),
    ("MeanAbsolutePercentageError", "real", "real", {}),
    ("MeanSquaredLogarithmicError", "positive", "positive", {}),
    ("RootMeanSquaredError", "real", "real", {}),
    ("CosineSimilarity", "real", "real", {}),
    ("LogCoshError", "real", "real", {}),
    ("KLDivergence", "simplex", "simplex", {}),
    ("Poisson", "positive", "positive", {}),
    ("BinaryCrossentropy", "binary", "probability", {}),
    ("BinaryCrossentropy", "binary", "real", {"from_logits": True, "label_smoothing": 0.2}),
    ("CategoricalCrossentropy", "onehot", "simplex", {"label_smoothing": 0.1}),
    ("CategoricalCrossentropy", "onehot", "real", {"from_logits": True}),
    ("SparseCategoricalCrossentropy", "label", "real", {"from_logits": True}),
    ("Hinge", "binary", "real", {}),
    ("SquaredHinge", "binary", "real", {}),
    ("CategoricalHinge", "onehot", "real", {}),
    ("Accuracy", "binary", "bits", {}),
    ("BinaryAccuracy", "binary", "probability", {}),
    ("BinaryAccuracy", "binary", "probability", {"threshold": 0.3}),
    ("CategoricalAccuracy", "onehot", "simplex", {}),
    ("SparseCategoricalAccuracy", "label", "simplex", {}),
    ("TopKCategoricalAccuracy", "onehot", "simplex", {"k": 2}),
    ("SparseTopKCategoricalAccuracy", "label", "simplex", {"k": 2}),
    ("Precision", "binary", "probability", {}),
    ("Precision", "binary", "probability", {"thresholds": 0.7}),
    ("Recall", "binary", "probability", {}),
)


def batches(target: str, output: str, rank: int, seed: int = 0) -> tuple[list[Any], list[Any]]:
    """Batches of five, three and one row, as `fit` sees them; the numbers are float32."""
    rng = np.random.default_rng(seed)
    targets, outputs = [], []
    for rows in (5, 3, 1):
        shape = (rows, 3, 4) if rank == 3 else (rows, 4)
        real = rng.normal(size=shape)
        simplex = np.exp(real) / np.exp(real).sum(-1, keepdims=True)
        kinds = {
            "real": real,
            "positive": rng.uniform(0.2, 2, shape),
            "simplex": simplex,
            "probability": rng.uniform(0.05, 0.95, shape),
            "bits": rng.integers(0, 2, shape),
            "binary": rng.integers(0, 2, shape),
            "onehot": np.eye(4)[rng.integers(0, 4, shape[:-1])],
            "label": rng.integers(0, 4, shape[:-1]),
        }
        outputs.append(kinds[output].astype("float32"))
        kinds["real"] = rng.normal(size=shape) + 3
        kinds["simplex"] = kinds["simplex"][..., ::-1]
        targets.append(kinds[target].astype("int32" if target == "label" else "float32"))
    return targets, outputs


def of_keras(name: str, options: dict[str, Any], targets: Any, outputs: Any, weights: Any = None) -> float:
    import keras

    metric = getattr(keras.metrics, name)(**options)
    assert identify_metric(metric) is not None
    for index, pair in enumerate(zip(targets, outputs, strict=True)):
        metric.update_state(*pair, sample_weight=None if weights is None else weights[index])
    return float(metric.result())


@pytest.mark.parametrize("weighting", ["none", "rows", "positions"])
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize(("name", "target", "output", "options"), TRIALS)
def test_a_metric_over_uneven_batches_is_keras_running_one(
    name: str, target: str, output: str, options: dict[str, Any], rank: int, weighting: str
) -> None:
    targets, outputs = batches(target, output, rank)
    rng = np.random.default_rng(7)
    leading = 1 if weighting == "rows" or rank == 2 else 2
    weights = [rng.uniform(0, 2, np.shape(each)[:leading]).astype("float32") for each in outputs]
    given = None if weighting == "none" else weights
    theirs = given
    if rank == 3 and leading == 1 and given is not None:
        # A weight a row: Keras takes it for one a position, or fails, unless it is a column (see below).
        theirs = [each.reshape(-1, 1) for each in given]
        if name in ("Precision", "Recall"):
            theirs = [np.repeat(each, 3, axis=1) for each in theirs]
    ours = METRIC_RULES[name].value(targets, outputs, given, **options)
    assert ours == pytest.approx(of_keras(name, options, targets, outputs, theirs), rel=2e-6, abs=2e-6)


def test_every_rule_but_the_mean_of_values_is_tried_against_keras() -> None:
    assert {name for name, *_ in TRIALS} == METRIC_RULES.keys() - {"Mean"}


def test_a_metric_is_no_mean_of_its_batches() -> None:
    targets, outputs = batches("real", "real", 2)
    value = METRIC_RULES["MeanSquaredError"].value
    whole = value([np.concatenate(targets)], [np.concatenate(outputs)])
    assert value(targets, outputs) == pytest.approx(whole, rel=1e-12)
    parts = [value([target], [output]) for target, output in zip(targets, outputs, strict=True)]
    assert abs(np.mean(parts) - whole) > 0.01
    root = METRIC_RULES["RootMeanSquaredError"].value(targets, outputs)
    assert root == pytest.approx(np.sqrt(whole), rel=1e-12)


def test_the_mean_of_values_is_keras_mean() -> None:
    import keras

    values, weights = [2.0, 3.5, np.array([1.0, 4.0, 8.0])], [5, 3, np.array([1.0, 0.5, 0.0])]
    metric = keras.metrics.Mean()
    for value, weight in zip(values, weights, strict=True):
        metric.update_state(value, sample_weight=weight)
    ours = METRIC_RULES["Mean"].value(None, values, weights)
    # (2 · 5 + 3.5 · 3 + 1 · 1 + 4 · 0.5) / (5 + 3 + 1.5).
    assert ours == pytest.approx(23.5 / 9.5, rel=1e-12)
    assert float(metric.result()) == pytest.approx(ours, rel=1e-6)
    assert weighted_mean([2.0, 4.0]) == 3.0
    assert weighted_mean([]) == weighted_mean([np.ones(2)], [np.zeros(2)]) == 0.0


def test_labels_are_not_broadcast_against_a_column_of_predictions() -> None:
    labels, column = np.array([1.0, 0.0, 1.0, 1.0], "float32"), np.array([[0.9], [0.2], [0.4], [0.7]], "float32")
    for name, rule in METRIC_RULES.items():
        if name not in ("Mean", "CategoricalAccuracy", "TopKCategoricalAccuracy") and "Sparse" not in name:
            flat = rule.value([labels], [column])
            assert flat == pytest.approx(rule.value([labels[:, np.newaxis]], [column]), rel=1e-12), name


@pytest.mark.parametrize("name", ["Poisson", "Hinge", "SquaredHinge", "CategoricalHinge", "KLDivergence"])
def test_keras_broadcasts_labels_against_a_column_in_the_metrics_that_do_not_align(name: str) -> None:
    labels, column = np.array([1.0, 0.0, 1.0, 1.0], "float32"), np.array([[0.9], [0.2], [0.4], [0.7]], "float32")
    ours = METRIC_RULES[name].value([labels], [column])
    assert of_keras(name, {}, [labels[:, np.newaxis]], [column]) == pytest.approx(ours, rel=1e-6)
    assert abs(of_keras(name, {}, [labels], [column]) - ours) > 0.01


def test_ties_count_for_the_target_among_the_best_k_and_for_the_first_in_accuracy() -> None:
    targets, outputs = [np.eye(3, dtype="float32")], [np.array([[1, 1, 1], [1, 1, 0], [2, 1, 1]], "float32")]
    for name, options in (("TopKCategoricalAccuracy", {"k": 1}), ("CategoricalAccuracy", {})):
        ours = METRIC_RULES[name].value(targets, outputs, None, **options)
        assert ours == pytest.approx(of_keras(name, options, targets, outputs), rel=1e-6)
    assert METRIC_RULES["TopKCategoricalAccuracy"].value(targets, outputs, k=1) == pytest.approx(2 / 3)
    assert METRIC_RULES["CategoricalAccuracy"].value(targets, outputs) == pytest.approx(1 / 3)


def test_what_is_the_threshold_is_not_above_it() -> None:
    targets, outputs = [np.array([1.0, 1.0, 0.0, 1.0], "float32")], [np.array([0.5, 0.6, 0.5, 0.1], "float32")]
    for name, expected in (("BinaryAccuracy", 0.5), ("Precision", 1.0), ("Recall", 1 / 3)):
        assert METRIC_RULES[name].value(targets, outputs) == pytest.approx(expected, rel=1e-12)
        assert of_keras(name, {}, targets, outputs) == pytest.approx(expected, rel=1e-6)


def test_the_threshold_is_compared_in_the_precision_of_the_predictions() -> None:
    # float32(0.3) is above 0.3, but not above float32(0.3).
    targets, outputs = [np.array([[0.0]], "float32")], [np.array([[0.3]], "float32")]
    assert METRIC_RULES["BinaryAccuracy"].value(targets, outputs, threshold=0.3) == 1.0
    assert of_keras("BinaryAccuracy", {"threshold": 0.3}, targets, outputs) == 1.0


def test_sample_weights_count_for_weighted_metrics_only_and_masks_for_all() -> None:
    weight, mask = np.array([2.0, 3.0]), np.array([[True, False, True], [True, True, False]])
    assert metric_weights(weight, None, weighted=False) is None
    assert metric_weights(None, None, weighted=True) is None
    assert np.array_equal(metric_weights(weight, None, weighted=True), weight)
    assert np.array_equal(metric_weights(weight, mask, weighted=False), mask)
    assert np.array_equal(metric_weights(weight, mask, weighted=True), [[2, 0, 2], [3, 3, 0]])


@pytest.mark.parametrize("name", ["MeanSquaredError", "BinaryAccuracy", "RootMeanSquaredError", "Precision"])
def test_a_mask_of_the_predictions_counts_in_keras_as_the_rule_says(name: str) -> None:
    import keras
    import tensorflow as tf

    mask = np.array([[True, True, False], [True, False, False]])
    y_true = np.array([[[1.0], [0.0], [1.0]], [[0.0], [1.0], [0.0]]])
    y_pred = tf.constant([[[0.9], [0.6], [0.2]], [[0.7], [0.1], [0.8]]])
    y_pred._keras_mask = tf.constant(mask)
    metric = getattr(keras.metrics, name)()
    metric.update_state(y_true, y_pred)
    rule = METRIC_RULES[name]
    masked, whole = (
        rule.value([y_true], [y_pred.numpy()], None if kept is None else [metric_weights(None, kept, weighted=False)])
        for kept in (mask, None)
    )
    assert abs(masked - whole) > 0.01
    assert float(metric.result()) == pytest.approx(masked if rule.masked else whole, rel=1e-6)


@pytest.mark.parametrize("name", METRIC_RULES)
def test_every_class_is_identified(name: str) -> None:
    import keras

    identified = identify_metric(getattr(keras.metrics, name)())
    assert identified is not None
    assert identified[0] == name


def test_names_functions_and_options_are_identified() -> None:
    import keras

    for given, expected in (
        ("mse", ("MeanSquaredError", {})),
        ("mean_absolute_error", ("MeanAbsoluteError", {})),
        (keras.losses.mean_squared_error, ("MeanSquaredError", {})),
        (keras.metrics.log_cosh, ("LogCoshError", {})),
        (keras.metrics.binary_accuracy, ("BinaryAccuracy", {})),
        (keras.metrics.MeanMetricWrapper(keras.losses.poisson), ("Poisson", {})),
        (keras.metrics.BinaryAccuracy(threshold=0.2), ("BinaryAccuracy", {"threshold": 0.2})),
        (keras.metrics.CosineSimilarity(axis=1), ("CosineSimilarity", {"axis": 1})),
        (keras.metrics.Precision(thresholds=0), ("Precision", {"thresholds": 0.0})),
        (keras.metrics.TopKCategoricalAccuracy(k=3), ("TopKCategoricalAccuracy", {"k": 3})),
    ):
        assert identify_metric(given) == expected


def test_accuracy_is_identified_by_the_shapes() -> None:
    for target, output, name in (
        ((None, 1), (None, 1), "BinaryAccuracy"),
        ((None,), (None, 3), "SparseCategoricalAccuracy"),
        ((None, 1), (None, 3), "SparseCategoricalAccuracy"),
        ((None, 3), (None, 3), "CategoricalAccuracy"),
    ):
        assert identify_metric("accuracy", target, output) == (name, {})
    with pytest.raises(ValueError, match="give both"):
        identify_metric("acc")
    with pytest.raises(ValueError, match="no_such_metric"):
        identify_metric("no_such_metric")


def test_what_has_no_rule_is_not_identified() -> None:
    import keras

    class Own(keras.metrics.MeanSquaredError):
        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            super().update_state(y_true, y_pred, None)

    def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
        return y_pred - y_true

    for given in (
        Own(),
        mean_squared_error,
        keras.metrics.MeanMetricWrapper(mean_squared_error),
        keras.metrics.AUC(),
        keras.metrics.Precision(thresholds=[0.2, 0.4]),
        keras.metrics.Recall(top_k=2),
        keras.metrics.SparseTopKCategoricalAccuracy(from_sorted_ids=True),
        # Whether what is ignored counts depends in Keras on whether there are sample weights.
        keras.metrics.SparseCategoricalCrossentropy(ignore_class=0),
        # As a metric, its values are those of the loss, with the other sign.
        keras.losses.cosine_similarity,
        keras.losses.huber,
        # A loss object gives one number a batch, so that its mean is a mean of means.
        keras.losses.MeanSquaredError(),
    ):
        assert identify_metric(given) is None, given
    assert identify(keras.losses.MeanSquaredError()) is not None
