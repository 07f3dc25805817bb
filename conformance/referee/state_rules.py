"""What a step of an optimizer starts from and ends with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.referee.base_rules import Array, Slices, slot_key
from conformance.referee.constraint_rules import Constraint


@dataclass(frozen=True)
class StepState:
    """What a step starts from.

    Attributes:
        class_name: the optimizer's class in `keras.optimizers`.
        config: its `get_config()`.
        gradients: by variable path, as `apply` is given them on one device: reduced over replicas, but neither
            accumulated nor clipped, and still scaled where the loss was. A variable without a gradient is absent.
        variables: by path, those the optimizer was built for, in its order.
        slots: all its variables by their names in a trace, in the order of `optimizer.variables`; those that would have
            the same name are numbered, see `conformance.referee.base_rules.distinct`.
        constraints: by path, of the variables that have one.
        decay_excluded: paths of the variables that are excluded from weight decay.
        learning_rate: of this step, or a function of the steps before it; None for what slots and config say, which is
            all there is where several optimizers are in one.
        slices: by path the gradients that came in parts, such as an embedding's.
    """

    class_name: str
    config: Mapping[str, Any]
    gradients: Mapping[str, Array]
    variables: Mapping[str, Array]
    slots: Mapping[str, Array]
    constraints: Mapping[str, Constraint] = field(default_factory=dict)
    decay_excluded: frozenset[str] = frozenset()
    learning_rate: float | Callable[[int], float] | None = None
    slices: Mapping[str, Slices] = field(default_factory=dict)

    def keys(self, slot: str) -> dict[str, str]:
        """By path the names of the variables' slots of that kind, where there is one."""
        keys = {path: slot_key(path, slot) for path in self.variables}
        return {path: key for path, key in keys.items() if key in self.slots}


@dataclass(frozen=True)
class StepOutcome:
    """What a step ends with.

    Attributes:
        variables: by path.
        slots: all of them, in the order of the state's.
        received: the gradients as the update rule received them; None on a step without an update.
    """

    variables: dict[str, Array]
    slots: dict[str, Array]
    received: dict[str, Array] | None
