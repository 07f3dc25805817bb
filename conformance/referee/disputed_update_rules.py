"""Where Keras's optimizers do something else than their documentation or paper says: what they do, as rules.

The clauses of chapters 6 and 7 keep to what is documented. These functions can stand in for them and say exactly what
Keras does instead, so that a divergence of this kind has a name, and so that a test can show that there is no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.referee.adam_rules import schedule_free_adamw_with
from conformance.referee.apply_rules import Arrays, Rules, averaged, overwritten
from conformance.referee.base_rules import Array, Updated, UpdateStep
from conformance.referee.constraint_rules import Constraint, constrained
from conformance.referee.gradient_rules import ftrl_with
from conformance.referee.matrix_rules import adafactor_with
from conformance.referee.step_rules import RULES


def averaged_every_step(
    averages: Arrays, variables: Arrays, config: Mapping[str, Any], iterations: int, updates: bool
) -> dict[str, Array]:
    """With gradient accumulation over n steps, the moving average is taken n times an update, not once."""
    return averaged(averages, variables, config, iterations, True)


def overwritten_early(
    variables: Arrays, averages: Arrays, config: Mapping[str, Any], iterations: int, updates: bool
) -> dict[str, Array]:
    """With gradient accumulation, averages that are due at an update are written at the steps before it too."""
    return overwritten(variables, averages, config, iterations, True)


def constrained_every_step(
    variables: Arrays, constraints: Mapping[str, Constraint], updates: bool, rules: Rules
) -> dict[str, Array]:
    """With gradient accumulation, constraints are applied at the steps between updates too."""
    return constrained(variables, constraints, True, rules)


def adafactor_always_relative(step: UpdateStep) -> Updated:
    """Adafactor's learning rate is at most 1 / sqrt(t) whatever `relative_step` says, and with a schedule too."""
    return adafactor_with(step, relative=True)


def ftrl_twice_regularized(step: UpdateStep) -> Updated:
    """FTRL divides by (beta + n^-power) / lr + 2 lambda_2, twice the documented L2 strength."""
    return ftrl_with(step, 2.0)


def schedule_free_adamw_from_new_z(step: UpdateStep) -> Updated:
    """On TensorFlow, schedule-free AdamW takes x from the y before the step and the z after it: what it keeps as the
    old z is the variable itself, which it then assigns to.
    """
    return schedule_free_adamw_with(step, after=True)


@dataclass(frozen=True)
class UpdateDispute:
    """A point of the update in which Keras does otherwise than documented.

    Attributes:
        replaces: the clause, by function name.
        function: what Keras does.
        source: where that was reported, if it was.
    """

    replaces: str
    function: Callable[..., Any]
    source: str | None = None

    @property
    def name(self) -> str:
        """The name of what Keras does."""
        return self.function.__name__

    @property
    def sentence(self) -> str:
        """What Keras does, as a sentence."""
        return " ".join((self.function.__doc__ or "").split())


UPDATE_DISPUTES: tuple[UpdateDispute, ...] = (
    UpdateDispute("averaged", averaged_every_step),
    UpdateDispute("overwritten", overwritten_early),
    UpdateDispute("constrained", constrained_every_step),
    UpdateDispute("adafactor", adafactor_always_relative),
    UpdateDispute("ftrl", ftrl_twice_regularized, "https://github.com/tensorflow/tensorflow/issues/3725"),
    UpdateDispute("schedule_free_adamw", schedule_free_adamw_from_new_z),
)
"""Measured with Keras 3.15.1 on TensorFlow 2.21."""

KERAS_RULES: dict[str, Callable[..., Any]] = {**RULES, **{item.replaces: item.function for item in UPDATE_DISPUTES}}
"""The clauses as Keras keeps them; each dispute replaces another clause, so they do not get into each other's way."""
