"""Losses that want a margin between what is right and what is wrong: the hinges, and Circle for embeddings."""

from __future__ import annotations

from typing import Any

from conformance.referee.clause import clause

_PAGE = "https://keras.io/api/losses/hinge_losses/"


@clause("3.19", source=f"{_PAGE}#hinge-class")
def hinge(y_true: Any, y_pred: Any) -> Any:
    """The hinge loss of a sample is mean(max(1 - t p, 0)), labels t being -1 or 1.

    If all labels of a batch are 0 or 1, they are taken as -1 and 1: the batch decides, not the sample.
    """
    import tensorflow as tf

    return tf.reduce_mean(_shortfall(y_true, y_pred), -1)


@clause("3.20", source=f"{_PAGE}#squaredhinge-class")
def squared_hinge(y_true: Any, y_pred: Any) -> Any:
    """The squared hinge loss of a sample is mean(max(1 - t p, 0)²), labels t being those of the hinge loss."""
    import tensorflow as tf

    return tf.reduce_mean(_shortfall(y_true, y_pred) ** 2, -1)


def _shortfall(y_true: Any, y_pred: Any) -> Any:
    import tensorflow as tf

    binary = tf.reduce_all(tf.equal(y_true, 0) | tf.equal(y_true, 1))
    sign = tf.where(binary, 2 * y_true - 1, y_true)
    return tf.maximum(1 - sign * y_pred, 0)


@clause("3.21", source=f"{_PAGE}#categoricalhinge-class")
def categorical_hinge(y_true: Any, y_pred: Any) -> Any:
    """The categorical hinge loss of a sample is max(1 + max((1 - t) p) - sum(t p), 0), labels t being one-hot."""
    import tensorflow as tf

    right = tf.reduce_sum(y_true * y_pred, -1)
    wrong = tf.reduce_max((1 - y_true) * y_pred, -1)
    return tf.maximum(1 + wrong - right, 0)


@clause("3.24", source="Sun et al. 2020, Circle Loss (arXiv 2002.10857), equations 5 and 6, O_p = 1 + m and O_n = -m")
def circle(y_true: Any, y_pred: Any, *, gamma: float = 80.0, margin: float = 0.4, remove_diagonal: bool = True) -> Any:
    """The circle loss of an anchor is log(1 + sum(exp(gamma a_n (s_n - m))) sum(exp(-gamma a_p (s_p - 1 + m)))), over
    the similarities s_n to the batch's rows of other labels and s_p to those of its own, with the weights
    a_n = max(s_n + m, 0) and a_p = max(1 + m - s_p, 0) and the margin m.

    An anchor is not among its own if `remove_diagonal`. Gradients go through the weights, as through any part of
    equation 6.

    Args:
        y_true: integer labels, of shape `(batch,)` or `(batch, 1)`.
        y_pred: embeddings of length one, of shape `(batch, d)`.
        gamma: the scale.
        margin: m.
        remove_diagonal: whether a row is left out of its own positives.
    """
    import tensorflow as tf

    label = tf.reshape(tf.cast(y_true, tf.int64), (-1, 1))
    same = tf.equal(label, tf.transpose(label))
    itself = tf.cast(tf.eye(tf.shape(label)[0]), tf.bool)
    # Rounding can make a similarity of unit vectors larger than one.
    similarity = tf.minimum(tf.matmul(y_pred, y_pred, transpose_b=True), 1)
    positive = -gamma * tf.maximum(1 + margin - similarity, 0) * (similarity - (1 - margin))
    negative = gamma * tf.maximum(similarity + margin, 0) * (similarity - margin)
    own = _log_sum_exp(positive, same & ~itself if remove_diagonal else same)
    others = _log_sum_exp(negative, ~same)
    return tf.math.softplus(own + others)


def _log_sum_exp(values: Any, where: Any) -> Any:
    import tensorflow as tf

    nothing = tf.constant(float("-inf"), values.dtype)
    return tf.reduce_logsumexp(tf.where(where, values, nothing), 1)
