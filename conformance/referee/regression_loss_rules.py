"""Losses of real-valued predictions: how far from the target, in one measure or another.

All take targets and predictions of one shape `(batch, ..., d)` and return the mean over the last axis, of shape
`(batch, ...)`, in the predictions' dtype.
"""

from __future__ import annotations

import math
from typing import Any

from conformance.referee.clause import clause
from conformance.referee.common_loss_rules import EPSILON

_PAGE = "https://keras.io/api/losses/regression_losses/"


@clause("3.4", source=f"{_PAGE}#meansquarederror-class")
def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """The squared error of a sample is mean((t - p)²), over the last axis."""
    import tensorflow as tf

    return tf.reduce_mean((y_true - y_pred) ** 2, -1)


@clause("3.5", source=f"{_PAGE}#meanabsoluteerror-class")
def mean_absolute_error(y_true: Any, y_pred: Any) -> Any:
    """The absolute error of a sample is mean(|t - p|), over the last axis."""
    import tensorflow as tf

    return tf.reduce_mean(tf.abs(y_true - y_pred), -1)


@clause("3.6", source=f"{_PAGE}#meanabsolutepercentageerror-class")
def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Any:
    """The percentage error of a sample is 100 mean(|t - p| / max(|t|, 1e-7)), over the last axis."""
    import tensorflow as tf

    return 100 * tf.reduce_mean(tf.abs(y_true - y_pred) / tf.maximum(tf.abs(y_true), EPSILON), -1)


@clause("3.7", source=f"{_PAGE}#meansquaredlogarithmicerror-class")
def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Any:
    """The squared logarithmic error is mean((log(1 + t) - log(1 + p))²), t and p being at least 1e-7."""
    import tensorflow as tf

    # Not log1p: adding one first is part of the definition, and in float32 it decides what small values are worth.
    logs = [tf.math.log(tf.maximum(value, EPSILON) + 1) for value in (y_true, y_pred)]
    return tf.reduce_mean((logs[0] - logs[1]) ** 2, -1)


@clause("3.8", source=f"{_PAGE}#cosinesimilarity-class")
def cosine_similarity(y_true: Any, y_pred: Any, *, axis: int = -1) -> Any:
    """The cosine loss of a sample is -t·p / (|t| |p|) along an axis, each length taken as at least 1e-7.

    So it is 0 where one of the two is the zero vector.
    """
    import tensorflow as tf

    # The square is bounded and not the root, for the root has no gradient at zero.
    lengths = [
        tf.sqrt(tf.maximum(tf.reduce_sum(value**2, axis, keepdims=True), EPSILON**2)) for value in (y_true, y_pred)
    ]
    return -tf.reduce_sum(y_true / lengths[0] * (y_pred / lengths[1]), axis)


@clause("3.9", source="Huber 1964, Robust Estimation of a Location Parameter, section 1, with k = delta")
def huber(y_true: Any, y_pred: Any, *, delta: float = 1.0) -> Any:
    """The Huber loss is the mean of e²/2 where |e| = |p - t| is at most delta and of delta |e| - delta²/2 elsewhere."""
    import tensorflow as tf

    error = tf.abs(y_pred - y_true)
    return tf.reduce_mean(tf.where(error <= delta, error**2 / 2, delta * error - delta**2 / 2), -1)


@clause("3.10", source=f"{_PAGE}#logcosh-class")
def log_cosh(y_true: Any, y_pred: Any) -> Any:
    """The log-cosh loss of a sample is mean(log(cosh(p - t))), over the last axis.

    Written as |e| + log(1 + exp(-2|e|)) - log 2, which is the same and does not overflow.
    """
    import tensorflow as tf

    error = tf.abs(y_pred - y_true)
    return tf.reduce_mean(error + tf.math.log1p(tf.exp(-2 * error)) - math.log(2), -1)
