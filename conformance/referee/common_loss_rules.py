"""What comes before a loss's arithmetic: targets and predictions of one shape, and probabilities that have logits.

The two clauses here hold for every loss, or for every cross-entropy. What they share is that leaving them out changes
no shape and raises nothing: `(n,)` labels broadcast against `(n, 1)` predictions, and a saturated probability loses its
gradient, silently.
"""

from __future__ import annotations

from typing import Any

from conformance.referee.clause import clause

EPSILON = 1e-7
"""Keras's fuzz factor: probabilities are clipped by it, denominators kept away from zero."""
PRECISION = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}
"""Bits behind the point of each floating dtype."""


@clause("3.1", source="https://keras.io/api/losses/#standalone-usage-of-losses")
def aligned(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Targets and predictions whose ranks differ by one are matched by a last axis of length one, never broadcast.

    Args:
        y_true: targets, of any dtype.
        y_pred: predictions.

    Returns:
        Both, with the last axis of the higher rank taken away if it has length one; only where the other has a batch
        axis alone does the other get one instead, so that `(n,)` labels against `(n, 1)` predictions are `(n, 1)`.
        What is left as it was is the same object.
    """
    if _has_one_more(y_pred, y_true):
        return _matched(y_pred, y_true)[::-1]
    if _has_one_more(y_true, y_pred):
        return _matched(y_true, y_pred)
    return y_true, y_pred


def _has_one_more(higher: Any, lower: Any) -> bool:
    return len(higher.shape) == len(lower.shape) + 1 and higher.shape[-1] == 1


def _matched(higher: Any, lower: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    if len(lower.shape) == 1:
        return higher, tf.expand_dims(lower, -1)
    return tf.squeeze(higher, -1), lower


@clause("3.2", source="keras-team/keras, keras/src/backend/tensorflow/nn.py, _get_logits")
def logits_behind(y_pred: Any, activation: str) -> Any | None:
    """A cross-entropy of what a sigmoid or softmax activation has just made is that of the activation's inputs.

    Probabilities that are zero or one in their precision still have a loss and a gradient then. Not the activation's
    name counts but the tensor: one tensor operation after the activation, a cast or a reshape, and the probabilities
    are all there is.

    Args:
        y_pred: predictions.
        activation: `Sigmoid` or `Softmax`.

    Returns:
        The logits, or None where there are none to be seen. Keras remembers them on what its own activations return,
        whichever of the two made it (see `made_by`); others it recognizes in a graph only.
    """
    import tensorflow as tf

    remembered = getattr(y_pred, "_keras_logits", None)
    if remembered is not None:
        return remembered
    if tf.is_symbolic_tensor(y_pred) and y_pred.op.type == activation:
        return y_pred.op.inputs[0]
    return None


def made_by(activation: str, logits: Any, y_pred: Any, axis: int = -1) -> Any:
    """Whether predictions are that activation of those logits: a boolean scalar."""
    import tensorflow as tf

    expected = tf.math.sigmoid(logits) if activation == "Sigmoid" else tf.exp(tf.math.log_softmax(logits, axis))
    # Rounding of either stays well below, and the two agree nowhere but where all logits are zero.
    allowed = 16 * 2.0 ** -PRECISION[y_pred.dtype.name]
    return tf.reduce_all(tf.abs(expected - y_pred) <= allowed)


def clipped(probability: Any, low: float = EPSILON, high: float = 1 - EPSILON) -> Any:
    """A probability kept so far from zero and one that it has a logarithm."""
    import tensorflow as tf

    return tf.minimum(tf.maximum(probability, low), high)
