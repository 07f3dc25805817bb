"""Chapter 6, second part: constraints of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conformance.errors import UnsupportedError
from conformance.referee.apply_rules import Arrays, Rules, like
from conformance.referee.base_rules import Array
from conformance.referee.clause import clause

EPSILON = 1e-7
"""What Keras adds to a norm it divides by, `keras.config.epsilon()`."""

_CONSTRAINTS = "https://keras.io/api/layers/constraints/"


@dataclass(frozen=True)
class Constraint:
    """A variable's constraint.

    Attributes:
        name: its class in `keras.constraints`.
        config: its `get_config()`.
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)


@clause("6.11", source=f"{_CONSTRAINTS}; https://keras.io/api/optimizers/, gradient_accumulation_steps")
def constrained(
    variables: Arrays, constraints: Mapping[str, Constraint], updates: bool, rules: Rules
) -> dict[str, Array]:
    """A variable with a constraint is projected after its update, and after the moving averages were taken and written;
    a step that only accumulates gradients leaves it as it is.
    """
    left = dict(variables)
    for path, constraint in constraints.items():
        if constraint.name not in CONSTRAINT_RULES:
            raise UnsupportedError(f"{constraint.name} of {path} is no constraint of keras.constraints")
        if updates and path in left:
            left[path] = rules[CONSTRAINT_RULES[constraint.name]](left[path], constraint.config)
    return left


CONSTRAINT_RULES = {
    "MaxNorm": "max_norm",
    "NonNeg": "non_neg",
    "UnitNorm": "unit_norm",
    "MinMaxNorm": "min_max_norm",
}
"""The clause of each class of `keras.constraints`."""


def _norms(w: Array, config: Mapping[str, Any]) -> Array:
    axis = config["axis"]
    norms: Array = np.sqrt((w * w).sum(axis=tuple(axis) if isinstance(axis, list) else axis, keepdims=True))
    return norms


def _rescaled(w: Array, norms: Array, wanted: Array) -> Array:
    return np.asarray(w * (wanted / (norms + like(w, EPSILON))))


@clause("6.12", source=f"{_CONSTRAINTS}#maxnorm-class")
def max_norm(w: Array, config: Mapping[str, Any]) -> Array:
    """MaxNorm makes w = w min(|w|, max_value) / (|w| + 1e-7), |w| being the L2 norm along its axis."""
    norms = _norms(w, config)
    return _rescaled(w, norms, np.minimum(norms, like(w, config["max_value"])))


@clause("6.13", source=f"{_CONSTRAINTS}#nonneg-class")
def non_neg(w: Array, config: Mapping[str, Any]) -> Array:
    """NonNeg makes w = max(w, 0)."""
    return np.asarray(np.maximum(w, like(w, 0)))


@clause("6.14", source=f"{_CONSTRAINTS}#unitnorm-class")
def unit_norm(w: Array, config: Mapping[str, Any]) -> Array:
    """UnitNorm makes w = w / (|w| + 1e-7), |w| being the L2 norm along its axis."""
    norms = _norms(w, config)
    return _rescaled(w, norms, np.ones_like(norms))


@clause("6.15", source=f"{_CONSTRAINTS}#minmaxnorm-class")
def min_max_norm(w: Array, config: Mapping[str, Any]) -> Array:
    """MinMaxNorm makes w = w (rate min(max(|w|, min_value), max_value) + (1 - rate) |w|) / (|w| + 1e-7), |w| being the
    L2 norm along its axis.
    """
    norms, rate = _norms(w, config), like(w, config["rate"])
    within = np.clip(norms, like(w, config["min_value"]), like(w, config["max_value"]))
    return _rescaled(w, norms, rate * within + (like(w, 1) - rate) * norms)
