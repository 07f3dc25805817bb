"""The links of one training step, in the order in which a fault travels along them.

The order is the whole point: of two traces that differ in many places, the first stage that differs is where the
fault entered, and everything after it is only its consequence.
"""

from __future__ import annotations

import enum


class Stage(str, enum.Enum):
    """A link of one training step; the order of definition is the order of the step."""

    BATCH = "batch"
    OUTPUTS = "outputs"
    LOSS = "loss"
    LOCAL_GRADIENT = "local_gradient"
    GRADIENT = "gradient"
    UPDATE = "update"
    WEIGHTS = "weights"
    STATE = "state"
    LOGS = "logs"

    @property
    def order(self) -> int:
        """The stage's place in a step, from 0."""
        return _ORDER[self]


_ORDER = {stage: index for index, stage in enumerate(Stage)}
STAGES: tuple[Stage, ...] = tuple(Stage)

FINAL = -1
"""In the place of a step: what is left when training has returned, after the last one."""
