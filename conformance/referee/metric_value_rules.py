"""What metrics are, in NumPy over all batches seen: no running totals, which is where a metric can go wrong.

Nearly every metric is a mean of something over rows, so a clause is what is averaged, and the average itself is one.
What a metric named after a loss averages is that loss's rule, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.referee.clause import clause
from conformance.referee.loss_rules import Identified, per_sample

Array = npt.NDArray[Any]
Batches = Sequence[Any]
"""One array a batch."""

_ACCURACY = "https://keras.io/api/metrics/accuracy_metrics/"
_CONFUSION = "https://keras.io/api/metrics/classification_metrics/"


@clause("10.1", source="https://keras.io/api/metrics/reduction_metrics/#mean-class")
def weighted_mean(values: Batches, weights: Batches | None = None) -> float:
    """A metric that is a mean is sum(w v) / sum(w) over all rows seen, a row's w v and w averaged over its positions.

    It is 0 where nothing was seen, or nothing that counts.

    Args:
        values: arrays of shape `(rows, ...)`, or single numbers.
        weights: for each array, one of shape `(rows,)` or with leading axes of the values' shape; without, 1 a row.
    """
    total = count = 0.0
    for index, each in enumerate(values):
        value = np.asarray(each, np.float64)
        weight = np.ones(value.shape[:1]) if weights is None else np.asarray(weights[index], np.float64)
        value, weight = _ranks_matched(value, weight)
        value = value.mean(axis=tuple(range(weight.ndim, value.ndim)))
        weight = np.broadcast_to(weight, value.shape)
        positions = tuple(range(1, value.ndim))
        total += float((value * weight).mean(axis=positions).sum())
        count += float(weight.mean(axis=positions).sum())
    return total / count if count else 0.0


@clause("10.2", source="https://keras.io/api/models/model_training_apis/#compile-method")
def metric_weights(sample_weight: Any | None, mask: Any | None, *, weighted: bool) -> Array | None:
    """Sample weights count for `weighted_metrics` and not for `metrics`, a mask of the predictions for both.

    Args:
        sample_weight: of shape `(rows,)`, or one a position.
        mask: of shape `(rows, positions)`; pass None where the metric's rule is not `masked`.
        weighted: whether the metric was given as one of `weighted_metrics`.

    Returns:
        The weights of a batch, or None where all count alike.
    """
    kept = None if mask is None else np.asarray(mask, np.float64)
    if sample_weight is None or not weighted:
        return kept
    weight: Array = np.asarray(sample_weight, np.float64)
    if kept is None:
        return weight
    # A row's weight is that of all its positions.
    both: Array = weight.reshape(weight.shape + (1,) * (kept.ndim - weight.ndim)) * kept
    return both


@clause("10.3", source="https://keras.io/api/metrics/#creating-custom-metrics")
def mean_of_loss(
    targets: Batches, outputs: Batches, weights: Batches | None = None, *, loss: str, **options: Any
) -> float:
    """A metric named after a loss is the mean of that loss's values before reduction.

    Arrays do not say what activation made them: where clause 3.2 holds, the outputs to give are the logits, with
    `from_logits`.
    """
    import tensorflow as tf

    identified = Identified(loss, options)
    values = [
        per_sample(identified, tf.constant(target), tf.constant(output, tf.float64)).numpy()
        for target, output in zip(targets, outputs, strict=True)
    ]
    return weighted_mean(values, weights)


@clause("10.4", source="https://keras.io/api/metrics/regression_metrics/#rootmeansquarederror-class")
def root_mean_squared_error(targets: Batches, outputs: Batches, weights: Batches | None = None) -> float:
    """The root mean squared error is the root of the mean of (p - t)² over everything seen, not a mean of roots."""
    pairs = [_aligned(*pair) for pair in zip(targets, outputs, strict=True)]
    squares = [(output.astype(np.float64) - target) ** 2 for target, output in pairs]
    return math.sqrt(weighted_mean(squares, weights))


@clause("10.5", source="https://keras.io/api/metrics/regression_metrics/#cosinesimilarity-class")
def mean_cosine_similarity(
    targets: Batches, outputs: Batches, weights: Batches | None = None, *, axis: int = -1
) -> float:
    """The cosine similarity is the mean of the cosine loss with its sign changed."""
    return -mean_of_loss(targets, outputs, weights, loss="CosineSimilarity", axis=axis)


@clause("10.6", source=f"{_ACCURACY}#accuracy-class")
def equal(y_true: Any, y_pred: Any) -> Array:
    """An element is accurate if prediction and target are equal."""
    target, output = _aligned(y_true, y_pred)
    return np.asarray(output == target)


@clause("10.7", source=f"{_ACCURACY}#binaryaccuracy-class")
def same_side(y_true: Any, y_pred: Any, *, threshold: float = 0.5) -> Array:
    """An element is accurate, as a binary one, if the target is 1 where the prediction is above the threshold, else 0.

    A prediction that is the threshold, in its own precision, is not above it.
    """
    target, output = _aligned(y_true, y_pred)
    return np.asarray((output > threshold) == target)


@clause("10.8", source=f"{_ACCURACY}#categoricalaccuracy-class")
def same_class(y_true: Any, y_pred: Any) -> Array:
    """A sample is accurate, as a categorical one, if targets and predictions are largest at the same class."""
    return np.asarray(np.argmax(y_true, -1) == np.argmax(y_pred, -1))


@clause("10.9", source=f"{_ACCURACY}#sparsecategoricalaccuracy-class")
def at_label(y_true: Any, y_pred: Any) -> Array:
    """A sample is accurate, as a sparse categorical one, if its predictions are largest at its label."""
    return np.asarray(_labels(y_true, y_pred) == np.argmax(y_pred, -1))


@clause("10.10", source=f"{_ACCURACY}#topkcategoricalaccuracy-class")
def in_top_k(y_true: Any, y_pred: Any, *, k: int = 5) -> Array:
    """A sample is among the best k if less than k classes have a larger prediction than its largest target's class."""
    return label_in_top_k(np.argmax(y_true, -1), y_pred, k=k)


@clause("10.11", source=f"{_ACCURACY}#sparsetopkcategoricalaccuracy-class")
def label_in_top_k(y_true: Any, y_pred: Any, *, k: int = 5) -> Array:
    """A sample is among the best k, as a sparse one, if less than k classes have a larger prediction than its label."""
    scores = np.asarray(y_pred)
    own = np.take_along_axis(scores, _labels(y_true, y_pred)[..., np.newaxis], -1)
    return np.asarray((scores > own).sum(-1) < k)


@clause("10.12", source=f"{_CONFUSION}#precision-class")
def precision(targets: Batches, outputs: Batches, weights: Batches | None = None, *, thresholds: float = 0.5) -> float:
    """Precision is the weight of what is rightly above the threshold, divided by that of all that is above it."""
    right, wrong, _ = _confusion(targets, outputs, weights, thresholds)
    return right / (right + wrong) if right + wrong else 0.0


@clause("10.13", source=f"{_CONFUSION}#recall-class")
def recall(targets: Batches, outputs: Batches, weights: Batches | None = None, *, thresholds: float = 0.5) -> float:
    """Recall is the weight of what is rightly above the threshold, divided by that of all whose target is not zero."""
    right, _, missed = _confusion(targets, outputs, weights, thresholds)
    return right / (right + missed) if right + missed else 0.0


@clause("10.14", source="https://keras.io/api/metrics/reduction_metrics/#mean-class")
def mean_of_values(targets: Batches | None, outputs: Batches, weights: Batches | None = None) -> float:
    """The metric called mean is the mean of the values themselves; there are no targets."""
    del targets
    return weighted_mean(outputs, weights)


def _confusion(
    targets: Batches, outputs: Batches, weights: Batches | None, threshold: float
) -> tuple[float, float, float]:
    """The weights of true positives, false positives and false negatives."""
    sums = [0.0, 0.0, 0.0]
    for index, pair in enumerate(zip(targets, outputs, strict=True)):
        target, output = _aligned(*pair)
        weight = np.ones(output.shape[:1]) if weights is None else np.asarray(weights[index], np.float64)
        weight = weight.reshape(weight.shape + (1,) * (output.ndim - weight.ndim))
        positive, above = target != 0, output > threshold
        for place, kind in enumerate((positive & above, ~positive & above, positive & ~above)):
            sums[place] += float((kind * weight).sum())
    return sums[0], sums[1], sums[2]


def _aligned(y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    """Targets and predictions of one shape, matched by a last axis of length one (clause 3.1, for arrays)."""
    target, output = np.asarray(y_true), np.asarray(y_pred)
    if abs(target.ndim - output.ndim) == 1 and max((target, output), key=np.ndim).shape[-1] == 1:
        target = target.reshape(output.shape)
    return target, output


def _labels(y_true: Any, y_pred: Any) -> Array:
    label = np.asarray(y_true).astype(np.int64)
    return label[..., 0] if label.ndim == np.ndim(y_pred) else label


def _ranks_matched(value: Array, weight: Array) -> tuple[Array, Array]:
    if weight.ndim == value.ndim + 1 and weight.shape[-1] == 1:
        return value, weight[..., 0]
    return value, weight
