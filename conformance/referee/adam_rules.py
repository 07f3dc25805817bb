"""Chapter 7, second part: Adam and its kin, which keep averages of the gradient and of its square."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from conformance.referee.base_rules import Array, Numbers, Updated, UpdateStep, updated
from conformance.referee.clause import clause


def _moments(n: Numbers, g: Array, m: Array, v: Array) -> tuple[Array, Array]:
    """Adam's averages, m = beta_1 m + (1 - beta_1) g and v = beta_2 v + (1 - beta_2) g^2."""
    return n["beta_1"] * m + n.rest("beta_1") * g, n["beta_2"] * v + n.rest("beta_2") * n.squared(g)


@clause(
    "7.7",
    source="https://keras.io/api/optimizers/adam/; Kingma & Ba 2014, end of section 2; Reddi et al. 2018, algorithm 2",
)
def adam(step: UpdateStep) -> Updated:
    """Adam, and AdamW after its decay: m = beta_1 m + (1 - beta_1) g, v = beta_2 v + (1 - beta_2) g^2 and
    w = w - lr m sqrt(1 - beta_2^t) / ((1 - beta_1^t) (sqrt(v) + epsilon)), with AMSGrad the largest v so far for v.
    """

    def rule(n: Numbers, g: Array, w: Array, m: Array, v: Array, *largest: Array) -> tuple[Array, ...]:
        m, v = _moments(n, g, m, v)
        largest = tuple(np.maximum(other, v) for other in largest)
        rate = n.learning_rate * np.sqrt(n.one - n["beta_2"] ** n.t) / (n.one - n["beta_1"] ** n.t)
        return w - rate * m / (np.sqrt((*largest, v)[0]) + n["epsilon"]), m, v, *largest

    slots = ("momentum", "velocity", "velocity_hat") if step.config["amsgrad"] else ("momentum", "velocity")
    return updated(step, slots, rule)


@clause("7.8", source="https://keras.io/api/optimizers/adamax/; Kingma & Ba 2014, algorithm 2")
def adamax(step: UpdateStep) -> Updated:
    """Adamax: m = beta_1 m + (1 - beta_1) g, u = max(beta_2 u, |g|) and
    w = w - lr m / ((1 - beta_1^t) (u + epsilon)).
    """

    def rule(n: Numbers, g: Array, w: Array, m: Array, u: Array) -> tuple[Array, ...]:
        m, u = n["beta_1"] * m + n.rest("beta_1") * g, np.maximum(n["beta_2"] * u, n.magnitude(g))
        return w - n.learning_rate / (n.one - n["beta_1"] ** n.t) * m / (u + n["epsilon"]), m, u

    return updated(step, ("momentum", "norm"), rule)


@clause("7.9", source="https://keras.io/api/optimizers/nadam/; Dozat 2015, algorithm 8")
def nadam(step: UpdateStep) -> Updated:
    """Nadam: with u(t) = beta_1 (1 - 0.96^t / 2) and p the product of u(1) to u(t), m and v as Adam's and
    w = w - lr (u(t+1) m / (1 - p u(t+1)) + (1 - u(t)) g / (1 - p)) / (sqrt(v / (1 - beta_2^t)) + epsilon).

    Dozat's experiments slow the schedule u down to 0.96^(t / 250) and average m with u(t) in the place of beta_1; Keras
    does neither, and documents no schedule.
    """
    key = product_key(step.slots)

    def momentum(n: Numbers, t: Any) -> Any:
        return n["beta_1"] * (n.one - n(0.5) * n(0.96) ** t)

    def before(n: Numbers) -> Any:
        if key is not None:
            return n(np.asarray(step.slots[key]).item())
        product = n.one
        for t in range(1, step.iterations + 1):
            product = product * momentum(n, n(t))
        return product

    def rule(n: Numbers, g: Array, w: Array, m: Array, v: Array) -> tuple[Array, ...]:
        now, following = momentum(n, n.t), momentum(n, n.t + n.one)
        product = before(n) * now
        beta_1, beta_2 = n["beta_1"], n["beta_2"]
        m, v = beta_1 * m + (n.one - beta_1) * g, beta_2 * v + (n.one - beta_2) * n.squared(g)
        ahead = following * m / (n.one - product * following) + (n.one - now) * g / (n.one - product)
        spread = np.sqrt(v / (n.one - beta_2**n.t))
        return w - n.learning_rate * ahead / (spread + n["epsilon"]), m, v

    made = updated(step, ("momentum", "velocity"), rule)
    if key is None:
        return made
    n = Numbers(step, np.asarray(step.slots[key]).dtype)
    return Updated(made.variables, {**made.slots, key: np.asarray(before(n) * momentum(n, n.t))})


def product_key(slots: Iterable[str]) -> str | None:
    """What Nadam's product is called: Keras gives it no name, so it is `variable`, or `variable_3` beside others.

    It is None where there is no such slot: inside another optimizer, Keras does not count it among the variables.

    Raises:
        ValueError: when there is more than one.
    """
    found = [name for name in slots if re.fullmatch(r"variable(_\d+)?", name)]
    if len(found) > 1:
        raise ValueError(f"{', '.join(found)} are all without a name of their own, but should be Nadam's one product")
    return found[0] if found else None


@clause("7.10", source="https://keras.io/api/optimizers/lamb/; You et al. 2019, algorithm 2")
def lamb(step: UpdateStep) -> Updated:
    """LAMB: m and v as Adam's, r = m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon) and w = w - lr r |w| /
    |r|, with 1 for |w| / |r| where either L2 norm is 0.

    The paper has the weight decay in r; Keras decays every optimizer's weights before the step, this one's too.
    """

    def rule(n: Numbers, g: Array, w: Array, m: Array, v: Array) -> tuple[Array, ...]:
        m, v = _moments(n, g, m, v)
        r = m / (n.one - n["beta_1"] ** n.t) / (np.sqrt(v / (n.one - n["beta_2"] ** n.t)) + n["epsilon"])
        of_w, of_r = np.sqrt((w * w).sum()), np.sqrt((r * r).sum())
        trust = of_w / of_r if of_w > 0 and of_r > 0 else n.one
        return w - n.learning_rate * trust * r, m, v

    return updated(step, ("momentum", "velocity"), rule)


@clause(
    "7.11",
    source="https://keras.io/api/optimizers/schedule_free_adamw/; Defazio et al. 2024, equations 1 to 3, algorithm 1",
)
def schedule_free_adamw(step: UpdateStep) -> Updated:
    """Schedule-free AdamW: the weights are y = (1 - beta_1) z + beta_1 x, where v = beta_2 v + (1 - beta_2) g^2,
    z = z - lr min(t / warmup, 1) g / (sqrt(v / (1 - beta_2^t)) + epsilon) and x = (1 - 1/t) x + z / t.

    The slot `momentum` is z. x is no slot: it is what y and z before the step say it was, y less its part of z. The
    paper's weights of the average are the squares of the learning rates, 1 / t only where those are equal.
    """
    return schedule_free_adamw_with(step, after=False)


def schedule_free_adamw_with(step: UpdateStep, *, after: bool) -> Updated:
    """Schedule-free AdamW with x taken from z before the step, or after it."""

    def rule(n: Numbers, g: Array, y: Array, z: Array, v: Array) -> tuple[Array, ...]:
        beta, warmup = n["beta_1"], step.config["warmup_steps"]
        rate = n.learning_rate * min(n.t / n(warmup), n.one) if warmup else n.learning_rate
        v = n["beta_2"] * v + (n.one - n["beta_2"]) * n.squared(g)
        moved = z - rate * g / (np.sqrt(v / (n.one - n["beta_2"] ** n.t)) + n["epsilon"])
        x = (y - (n.one - beta) * (moved if after else z)) / beta
        weight = n.one / n.t
        x = (n.one - weight) * x + weight * moved
        return (n.one - beta) * moved + beta * x, moved, v

    return updated(step, ("momentum", "velocity"), rule)
