"""Faults of layers: of their statistics and random states, which `fit` and the loop share, and of what they give.

What a layer gives is wrong in `fit` alone, for who has the layers' forward pass from Keras has it wrong too.
"""

from __future__ import annotations

from typing import Any

from planting import Method, fault

BATCH_NORMALIZATION = "layers.normalization.batch_normalization:BatchNormalization.call"
STATISTICS = "batchnorm_statistics_not_updated"


@fault(BATCH_NORMALIZATION, stage="state", cause=STATISTICS, within_step=True)
def batchnorm_statistics_not_updated(original: Method, layer: Any, inputs: Any, **options: Any) -> Any:
    """Moving statistics stay what they were."""
    momentum, layer.momentum = layer.momentum, 1.0
    try:
        return original(layer, inputs, **options)
    finally:
        layer.momentum = momentum


@fault(BATCH_NORMALIZATION, stage="state", cause=STATISTICS, shared=True)
def moving_variance_not_updated(original: Method, layer: Any, inputs: Any, **options: Any) -> Any:
    """The moving variance stays what it was; the moving mean is updated."""
    import tensorflow as tf

    before = tf.identity(layer.moving_variance.value)
    outputs = original(layer, inputs, **options)
    if options.get("training"):
        layer.moving_variance.assign(before)
    return outputs


@fault(BATCH_NORMALIZATION, stage="state", shared=True)
def batchnorm_momentum_turned_round(original: Method, layer: Any, inputs: Any, **options: Any) -> Any:
    """The momentum weighs the batch's statistics instead of the moving ones."""
    momentum, layer.momentum = layer.momentum, 1.0 - layer.momentum
    try:
        return original(layer, inputs, **options)
    finally:
        layer.momentum = momentum


@fault("random.seed_generator:SeedGenerator.next", stage="state", cause="random_stream_differs", shared=True)
def seed_not_advanced(original: Method, generator: Any, ordered: bool = True) -> Any:
    """A random layer draws the same numbers at every step."""
    return generator.state.value * 1


@fault("layers.normalization.layer_normalization:LayerNormalization.call", stage="outputs", within_step=True)
def layer_normalization_epsilon_ignored(original: Method, layer: Any, inputs: Any) -> Any:
    """LayerNormalization takes 1e-5 for epsilon, whatever it was given."""
    epsilon, layer.epsilon = layer.epsilon, 1e-5
    try:
        return original(layer, inputs)
    finally:
        layer.epsilon = epsilon


@fault("layers.regularization.dropout:Dropout.call", stage="outputs", within_step=True)
def dropout_not_scaled(original: Method, layer: Any, inputs: Any, training: bool = False) -> Any:
    """What dropout keeps is not divided by the share that it keeps."""
    outputs = original(layer, inputs, training=training)
    return outputs * (1.0 - layer.rate) if training else outputs
