"""Hypothesis strategies that draw cases and their parts: data, never a Keras object, and no TensorFlow is imported.

Everything drawn is valid by construction. Nothing is drawn and thrown away, so a search spends its time on training,
and the shrinker, whose attempts are as expensive as a training each, does not meet dead ends.

Example:
    >>> import hypothesis
    >>> from conformance import strategies
    >>> case = hypothesis.find(strategies.cases(), lambda case: case.optimizer.name == "Adam")
    >>> [node.layer for node in case.model.nodes]
    ['Dense']
"""

from __future__ import annotations

if __name__ == "strategies":
    raise ImportError("'strategies' is a folder of keras-conformance; import it as conformance.strategies")

from conformance.strategies.cases import cases
from conformance.strategies.data import data
from conformance.strategies.layers import layers
from conformance.strategies.losses import losses
from conformance.strategies.models import models
from conformance.strategies.optimizers import optimizers
from conformance.strategies.register_layer import register_layer
from conformance.strategies.register_loss import register_loss
from conformance.strategies.register_optimizer import register_optimizer
from conformance.strategies.schedules import schedules

__all__ = [
    "cases",
    "data",
    "layers",
    "losses",
    "models",
    "optimizers",
    "register_layer",
    "register_loss",
    "register_optimizer",
    "schedules",
]
