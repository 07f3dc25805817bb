"""The CTC loss, by its forward recursion.

The key idea is Graves's: put a blank around every label, and a path reads that row from left to right, at each step
staying, going one on, or skipping a blank between two different labels. The recursion adds up the probabilities of all
paths, in logarithms, a step of time at once for all places.
"""

from __future__ import annotations

from typing import Any

from conformance.referee.clause import clause

BLANK = 0
_NEVER = -1e30
"""The logarithm of no probability: finite, for with infinities there would be no gradients, and far below any other."""


@clause("3.25", source="Graves et al. 2006, Connectionist Temporal Classification, equations 5 to 8 and 12")
def ctc(y_true: Any, y_pred: Any) -> Any:
    """The CTC loss of a sample is -log of the summed probability of all paths that give its labels once repeats are
    merged and blanks taken out.

    It is infinite where there are fewer steps than the labels need.

    Args:
        y_true: labels of shape `(batch, length)`; 0 is the blank, and pads at the end.
        y_pred: logits of shape `(batch, time, classes)`, the time known.

    Returns:
        Values of shape `(batch,)`.
    """
    import tensorflow as tf

    label = tf.cast(y_true, tf.int32)
    length = tf.math.count_nonzero(label != BLANK, axis=1, dtype=tf.int32)
    places = _between_blanks(label)
    log_probability = tf.gather(tf.math.log_softmax(y_pred, -1), places, axis=2, batch_dims=1)

    before_last = _moved(places, 2, BLANK)
    never = tf.constant(_NEVER, y_pred.dtype)
    may_skip = (places != BLANK) & (places != before_last)
    first = tf.range(tf.shape(places)[1]) < 2
    reached = tf.where(first, log_probability[:, 0], never)
    for time in range(1, y_pred.shape[1]):
        ways = [reached, _moved(reached, 1, _NEVER), tf.where(may_skip, _moved(reached, 2, _NEVER), never)]
        reached = log_probability[:, time] + tf.reduce_logsumexp(tf.stack(ways), 0)

    at_blank = tf.gather(reached, 2 * length, axis=1, batch_dims=1)
    at_label = tf.gather(reached, tf.maximum(2 * length - 1, 0), axis=1, batch_dims=1)
    ends = tf.stack([at_blank, tf.where(length > 0, at_label, never)])
    log_sum = tf.reduce_logsumexp(ends, 0)
    return tf.where(log_sum < _NEVER / 2, tf.constant(float("inf"), y_pred.dtype), -log_sum)


def _between_blanks(label: Any) -> Any:
    import tensorflow as tf

    pairs = tf.stack([tf.fill(tf.shape(label), BLANK), label], 2)
    return tf.pad(tf.reshape(pairs, (tf.shape(label)[0], -1)), [[0, 0], [0, 1]], constant_values=BLANK)


def _moved(row: Any, by: int, filling: float) -> Any:
    import tensorflow as tf

    return tf.pad(row[:, :-by], [[0, 0], [by, 0]], constant_values=filling)
