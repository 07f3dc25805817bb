"""Normalization as the referee computes it, in the place of Keras's in a twin.

Statistics couple the rows of a batch and are changed by training, which is where trainings differ, so these layers are
not shared with Keras. Layers of exactly Keras's classes are replaced; a user's subclass keeps its own arithmetic.
"""

from __future__ import annotations

from typing import Any

from conformance.referee.forward_clauses import moments, moved, normalized, normalized_by_row

_WHOLE = ("float32", "float64")
"""The precisions in which these layers compute as they are given their inputs; half ones they leave for their sums."""


def replace_calls(model: Any) -> None:
    """Give the BatchNormalization and LayerNormalization layers of a model the referee's arithmetic."""
    import keras

    for layer in model._flatten_layers():
        if type(layer) is keras.layers.BatchNormalization:
            layer.call = _batch_normalization(layer)
        elif type(layer) is keras.layers.LayerNormalization and not getattr(layer, "rms_scaling", False):
            layer.call = _layer_normalization(layer)


def _batch_normalization(layer: Any) -> Any:
    import tensorflow as tf

    keras_call = type(layer).call

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if mask is not None or layer.compute_dtype not in _WHOLE:
            return keras_call(layer, inputs, training=training, mask=mask)
        # These layers are not given their inputs in their own precision, as others are.
        inputs = tf.cast(inputs, layer.compute_dtype)
        axis = layer.axis % inputs.shape.rank
        axes = [i for i in range(inputs.shape.rank) if i != axis]
        shape = [-1 if i == axis else 1 for i in range(inputs.shape.rank)]
        statistics = (layer.moving_mean, layer.moving_variance)
        if training and layer.trainable:
            mean, variance = moments(inputs, axes, in_sums=getattr(layer, "synchronized", False))
            mean, variance = tf.reshape(mean, [-1]), tf.reshape(variance, [-1])
            for statistic, batch in zip(statistics, (mean, variance), strict=True):
                statistic.assign(moved(statistic.value, batch, layer.momentum))
            # No rows have no statistics, and normalize nothing by them.
            some = tf.size(inputs) > 0
            mean, variance = (tf.where(some, batch, tf.zeros_like(batch)) for batch in (mean, variance))
        else:
            mean, variance = (tf.convert_to_tensor(statistic) for statistic in statistics)
        gamma = tf.reshape(layer.gamma, shape) if layer.scale else None
        beta = tf.reshape(layer.beta, shape) if layer.center else None
        return normalized(inputs, tf.reshape(mean, shape), tf.reshape(variance, shape), gamma, beta, layer.epsilon)

    return call


def _layer_normalization(layer: Any) -> Any:
    import tensorflow as tf

    keras_call = type(layer).call

    def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if layer.compute_dtype not in _WHOLE:
            return keras_call(layer, inputs, *args, **kwargs)
        inputs = tf.cast(inputs, layer.compute_dtype)
        axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
        axes = [axis % inputs.shape.rank for axis in axes]
        shape = [inputs.shape[i] if i in axes else 1 for i in range(inputs.shape.rank)]
        gamma = tf.reshape(layer.gamma, shape) if layer.scale else None
        beta = tf.reshape(layer.beta, shape) if layer.center else None
        return normalized_by_row(inputs, axes, gamma, beta, layer.epsilon)

    return call
