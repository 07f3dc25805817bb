"""Chapter 7, first part: descent along the gradient, its sign, and the gradient over the root of its squares."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.referee.base_rules import Array, Numbers, Updated, UpdateStep, updated
from conformance.referee.clause import clause


@clause("7.1", source="https://keras.io/api/optimizers/sgd/")
def sgd(step: UpdateStep) -> Updated:
    """SGD: w = w - lr g; with momentum, velocity = momentum velocity - lr g and then w = w + velocity or, with
    Nesterov's momentum, w = w + momentum velocity - lr g.
    """

    def plain(n: Numbers, g: Array, w: Array) -> tuple[Array, ...]:
        return (w - n.learning_rate * g,)

    def with_momentum(n: Numbers, g: Array, w: Array, velocity: Array) -> tuple[Array, ...]:
        velocity = n["momentum"] * velocity - n.learning_rate * g
        if step.config["nesterov"]:
            return w + n["momentum"] * velocity - n.learning_rate * g, velocity
        return w + velocity, velocity

    return updated(step, ("momentum",), with_momentum) if step.config["momentum"] else updated(step, (), plain)


@clause("7.2", source="https://keras.io/api/optimizers/rmsprop/; Hinton 2012, lecture 6e of Neural Networks for ML")
def rmsprop(step: UpdateStep) -> Updated:
    """RMSprop: v = rho v + (1 - rho) g^2 and w = w - lr g / sqrt(v + epsilon); centered, a = rho a + (1 - rho) g and
    v - a^2 stands for v in the root; with momentum, m = momentum m + lr g / sqrt(...) and w = w - m.
    """
    centered, momentum = step.config["centered"], step.config["momentum"] > 0
    slots = ("velocity", *(("momentum",) if momentum else ()), *(("average_gradient",) if centered else ()))

    def rule(n: Numbers, g: Array, w: Array, *held: Array) -> tuple[Array, ...]:
        rho, slot = n["rho"], dict(zip(slots, held, strict=True))
        slot["velocity"] = spread = rho * slot["velocity"] + n.rest("rho") * n.squared(g)
        if centered:
            mean = rho * slot["average_gradient"] + n.rest("rho") * g
            slot["average_gradient"], spread = mean, spread - mean * mean
        move = n.learning_rate * g / np.sqrt(spread + n["epsilon"])
        if momentum:
            slot["momentum"] = move = n["momentum"] * slot["momentum"] + move
        return w - move, *slot.values()

    return updated(step, slots, rule)


@clause("7.3", source="https://keras.io/api/optimizers/adagrad/; Duchi et al. 2011, figure 1")
def adagrad(step: UpdateStep) -> Updated:
    """Adagrad: s = s + g^2, from an initial value, and w = w - lr g / sqrt(s + epsilon)."""

    def rule(n: Numbers, g: Array, w: Array, squares: Array) -> tuple[Array, ...]:
        squares = squares + n.squared(g)
        return w - n.learning_rate * g / np.sqrt(squares + n["epsilon"]), squares

    return updated(step, ("accumulator",), rule)


@clause("7.4", source="https://keras.io/api/optimizers/adadelta/; Zeiler 2012, algorithm 1")
def adadelta(step: UpdateStep) -> Updated:
    """Adadelta: s = rho s + (1 - rho) g^2, move = -g sqrt(d + epsilon) / sqrt(s + epsilon), then
    d = rho d + (1 - rho) move^2 and w = w + lr move.
    """

    def rule(n: Numbers, g: Array, w: Array, squares: Array, moves: Array) -> tuple[Array, ...]:
        rho, rest, epsilon = n["rho"], n.rest("rho"), n["epsilon"]
        squares = rho * squares + rest * n.squared(g)
        move = -g * np.sqrt(moves + epsilon) / np.sqrt(squares + epsilon)
        return w + n.learning_rate * move, squares, rho * moves + rest * move * move

    return updated(step, ("accumulated_grad", "accumulated_delta_var"), rule)


@clause("7.5", source="https://keras.io/api/optimizers/lion/; Chen et al. 2023, algorithm 2")
def lion(step: UpdateStep) -> Updated:
    """Lion: w = w - lr sign(beta_1 m + (1 - beta_1) g), and only then m = beta_2 m + (1 - beta_2) g."""

    def rule(n: Numbers, g: Array, w: Array, m: Array) -> tuple[Array, ...]:
        beta_1, beta_2 = n["beta_1"], n["beta_2"]
        direction = np.sign(beta_1 * m + (n.one - beta_1) * g)
        return w - n.learning_rate * direction, beta_2 * m + (n.one - beta_2) * g

    return updated(step, ("momentum",), rule)


@clause("7.6", source="https://keras.io/api/optimizers/ftrl/; McMahan et al. 2013, algorithm 1")
def ftrl(step: UpdateStep) -> Updated:
    """FTRL: n' = n + g^2, z = z + g - w (n'^-power - n^-power) / lr, and w = 0 where |z| < lambda_1 and
    (sign(z) lambda_1 - z) / ((beta + n'^-power) / lr + lambda_2) elsewhere, with g + 2 shrinkage w for g in z.

    Where `power` is `learning_rate_power`, `shrinkage` the strength of the L2 shrinkage. The squares are of g itself,
    as TensorFlow documents its operation ApplyFtrlV2.
    """
    return ftrl_with(step, 1.0)


def ftrl_with(step: UpdateStep, times: float) -> Updated:
    """FTRL with lambda_2 so many times in the denominator."""

    def rule(n: Numbers, g: Array, w: Array, squares: Array, z: Array) -> tuple[Array, ...]:
        lr, power, l1 = n.learning_rate, -n["learning_rate_power"], n["l1_regularization_strength"]
        more: Any = squares + n.squared(g)
        shrunk = g + n(2) * n["l2_shrinkage_regularization_strength"] * w
        z = z + shrunk - (more**power - squares**power) / lr * w
        stiffness = (n["beta"] + more**power) / lr + n(times) * n["l2_regularization_strength"]
        away = np.where(np.abs(z) < l1, n(0), np.sign(z) * l1 - z)
        return away / stiffness, more, z

    return updated(step, ("accumulator", "linear"), rule)
