"""Chapter 5: gradients, from each replica's own to what the update rule receives."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from conformance.data import Array
from conformance.referee.base_rules import Slices
from conformance.referee.clause import clause
from conformance.referee.scene import Rules

Gradients = dict[str, Array]
"""Gradients by the variable's name; a variable without one is absent."""


@clause("5.1", source="https://www.tensorflow.org/guide/autodiff")
def differentiated(tape: Any, share: Any, variables: dict[str, Any]) -> Gradients:
    """A replica's gradient is the derivative of its share of the loss with respect to the trainable weights, and to no
    others.
    """
    import tensorflow as tf

    found = tape.gradient(share, [variable.value for variable in variables.values()])
    return {
        name: tf.convert_to_tensor(gradient).numpy()
        for name, gradient in zip(variables, found, strict=True)
        if gradient is not None
    }


def slices_of(tape: Any, share: Any, variables: dict[str, Any]) -> dict[str, Slices]:
    """The gradients that come in parts, one for each use of a row of an embedding."""
    import tensorflow as tf

    found = tape.gradient(share, [variable.value for variable in variables.values()])
    return {
        name: Slices(gradient.values.numpy(), gradient.indices.numpy())
        for name, gradient in zip(variables, found, strict=True)
        if isinstance(gradient, tf.IndexedSlices)
    }


def scaled_to(slices: Slices, gradient: Array) -> Slices:
    """Slices times the one number that makes their sum the gradient, which clipping may have scaled."""
    whole = slices.summed(gradient)
    size = float((whole * whole).sum())
    factor = float((whole * gradient).sum()) / size if size else 1.0
    return Slices(slices.values * factor, slices.rows)


@clause("5.2", source="https://www.tensorflow.org/tutorials/distribute/custom_training")
def summed_over_replicas(parts: Sequence[Gradients], replica: int) -> Gradients:
    """The gradient of a step is the sum of the replicas' gradients, the same on every replica, before anything else is
    done with it.
    """
    return {
        name: np.sum(np.stack([part[name] for part in parts]), axis=0, dtype=value.dtype)
        for name, value in parts[0].items()
    }


@clause("5.4", source="https://keras.io/api/optimizers/loss_scale_optimizer/; Micikevicius et al. 2017, section 3.2")
def loss_scale(config: Mapping[str, Any], slots: Mapping[str, Array]) -> float:
    """The loss is multiplied with the loss scale before it is differentiated: the optimizer's `loss_scale_factor`, or
    the dynamic scale that the step before left.
    """
    dynamic = [value for name, value in slots.items() if name.endswith("dynamic_scale")]
    return float(dynamic[0]) if dynamic else float(config.get("loss_scale_factor") or 1.0)


@clause("5.3", source="https://keras.io/api/optimizers/, variables, apply")
def carried(slots: dict[str, Array], start: dict[str, Array], step: int) -> dict[str, Array]:
    """A step starts from the slots, the count of iterations and the learning rate that the step before left.

    Args:
        slots: the optimizer's variables after the step before.
        start: those the training started from.
        step: the step.
    """
    return slots


@clause("5.5", source="https://keras.io/api/optimizers/, weight_decay; Loshchilov & Hutter 2017, algorithm 2")
def handed_over(gradients: Gradients, variables: Gradients) -> Gradients:
    """The update rule is handed the gradient as clipping left it, and nothing of the weights in it."""
    return gradients


@clause("5.6", source="https://www.tensorflow.org/tutorials/distribute/custom_training")
def gradient_of_no_rows(gradients: Gradients, scales: Collection[str]) -> Gradients:
    """A replica for which a batch has no rows adds the gradient of its share of the penalties, and nothing else.

    Args:
        gradients: the derivative of its share of the loss.
        scales: which of them are the scales of normalizations by the statistics of the batch.
    """
    return gradients


GRADIENT_RULES: Rules = {
    "gradient_of_no_rows": gradient_of_no_rows,
    "handed_over": handed_over,
    "summed_over_replicas": summed_over_replicas,
    "carried": carried,
    "loss_scale": loss_scale,
}
"""The clauses of this chapter that a deviation may replace, by name."""
