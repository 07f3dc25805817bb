"""Losses of segmentations: how far the predicted region is from overlapping the true one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conformance.referee.clause import clause
from conformance.referee.common_loss_rules import EPSILON

Axis = int | Sequence[int] | None


@clause("3.22", source="Milletari et al. 2016, V-Net (arXiv 1606.04797), section 3, with sums for its sums of squares")
def dice(y_true: Any, y_pred: Any, *, axis: Axis = None) -> Any:
    """The Dice loss is 1 - 2 sum(t p) / (sum(t) + sum(p) + 1e-7), over the axes, or over the whole batch without any.

    Without axes it is one number for the batch, so it is not the mean of what parts of the batch give.
    """
    import tensorflow as tf

    both = tf.reduce_sum(y_true * y_pred, axis)
    return 1 - 2 * both / (tf.reduce_sum(y_true, axis) + tf.reduce_sum(y_pred, axis) + EPSILON)


@clause("3.23", source="Salehi et al. 2017, Tversky loss function (arXiv 1706.05721), equations 2 and 3")
def tversky(y_true: Any, y_pred: Any, *, alpha: float = 0.5, beta: float = 0.5, axis: Axis = None) -> Any:
    """The Tversky loss is 1 - tp / (tp + alpha fp + beta fn + 1e-7), with tp = sum(t p), fp = sum((1 - t) p) and
    fn = sum(t (1 - p)).

    The sums are over the axes, or over the whole batch without any.
    """
    import tensorflow as tf

    both = tf.reduce_sum(y_true * y_pred, axis)
    false_positive = tf.reduce_sum((1 - y_true) * y_pred, axis)
    false_negative = tf.reduce_sum(y_true * (1 - y_pred), axis)
    return 1 - both / (both + alpha * false_positive + beta * false_negative + EPSILON)
