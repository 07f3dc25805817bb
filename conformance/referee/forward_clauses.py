"""Chapters 2 and 8: the forward pass of a training step, and what it leaves in statistics and random states.

The layers' own arithmetic is shared with Keras, but for BatchNormalization, whose statistics are what a training step
changes beside the weights: it is written out here and held against the twin's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.data import Array
from conformance.referee.clause import clause
from conformance.referee.scene import Rules


@dataclass(frozen=True)
class Mode:
    """How the model is called in a step.

    Attributes:
        training: whether in training mode.
        times: how often, before the gradients are applied.
        start: whose weights it runs with: those `before` the step, or those `after` it.
        together: whether all replicas' rows go through it at once, as on one device.
        silent: whether random layers draw nothing.
        anew_every: after how many steps some states are what they were at the training's start; 0 for never.
        anew: a part of the names of these states.
    """

    training: bool = True
    times: int = 1
    start: str = "before"
    together: bool = False
    silent: bool = False
    anew_every: int = 0
    anew: str = "moving_"


@clause("2.1", source="https://keras.io/guides/writing_a_custom_training_loop_in_tensorflow/")
def called(mode: Mode) -> Mode:
    """A training step calls the model once, in training mode, with the weights and states that the step before left,
    the first one with those that the training was given.

    Args:
        mode: what the step does by this sentence.
    """
    return mode


@clause(
    "2.2",
    source="Ioffe & Szegedy 2015, algorithm 1; https://keras.io/api/layers/normalization_layers/batch_normalization/",
)
def normalized(x: Any, mean: Any, variance: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    """BatchNormalization makes x into gamma (x - mean) / sqrt(variance + epsilon) + beta, with the mean and the biased
    variance of the batch in training mode, and with the moving ones in inference mode or where the layer is frozen.

    Args:
        x: a tensor (rows, ...).
        mean: broadcasts against it, like those that follow.
        variance: the variance.
        gamma: the scale, or None.
        beta: the offset, or None.
        epsilon: is added to the variance.
    """
    import tensorflow as tf

    # Multiplied out, as libraries compute it: where the mean is large beside the deviation the two products cancel, and
    # what honest rounding is depends on it.
    scale = tf.math.rsqrt(variance + tf.cast(epsilon, x.dtype))
    scale = scale if gamma is None else scale * tf.cast(gamma, x.dtype)
    offset = -mean * scale if beta is None else tf.cast(beta, x.dtype) - mean * scale
    return x * scale + offset


def moments(x: Any, axes: list[int], *, in_sums: bool = False) -> tuple[Any, Any]:
    """The mean and the biased variance over some axes, which are kept.

    Args:
        x: a tensor.
        axes: the axes.
        in_sums: from the sums of values and of squares, which replicas can add up, and not from deviations.
    """
    import tensorflow as tf

    mean = tf.reduce_mean(x, axes, keepdims=True)
    if in_sums:
        # The difference of two large numbers where the mean is large beside the deviation: that is what rounding is.
        return mean, tf.maximum(tf.reduce_mean(tf.square(x), axes, keepdims=True) - tf.square(mean), 0.0)
    # The mean is held where the variance is differentiated, as libraries have it: deviations from it add up to nothing,
    # but in the arm's precision not quite, and a batch of two rows has gradients no larger than that.
    return mean, tf.reduce_mean(tf.square(x - tf.stop_gradient(mean)), axes, keepdims=True)


@clause(
    "2.3",
    source="Ba, Kiros & Hinton 2016, equation 4; https://keras.io/api/layers/normalization_layers/layer_normalization/",
)
def normalized_by_row(x: Any, axes: list[int], gamma: Any, beta: Any, epsilon: float) -> Any:
    """LayerNormalization makes x into gamma (x - mean) / sqrt(variance + epsilon) + beta, with the mean and the biased
    variance of each sample by itself, in either mode.
    """
    return normalized(x, *moments(x, axes), gamma, beta, epsilon)


@clause("2.4", source="Srivastava et al. 2014, section 10; https://keras.io/api/layers/regularization_layers/dropout/")
def dropped(x: Any, kept: Any, rate: float) -> Any:
    """In training mode, Dropout sets units to zero with probability `rate` and multiplies the others with
    1 / (1 - rate); in inference mode it does nothing.

    Args:
        x: a tensor.
        kept: a boolean tensor that broadcasts against it.
        rate: the probability.
    """
    import tensorflow as tf

    scaled = x / tf.cast(1.0 - rate, x.dtype) if rate < 1.0 else tf.zeros_like(x)
    return tf.where(kept, scaled, tf.zeros_like(x))


@clause("8.1", source="https://keras.io/api/layers/normalization_layers/batch_normalization/")
def moved(before: Any, batch: Any, momentum: float) -> Any:
    """A step in training mode moves a statistic to momentum times itself plus (1 - momentum) times the batch's; one in
    inference mode leaves it alone.
    """
    import tensorflow as tf

    return before * tf.cast(momentum, before.dtype) + tf.cast(batch, before.dtype) * tf.cast(
        1.0 - momentum, before.dtype
    )


@clause("8.2", source="https://keras.io/api/random/seed_generator/")
def counted_draws(before: Array, draws: int) -> Array:
    """Each draw takes the random state one further: its second number counts the draws."""
    return np.asarray(before + np.array([0, draws], before.dtype))


@clause("8.3", source="https://keras.io/api/layers/normalization_layers/batch_normalization/")
def states_left(before: Mapping[str, Array], after: Mapping[str, Array]) -> dict[str, Array]:
    """A training step leaves the statistics and random states that its forward pass left, each replica its own.

    Args:
        before: by name, what the step started from.
        after: what its forward pass left.
    """
    return dict(after)


@clause("8.4", source="https://www.tensorflow.org/tutorials/distribute/custom_training")
def statistics_of_no_rows(before: Mapping[str, Array], after: Mapping[str, Array]) -> dict[str, Array]:
    """A replica for which a batch has no rows has no statistics to add, and leaves the moving ones as they were.

    Args:
        before: statistics and random states by name, what the step started from.
        after: what a forward pass of no rows left.
    """
    return {name: after[name] if "seed_generator" in name else before[name] for name in after}


FORWARD_RULES: Rules = {
    "called": called,
    "states_left": states_left,
    "statistics_of_no_rows": statistics_of_no_rows,
}
"""The clauses of these chapters that a deviation may replace, by name."""
