"""Chapter 6, first part: what an optimizer does around its update rule, a clause each.

The order of these clauses is `optimizer_step`'s. Each takes and gives arrays by variable path, in their own dtype.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.referee.base_rules import Array, Slices
from conformance.referee.clause import clause
from conformance.referee.matrix_rules import muon_uses_adam

Arrays = Mapping[str, Array]
Rules = Mapping[str, Callable[..., Any]]
"""The clauses by function name; a caller may have replaced some."""

_OPTIMIZER = "https://keras.io/api/optimizers/"


def like(array: Array, value: float) -> Any:
    """A number in an array's dtype."""
    return np.asarray(array).dtype.type(value)


@clause("6.2", source=f"{_OPTIMIZER}, loss_scale_factor")
def unscaled(gradients: Arrays, scale: float) -> dict[str, Array]:
    """Gradients of a loss that was multiplied with a scale are divided by it before anything else is done with them."""
    return {path: np.asarray(value / like(value, scale)) for path, value in gradients.items()}


@dataclass(frozen=True)
class Accumulated:
    """What accumulation makes of a step's gradients.

    Attributes:
        received: the gradients to update with; None on a step that only accumulates.
        held: the accumulators after the step.
    """

    received: dict[str, Array] | None
    held: dict[str, Array]


@clause("6.3", source=f"{_OPTIMIZER}, gradient_accumulation_steps")
def accumulated(gradients: Arrays, held: Arrays, steps: int, iterations: int) -> Accumulated:
    """With gradient accumulation over n steps, every n-th step updates, with the mean of the gradients since the last
    update, and the steps between only add theirs to what is held.
    """
    sums = {path: np.asarray(value + held[path]) for path, value in gradients.items()}
    if (iterations + 1) % steps:
        return Accumulated(None, {**held, **sums})
    means = {path: np.asarray(value / like(value, steps)) for path, value in sums.items()}
    return Accumulated(means, {path: np.zeros_like(value) for path, value in held.items()})


@clause("6.4", source=f"{_OPTIMIZER}, clipnorm, global_clipnorm, clipvalue")
def clipped(gradients: Arrays, config: Mapping[str, Any], rules: Rules) -> dict[str, Array]:
    """Gradients are clipped after their reduction and accumulation and before weight decay, in the one of the three
    ways that the optimizer has a limit for, if any.
    """
    for limit, name in CLIPPING_RULES.items():
        if config.get(limit):
            return dict(rules[name](gradients, config[limit]))
    return dict(gradients)


CLIPPING_RULES = {
    "clipnorm": "clipped_by_norm",
    "global_clipnorm": "clipped_by_global_norm",
    "clipvalue": "clipped_by_value",
}
"""The clause of each clipping option."""


@clause("6.5", source=f"{_OPTIMIZER}, clipvalue")
def clipped_by_value(gradients: Arrays, limit: float) -> dict[str, Array]:
    """Clipping by value c makes each element of a gradient min(max(g, -c), c)."""
    return {p: np.clip(g, -like(g, limit), like(g, limit)) for p, g in gradients.items()}


@clause("6.6", source=f"{_OPTIMIZER}, clipnorm")
def clipped_by_norm(gradients: Arrays, limit: float) -> dict[str, Array]:
    """Clipping by norm c makes each variable's gradient g c / max(|g|, c), |g| being its own L2 norm."""
    return {p: np.asarray(g * like(g, limit) / max(_norm(g), like(g, limit))) for p, g in gradients.items()}


def _norm(value: Array) -> Any:
    return np.sqrt((value * value).sum())


@clause(
    "6.7", source=f"{_OPTIMIZER}, global_clipnorm; https://www.tensorflow.org/api_docs/python/tf/clip_by_global_norm"
)
def clipped_by_global_norm(gradients: Arrays, limit: float) -> dict[str, Array]:
    """Clipping by global norm c makes every gradient g c / max(G, c), G being the L2 norm of all gradients together,
    and NaN where G is not finite.
    """
    joint = np.sqrt(np.sum([_norm(value) ** 2 for value in gradients.values()]))
    scales = {p: like(g, limit) / max(joint.astype(g.dtype), like(g, limit)) for p, g in gradients.items()}
    lost = not np.isfinite(joint)
    return {p: np.asarray(g * (like(g, np.nan) if lost else scales[p])) for p, g in gradients.items()}


@clause("6.8", source=f"{_OPTIMIZER}, weight_decay, exclude_from_weight_decay; Loshchilov & Hutter 2017, algorithm 2")
def decayed(
    variables: Arrays, config: Mapping[str, Any], learning_rate: float, excluded: Collection[str] = ()
) -> dict[str, Array]:
    """Weight decay is decoupled from the gradient: before the update, w = w - w decay lr, for every variable that has a
    gradient and is not excluded.
    """
    left = dict(variables)
    for path, w in variables.items():
        decay = _decay(path, np.ndim(w), config)
        if decay is not None and path not in excluded:
            left[path] = np.asarray(w - w * like(w, decay) * like(w, learning_rate))
    return left


def _decay(path: str, dimensions: int, config: Mapping[str, Any]) -> float | None:
    """An optimizer's decay of a variable; Muon has one of its own for what it leaves to Adam."""
    name = "weight_decay"
    if "adam_weight_decay" in config and muon_uses_adam(path, dimensions, config):
        name = "adam_weight_decay"
    decay: float | None = config.get(name)
    return decay


@clause("6.9", source=f"{_OPTIMIZER}, use_ema, ema_momentum, gradient_accumulation_steps")
def averaged(
    averages: Arrays, variables: Arrays, config: Mapping[str, Any], iterations: int, updates: bool
) -> dict[str, Array]:
    """The moving average of the weights is, at each update, average = momentum average + (1 - momentum) w, and w itself
    at the first; a step that only accumulates gradients leaves it as it is.
    """
    if not updates:
        return dict(averages)
    first = _updates(config, iterations) == 0
    left = {}
    for path, average in averages.items():
        momentum = like(average, 0.0 if first else config["ema_momentum"])
        left[path] = np.asarray(momentum * average + (like(average, 1) - momentum) * variables[path])
    return left


def _updates(config: Mapping[str, Any], iterations: int) -> int:
    """The updates made in so many steps."""
    return iterations // (config.get("gradient_accumulation_steps") or 1)


@clause("6.10", source=f"{_OPTIMIZER}, ema_overwrite_frequency, gradient_accumulation_steps")
def overwritten(
    variables: Arrays, averages: Arrays, config: Mapping[str, Any], iterations: int, updates: bool
) -> dict[str, Array]:
    """Every `ema_overwrite_frequency` updates, right after the update, the moving averages are written into the
    weights.
    """
    frequency = config.get("ema_overwrite_frequency")
    due = updates and frequency and (_updates(config, iterations) + 1) % frequency == 0
    return {**variables, **(averages if due else {})}


@clause("6.26", source="https://www.tensorflow.org/api_docs/python/tf/IndexedSlices; Duchi et al. 2011, figure 1")
def combined(slices: Mapping[str, Slices]) -> Mapping[str, Slices]:
    """The gradient of a row that a batch uses more than once is the sum of its parts, and is summed before anything is
    done with it that is not linear.

    Args:
        slices: by path the gradients that came in parts.

    Returns:
        Those whose parts are treated one by one: none.
    """
    return {}


def clipped_in_parts(gradients: Arrays, slices: Mapping[str, Slices], config: Mapping[str, Any]) -> dict[str, Array]:
    """What clipping makes of gradients whose parts are treated one by one: no clause, but what Keras does today.

    Args:
        gradients: by path, summed.
        slices: by path the parts of some of them, as they are before clipping.
        config: the optimizer's; it has a limit of one kind, or none.
    """
    limits = {limit: config[limit] for limit in CLIPPING_RULES if config.get(limit)}
    if "clipvalue" in limits:
        parts = {path: of_value(item, limits["clipvalue"]).summed(gradients[path]) for path, item in slices.items()}
        return clipped_by_value(gradients, limits["clipvalue"]) | parts
    if not limits:
        return dict(gradients)
    (limit,) = limits.values()
    norms = {path: _norm(slices[path].values if path in slices else g) for path, g in gradients.items()}
    if "global_clipnorm" in limits:
        norms = dict.fromkeys(norms, np.sqrt(sum(norm**2 for norm in norms.values())))
    return {path: np.asarray(g * like(g, limit) / max(norms[path], like(g, limit))) for path, g in gradients.items()}


def of_value(slices: Slices, limit: float) -> Slices:
    """A gradient in parts, each clipped by value."""
    return Slices(np.clip(slices.values, -limit, limit), slices.rows)


@clause("6.16", source=f"{_OPTIMIZER}, iterations")
def counted(iterations: Array) -> Array:
    """Every step counts as one iteration, whether or not it updates, unless a loss scale skips it."""
    return np.asarray(iterations + like(iterations, 1))


@clause("6.17", source=f"{_OPTIMIZER}, ema_overwrite_frequency, finalize_variable_values")
def finalized(variables: Arrays, averages: Arrays) -> dict[str, Array]:
    """After the last epoch, the moving averages are written into the weights."""
    return {**variables, **averages}


@dataclass(frozen=True)
class LossScale:
    """A dynamic loss scale after a step.

    Attributes:
        finite: whether the step is made; a skipped one leaves everything but the scale and its counter as it is.
        scale: the scale of the next step's loss.
        counter: steps since the scale last changed.
    """

    finite: bool
    scale: Array
    counter: Array


@clause("6.18", source="https://keras.io/api/optimizers/loss_scale_optimizer/; Micikevicius et al. 2017, section 3.2")
def loss_scaled(gradients: Arrays, scale: Array, counter: Array, growth: int) -> LossScale:
    """A dynamic loss scale is halved, and the step skipped, where any gradient is not finite, and doubled after
    `dynamic_growth_steps` steps in a row without such.
    """
    finite = all(bool(np.isfinite(value).all()) for value in gradients.values())
    grown = finite and int(counter) + 1 >= growth
    factor = 2.0 if grown else 1.0 if finite else 0.5
    count = int(counter) + 1 if finite and not grown else 0
    return LossScale(finite, np.asarray(scale * like(scale, factor)), np.asarray(like(counter, count)))


@clause("6.19", source="https://keras.io/api/optimizers/multi_optimizer/, OptimizerMap")
def routed(path: str, patterns: Collection[str]) -> str | None:
    """Of several optimizers, a variable is updated by the one whose key is its path, or else by the one whose key
    matches the whole path as a regular expression, or else by the default one.

    Raises:
        ValueError: when several keys match.
    """
    if path in patterns:
        return path
    found = [pattern for pattern in patterns if re.fullmatch(pattern, path)]
    if len(found) > 1:
        raise ValueError(f"{path} matches {', '.join(found)}, but should match one key at most")
    return found[0] if found else None
