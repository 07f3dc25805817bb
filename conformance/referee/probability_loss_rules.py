"""Losses of predicted probabilities, or of the logits they come from.

All take predictions of shape `(batch, ..., d)` and return values of shape `(batch, ...)` in their dtype. Logarithms of
probabilities are kept finite as Keras documents it: probabilities are clipped by 1e-7. Cross-entropies of logits are
written with `log_softmax` and `softplus`, the logarithms of the probabilities themselves, and need no clipping.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conformance.referee.clause import clause
from conformance.referee.common_loss_rules import EPSILON, clipped

_PAGE = "https://keras.io/api/losses/probabilistic_losses/"
_FOCAL = "Lin et al. 2017, Focal Loss for Dense Object Detection (arXiv 1708.02002)"

Axis = int | Sequence[int] | None


@clause("3.11", source=f"{_PAGE}#kldivergence-class")
def kl_divergence(y_true: Any, y_pred: Any) -> Any:
    """The Kullback-Leibler divergence of a sample is sum(t log(t / p)), t and p being clipped to [1e-7, 1]."""
    import tensorflow as tf

    target, probability = clipped(y_true, high=1.0), clipped(y_pred, high=1.0)
    return tf.reduce_sum(target * tf.math.log(target / probability), -1)


@clause("3.12", source=f"{_PAGE}#poisson-class")
def poisson(y_true: Any, y_pred: Any) -> Any:
    """The Poisson loss of a sample is mean(p - t log(p + 1e-7)), over the last axis."""
    import tensorflow as tf

    return tf.reduce_mean(y_pred - y_true * tf.math.log(y_pred + EPSILON), -1)


@clause("3.13", source=f"{_PAGE}#binarycrossentropy-class")
def binary_crossentropy(
    y_true: Any, y_pred: Any, *, from_logits: bool = False, label_smoothing: float = 0.0, axis: Axis = -1
) -> Any:
    """The binary cross-entropy of a sample is mean(-t log(p) - (1 - t) log(1 - p)), over the axis.

    With `from_logits`, p = sigmoid(y_pred), else y_pred clipped to [1e-7, 1 - 1e-7]. With `label_smoothing` s, the
    targets are t (1 - s) + s / 2.
    """
    import tensorflow as tf

    target = _smoothed(y_true, label_smoothing, 2)
    return tf.reduce_mean(_binary_terms(target, y_pred, from_logits), axis)


def _binary_terms(target: Any, y_pred: Any, from_logits: bool) -> Any:
    import tensorflow as tf

    if from_logits:
        return target * tf.math.softplus(-y_pred) + (1 - target) * tf.math.softplus(y_pred)
    probability = clipped(y_pred)
    return -target * tf.math.log(probability) - (1 - target) * tf.math.log(1 - probability)


@clause("3.14", source=f"{_FOCAL}, equations 4 and 5")
def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    *,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: Axis = -1,
) -> Any:
    """The binary focal loss is the mean of (1 - q)^gamma times the cross-entropy, where q = t p + (1 - t)(1 - p).

    With `apply_class_balancing`, it is also weighted with t alpha + (1 - t)(1 - alpha). Probabilities, logits and
    smoothing are those of the binary cross-entropy, and p in the factor is not clipped.
    """
    import tensorflow as tf

    target = _smoothed(y_true, label_smoothing, 2)
    probability = tf.math.sigmoid(y_pred) if from_logits else y_pred
    right = target * probability + (1 - target) * (1 - probability)
    terms = (1 - right) ** gamma * _binary_terms(target, y_pred, from_logits)
    if apply_class_balancing:
        terms *= target * alpha + (1 - target) * (1 - alpha)
    return tf.reduce_mean(terms, axis)


@clause("3.15", source=f"{_PAGE}#categoricalcrossentropy-class")
def categorical_crossentropy(
    y_true: Any, y_pred: Any, *, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Any:
    """The categorical cross-entropy of a sample is -sum(t log(p)), over the axis of the classes.

    With `from_logits`, p = softmax(y_pred), else y_pred divided by its sum and clipped to [1e-7, 1 - 1e-7]. With
    `label_smoothing` s and k classes, the targets are t (1 - s) + s / k.
    """
    import tensorflow as tf

    target = _smoothed(y_true, label_smoothing, y_pred.shape[axis])
    if from_logits:
        return -tf.reduce_sum(target * tf.math.log_softmax(y_pred, axis), axis)
    return -tf.reduce_sum(target * tf.math.log(_normalized(y_pred, axis)), axis)


@clause("3.16", source=f"{_FOCAL}, equation 5, summed over the classes")
def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    *,
    alpha: float | Sequence[float] = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """The categorical focal loss of a sample is -sum(alpha (1 - p)^gamma t log(p)), over the axis of the classes.

    The probabilities p and the smoothing are those of the categorical cross-entropy of probabilities; logits are made
    probabilities first. `alpha` is one weight, or one for each class.
    """
    import tensorflow as tf

    target = _smoothed(y_true, label_smoothing, y_pred.shape[axis])
    probability = _normalized(tf.math.softmax(y_pred, axis) if from_logits else y_pred, axis)
    weight = per_class(alpha, probability, axis) * (1 - probability) ** gamma
    return -tf.reduce_sum(weight * target * tf.math.log(probability), axis)


@clause("3.17", source=f"{_PAGE}#sparsecategoricalcrossentropy-class")
def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, *, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Any:
    """The sparse categorical cross-entropy of a sample is -log(p / sum(p)) at its label, and 0 for the ignored class.

    With `from_logits`, p = softmax(y_pred), else y_pred clipped to [1e-7, 1 - 1e-7]. The labels are integers, of the
    predictions' shape without the axis of the classes, or with that axis of length one.
    """
    import tensorflow as tf

    label = labels(y_true, y_pred, axis)
    ignored = tf.zeros_like(label, tf.bool) if ignore_class is None else tf.equal(label, ignore_class)
    # A label that is ignored need not be one of the classes.
    chosen = tf.one_hot(
        tf.where(ignored, tf.zeros_like(label), label), y_pred.shape[axis], axis=axis, dtype=y_pred.dtype
    )
    scores = y_pred if from_logits else tf.math.log(clipped(y_pred))
    values = -tf.reduce_sum(chosen * tf.math.log_softmax(scores, axis), axis)
    return tf.where(ignored, tf.zeros_like(values), values)


@clause("3.18", source="Zhang and Sabuncu 2018, Generalized Cross Entropy Loss (arXiv 1805.07836), the L_q loss")
def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, *, q: float = 0.5) -> Any:
    """The generalized cross-entropy of a sample is (1 - p^q) / q, where p is the probability at its label.

    The labels are integers of shape `(batch,)` or `(batch, 1)`.
    """
    import tensorflow as tf

    chosen = tf.one_hot(labels(y_true, y_pred), y_pred.shape[-1], dtype=y_pred.dtype)
    return (1 - tf.reduce_sum(chosen * y_pred, -1) ** q) / q


def labels(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """Integer labels of the predictions' shape without the axis of the classes."""
    import tensorflow as tf

    label = tf.cast(y_true, tf.int64)
    return tf.squeeze(label, axis) if len(label.shape) == len(y_pred.shape) else label


def per_class(weight: float | Sequence[float], y_pred: Any, axis: int) -> Any:
    """One weight, or one for each class, so shaped that it multiplies predictions along the axis of the classes."""
    import tensorflow as tf

    given = tf.constant(weight, y_pred.dtype)
    shape = [1] * len(y_pred.shape)
    shape[axis] = -1
    return tf.reshape(given, shape) if given.shape.rank else given


def _smoothed(target: Any, amount: float, classes: int) -> Any:
    return target * (1 - amount) + amount / classes if amount else target


def _normalized(y_pred: Any, axis: int) -> Any:
    import tensorflow as tf

    return clipped(y_pred / tf.reduce_sum(y_pred, axis, keepdims=True))
