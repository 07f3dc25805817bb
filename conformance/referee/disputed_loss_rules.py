"""Where Keras computes something else than its own documentation or the paper it names: what it computes there.

The rules of chapter 3 are what a loss means. Where Keras 3.15 is known to deviate, a training is still judged step by
step, and a finding at every step of every training with that loss would hide all others; so the referee can be asked to
follow Keras in exactly these points, each of which has a name, a sentence and its own arithmetic here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.referee import overlap_loss_rules as overlap
from conformance.referee import probability_loss_rules as probability


@dataclass(frozen=True)
class Dispute:
    """A point in which Keras deviates.

    Attributes:
        name: its name.
        losses: the Keras classes it is about.
        sentence: what Keras does instead.
        source: where that was reported or repaired, if it was.
    """

    name: str
    losses: tuple[str, ...]
    sentence: str
    source: str | None = None


DISPUTES = (
    Dispute(
        "tversky_coefficients_swapped",
        ("Tversky",),
        "alpha weighs the false negatives and beta the false positives",
        "https://github.com/keras-team/keras/pull/23333",
    ),
    Dispute(
        "smoothing_counts_last_axis",
        ("CategoricalCrossentropy", "CategoricalFocalCrossentropy"),
        "label smoothing divides by the length of the last axis, though the classes are along another",
        "https://github.com/keras-team/keras/issues/23451",
    ),
    Dispute(
        "class_weights_along_last_axis",
        ("CategoricalFocalCrossentropy",),
        "a list of alphas is laid along the last axis, though the classes are along another",
    ),
    Dispute(
        "gradient_takes_targets_to_sum_to_one",
        ("CategoricalCrossentropy",),
        "the gradient by the logits is softmax(y_pred) - t, though sum(t) is not one: a row without a class has a loss"
        " of 0 and pulls nevertheless",
    ),
    Dispute(
        "column_of_labels_broadcast",
        ("CategoricalGeneralizedCrossEntropy",),
        "labels of shape (n, 1), documented as allowed, give n × n values, each row's probabilities at every row's"
        " label",
    ),
    Dispute(
        "ctc_of_too_few_steps_is_finite",
        ("CTC",),
        "where the labels need more steps than there are, the loss is about 700, with a gradient, and not infinite",
    ),
    Dispute(
        "logits_of_another_activation",
        (
            "BinaryCrossentropy",
            "BinaryFocalCrossentropy",
            "CategoricalCrossentropy",
            "SparseCategoricalCrossentropy",
        ),
        "the inputs of a softmax are taken for those of a sigmoid, or the other way round, so that the loss is not that"
        " of the predictions (the focal loss, which takes but its cross-entropy from them, is not followed in this)",
        "https://github.com/keras-team/keras/issues/15271",
    ),
)
"""Every known dispute. The last one is no loss's arithmetic but which logits it is given (`loss_rules.per_sample`), and
what CTC gives there is nothing to follow."""


def tversky(y_true: Any, y_pred: Any, *, alpha: float = 0.5, beta: float = 0.5, axis: overlap.Axis = None) -> Any:
    """The Tversky loss with its coefficients swapped."""
    return overlap.tversky(y_true, y_pred, alpha=beta, beta=alpha, axis=axis)


def categorical_crossentropy(
    y_true: Any, y_pred: Any, *, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Any:
    """The categorical cross-entropy, smoothed by the last axis, with the gradient of targets that sum to one."""
    import tensorflow as tf

    target = _smoothed(y_true, label_smoothing)
    value = probability.categorical_crossentropy(target, y_pred, from_logits=from_logits, axis=axis)
    if not from_logits:
        return value
    # The value is sum(t) log(sum(exp(x))) - sum(t x); only the first term's gradient is taken as if sum(t) were one.
    surplus = (tf.reduce_sum(target, axis) - 1) * tf.reduce_logsumexp(y_pred, axis)
    return value - surplus + tf.stop_gradient(surplus)


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
    """The categorical focal loss, smoothed by the last axis and weighted along it."""
    weighted = _smoothed(y_true, label_smoothing) * probability.per_class(alpha, y_pred, -1)
    return probability.categorical_focal_crossentropy(
        weighted, y_pred, alpha=1.0, gamma=gamma, from_logits=from_logits, axis=axis
    )


def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, *, q: float = 0.5) -> Any:
    """The generalized cross-entropy of every row's probabilities at every row's label, if the labels are a column."""
    import tensorflow as tf

    if len(y_true.shape) < len(y_pred.shape):
        return probability.categorical_generalized_cross_entropy(y_true, y_pred, q=q)
    chosen = tf.one_hot(tf.cast(y_true, tf.int64), y_pred.shape[-1], dtype=y_pred.dtype)
    return (1 - tf.reduce_sum(chosen * y_pred, -1) ** q) / q


def _smoothed(target: Any, amount: float) -> Any:
    return target * (1 - amount) + amount / target.shape[-1] if amount else target


AS_KERAS: dict[str, Callable[..., Any]] = {
    "Tversky": tversky,
    "CategoricalCrossentropy": categorical_crossentropy,
    "CategoricalFocalCrossentropy": categorical_focal_crossentropy,
    "CategoricalGeneralizedCrossEntropy": categorical_generalized_cross_entropy,
}
"""What Keras computes, by the name of its class, where it deviates."""
