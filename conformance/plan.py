"""Which arms of a training are run."""

from __future__ import annotations

from dataclasses import dataclass

from conformance.arm import Arm, Placement


@dataclass(frozen=True)
class Plan:
    """Which arms to run.

    Attributes:
        trainers: the suspect and the reference; more are held against the reference in turn. One alone is held only
            against itself on other placements and executions.
        placements: the first is the one the others are held against.
        executions: the first is the one the others are held against.
    """

    trainers: tuple[str, ...] = ("fit", "loop")
    placements: tuple[Placement, ...] = (Placement(),)
    executions: tuple[str, ...] = ("graph",)

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Every arm of the plan."""
        return tuple(Arm(t, p, e) for e in self.executions for p in self.placements for t in self.trainers)

    @property
    def replicas(self) -> int:
        """The most replicas any arm needs."""
        return max(placement.replicas for placement in self.placements)
