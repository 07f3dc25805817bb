"""Chapter 6, last part: the learning rate of a step, for every schedule of `keras.optimizers.schedules`.

A schedule sees the steps taken before this one, whether or not they updated, so the first step has the learning rate
of step 0. Like everything here, a schedule is computed in the dtype it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.referee.clause import clause

ScheduleRule = Callable[..., float]
"""(steps before this one, the schedule's `get_config()`, dtype) to a learning rate."""

_DOCUMENTATION = "https://keras.io/api/optimizers/learning_rate_schedules"


def _numbers(config: Mapping[str, Any], dtype: npt.DTypeLike, *names: str) -> list[Any]:
    """One, and the options of those names, in a dtype."""
    of = np.dtype(dtype).type
    return [of(1), *(of(config[name]) for name in names)]


def _fraction(step: int, steps: Any, staircase: bool = False) -> Any:
    """The part of a decay's steps that is over; its whole multiples only, for a staircase."""
    part = type(steps)(step) / steps
    return np.floor(part) if staircase else part


@clause("6.20", source=f"{_DOCUMENTATION}/exponential_decay/")
def exponential_decay(step: int, config: Mapping[str, Any], dtype: npt.DTypeLike = np.float64) -> float:
    """The exponentially decayed learning rate is initial decay_rate^(step / decay_steps), with the exponent rounded
    down for a staircase.
    """
    _, initial, steps, rate = _numbers(config, dtype, "initial_learning_rate", "decay_steps", "decay_rate")
    return float(initial * rate ** _fraction(step, steps, config["staircase"]))


@clause("6.21", source=f"{_DOCUMENTATION}/piecewise_constant_decay/")
def piecewise_constant_decay(step: int, config: Mapping[str, Any], dtype: npt.DTypeLike = np.float64) -> float:
    """The piecewise constant learning rate is the value after as many boundaries as the step lies beyond, a step on a
    boundary being before it.
    """
    beyond = sum(step > boundary for boundary in config["boundaries"])
    return float(np.dtype(dtype).type(config["values"][beyond]))


@clause("6.22", source=f"{_DOCUMENTATION}/polynomial_decay/")
def polynomial_decay(step: int, config: Mapping[str, Any], dtype: npt.DTypeLike = np.float64) -> float:
    """The polynomially decayed learning rate is (initial - end) (1 - min(step, decay_steps) / decay_steps)^power + end,
    where it cycles with decay_steps multiplied by ceil(step / decay_steps), or by 1 at step 0.
    """
    one, initial, steps, end, power = _numbers(
        config, dtype, "initial_learning_rate", "decay_steps", "end_learning_rate", "power"
    )
    if config["cycle"]:
        steps = steps * max(np.ceil(_fraction(step, steps)), one)
    return float((initial - end) * (one - min(_fraction(step, steps), one)) ** power + end)


@clause("6.23", source=f"{_DOCUMENTATION}/inverse_time_decay/")
def inverse_time_decay(step: int, config: Mapping[str, Any], dtype: npt.DTypeLike = np.float64) -> float:
    """The learning rate decayed by inverse time is initial / (1 + decay_rate step / decay_steps), with the quotient
    rounded down for a staircase.
    """
    one, initial, steps, rate = _numbers(config, dtype, "initial_learning_rate", "decay_steps", "decay_rate")
    return float(initial / (one + rate * _fraction(step, steps, config["staircase"])))


@clause("6.24", source=f"{_DOCUMENTATION}/cosine_decay/; Loshchilov & Hutter 2016, equation 5; Goyal et al. 2017")
def cosine_decay(step: int, config: Mapping[str, Any], dtype: npt.DTypeLike = np.float64) -> float:
    """The cosine decayed learning rate rises linearly from initial to warmup_target in warmup_steps, where there is a
    target, and from there, s steps later, is top ((1 - alpha) (1 + cos(pi min(s, decay_steps) / decay_steps)) / 2 +
    alpha), top being the target or else initial.
    """
    one, top, steps, alpha = _numbers(config, dtype, "initial_learning_rate", "decay_steps", "alpha")
    if config["warmup_target"] is not None:
        _, warmup, target = _numbers(config, dtype, "warmup_steps", "warmup_target")
        if step < config["warmup_steps"]:
            return float(top + (target - top) * _fraction(step, warmup))
        step, top = step - config["warmup_steps"], target
    return float(top * _cosine(min(_fraction(step, steps), one), alpha, one))


def _cosine(part: Any, alpha: Any, height: Any) -> Any:
    """A cosine from a height down to 0 as the part goes from 0 to 1, lifted to end at alpha."""
    of = type(part)
    return (of(1) - alpha) * height * (of(1) + np.cos(of(math.pi) * part)) / of(2) + alpha


@clause("6.25", source=f"{_DOCUMENTATION}/cosine_decay_restarts/; Loshchilov & Hutter 2016, equation 5")
def cosine_decay_restarts(step: int, config: Mapping[str, Any], dtype: npt.DTypeLike = np.float64) -> float:
    """The learning rate of cosine decay with restarts is initial ((1 - alpha) m_mul^i (1 + cos(pi s / T)) / 2 + alpha)
    at step s of period i, which has T = first_decay_steps t_mul^i steps.
    """
    _, initial, m_mul, alpha = _numbers(config, dtype, "initial_learning_rate", "m_mul", "alpha")
    periods, part = _period(step, config["first_decay_steps"], config["t_mul"])
    of = type(initial)
    return float(initial * _cosine(of(part), alpha, m_mul ** of(periods)))


def _period(step: int, first: float, t_mul: float) -> tuple[int, float]:
    """How many periods are over at a step, and which part of the one it is in; NaN past the end of shrinking ones.

    Counted in fractions, for in floats a period as long as written may seem to be over a step too early or too late,
    and there the learning rate is at its lowest instead of its highest.
    """
    factor = Fraction(repr(t_mul))
    left, length, periods = Fraction(step) / Fraction(repr(first)), Fraction(1), 0
    if factor == 1:
        return int(left), float(left % 1)
    if factor < 1 and left >= 1 / (1 - factor):
        return 0, math.nan
    while left >= length:
        left, length, periods = left - length, length * factor, periods + 1
    return periods, float(left / length)


SCHEDULE_RULES: dict[str, ScheduleRule] = {
    "ExponentialDecay": exponential_decay,
    "PiecewiseConstantDecay": piecewise_constant_decay,
    "PolynomialDecay": polynomial_decay,
    "InverseTimeDecay": inverse_time_decay,
    "CosineDecay": cosine_decay,
    "CosineDecayRestarts": cosine_decay_restarts,
}
"""By the class's name in `keras.optimizers.schedules`."""
