"""Chapter 7, third part: the rules that see a variable as a matrix, Adafactor and Muon."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from conformance.referee.adam_rules import adam
from conformance.referee.base_rules import Array, Numbers, Updated, UpdateStep, distinct, slot_key, updated
from conformance.referee.clause import clause


def factor_keys(variables: Mapping[str, Array], slots: Collection[str]) -> dict[str, tuple[str, str]]:
    """What Adafactor calls the averages over rows and over columns of each matrix: the variable's own name, twice.

    A vector has placeholders of that kind, which are counted too, but not inside of another optimizer.

    Args:
        variables: all that the optimizer was built for, in order.
        slots: the names there are.
    """
    matrices = [path for path, value in variables.items() if np.ndim(value) > 1]
    for ordered in (list(variables), matrices):
        names = distinct(path.rpartition("/")[2] for path in ordered for _ in "rc")
        keys = {path: (names[2 * index], names[2 * index + 1]) for index, path in enumerate(ordered)}
        if all(name in slots for name in names):
            break
    return {path: keys[path] for path in matrices}


def _rms(x: Array) -> Any:
    return np.sqrt((x * x).mean())


@clause("7.12", source="https://keras.io/api/optimizers/adafactor/; Shazeer & Stern 2018, algorithms 4 and 5")
def adafactor(step: UpdateStep) -> Updated:
    """Adafactor: with b = 1 - t^beta_2_decay and s = g^2 + epsilon_1, v = b v + (1 - b) s for a vector and
    v = r c / mean(r) for a matrix, r and c being such averages of s's means over the last and the last but one axis,
    u = g / sqrt(v) and w = w - max(epsilon_2, rms(w)) rho u / max(1, rms(u) / clip_threshold), where rho is
    min(lr, 1 / sqrt(t)) for a constant lr with `relative_step` and lr without.
    """
    constant = isinstance(step.config["learning_rate"], float | int)
    return adafactor_with(step, relative=bool(step.config["relative_step"]) and constant)


def adafactor_with(step: UpdateStep, *, relative: bool) -> Updated:
    """Adafactor with or without relative steps."""
    variables, slots = dict(step.variables), dict[str, Array]()
    keys = factor_keys(step.variables, step.slots)
    for path, gradient in step.gradients.items():
        w = np.asarray(step.variables[path])
        n, g = Numbers(step, w.dtype), np.asarray(gradient).astype(w.dtype)
        v_key, factors = slot_key(path, "velocity"), keys.get(path, ())
        v, *means = (np.asarray(step.slots[key]).astype(w.dtype) for key in (v_key, *factors))
        s, b = g * g + n["epsilon_1"], n.one - n.t ** n["beta_2_decay"]
        if w.ndim < 2:
            v = b * v + (n.one - b) * s
        else:
            r, c = (b * old + (n.one - b) * s.mean(axis=axis) for old, axis in zip(means, (-1, -2), strict=True))
            v = (r / r.mean(axis=-1, keepdims=True))[..., None] * c[..., None, :]
            slots.update(zip(factors, (r, c), strict=True))
        u = g / np.sqrt(v)
        u = u / max(n.one, _rms(u) / n["clip_threshold"])
        rho = min(n.learning_rate, n.one / np.sqrt(n.t)) if relative else n.learning_rate
        variables[path] = np.asarray(w - max(n["epsilon_2"], _rms(w)) * rho * u)
        slots[v_key] = np.asarray(v)
    return Updated(variables, slots)


def _alone(step: UpdateStep, *paths: str, **config: Any) -> UpdateStep:
    """The step of some of its variables, with other hyperparameters where given."""
    return UpdateStep(
        {path: gradient for path, gradient in step.gradients.items() if path in paths},
        {path: variable for path, variable in step.variables.items() if path in paths},
        step.slots,
        step.learning_rate,
        step.iterations,
        {**step.config, **config},
    )


def muon_uses_adam(path: str, dimensions: int, config: Mapping[str, Any]) -> bool:
    """Whether Muon leaves a variable to AdamW: it is no matrix, an embedding, or of an excluded layer."""
    embedding = config["exclude_embeddings"] and "embedding" in path.lower()
    return dimensions != 2 or embedding or any(re.search(word, path) for word in config["exclude_layers"])


@clause(
    "7.13", source="https://keras.io/api/optimizers/muon/; Jordan 2024, github.com/KellerJordan/Muon; Liu et al. 2025"
)
def muon(step: UpdateStep) -> Updated:
    """Muon: a matrix has m = momentum m + g and w = w - lr rms_rate sqrt(max(rows, columns)) O(x), where x is m, or g +
    momentum m with Nesterov's momentum, and O takes x = x / (|x| + 1e-7) and then ns_steps times x = a x + b (x x') x +
    c (x x')^2 x; what is no matrix, an embedding or excluded goes by Adam with the `adam_` options.
    """

    def rule(n: Numbers, g: Array, w: Array, m: Array) -> tuple[Array, ...]:
        m = n["momentum"] * m + g
        x = orthogonalized(n, g + n["momentum"] * m if step.config["nesterov"] else m, step.config["ns_steps"])
        scale = n.one if step.config["rms_rate"] is None else np.sqrt(n(max(w.shape))) * n["rms_rate"]
        return w - n.learning_rate * scale * x, m

    by_adam = {path for path in step.gradients if muon_uses_adam(path, np.ndim(step.variables[path]), step.config)}
    matrices = updated(_alone(step, *(step.gradients.keys() - by_adam)), ("momentum",), rule)
    options = {name: step.config[f"adam_{name}"] for name in ("beta_1", "beta_2")}
    rest = _alone(step, *by_adam, amsgrad=False, **options)
    rate = step.learning_rate * step.config["adam_lr_ratio"]
    others = adam(UpdateStep(rest.gradients, rest.variables, rest.slots, rate, rest.iterations, rest.config))
    variables = {**step.variables, **matrices.variables, **others.variables}
    return Updated(variables, {**matrices.slots, **others.slots})


def orthogonalized(n: Numbers, x: Array, steps: int) -> Array:
    """A matrix with its singular values drawn towards one, by steps of a Newton-Schulz iteration of degree five."""
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (np.sqrt((x * x).sum()) + n(1e-7))
    for _ in range(steps):
        square = x @ x.T
        x = n["muon_a"] * x + (n["muon_b"] * square + n["muon_c"] * (square @ square)) @ x
    return x.T if tall else x
