"""The four-arm square: which axis does a difference follow?

{suspect trainer, reference trainer} x {one device, replicas}. Trainers on one placement owe one another the same bits;
one trainer on two placements owes itself agreement within rounding. Which of the four sides are broken says where the
fault lives: the trainer, the distribution, or one trainer on replicas alone, and then the odd corner is the wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from conformance.arm import Arm, Placement
from conformance.compare import Comparison, Difference

Compare = Callable[[Arm, Arm], Comparison | None]
"""Compares (suspect, reference); None where one of the two could not be run."""


@dataclass(frozen=True)
class Found:
    """A difference with its axis.

    Attributes:
        axis: `trainer`, `distribution`, `both` or `execution`.
        suspect: the arm that is asked about.
        reference: the arm it is held against.
        difference: the first difference of the two.
        wrong: the arm that the others outvote, or None.
    """

    axis: str
    suspect: Arm
    reference: Arm
    difference: Difference
    wrong: Arm | None = None


def square(trainers: tuple[str, str], placements: Sequence[Placement], execution: str, compare: Compare) -> list[Found]:
    """The differences of two trainers over placements, one an axis at most for each placement.

    Args:
        trainers: the suspect and the reference trainer; twice the same where one alone is on trial.
        placements: the first is the one the others are held against.
        execution: the execution of all arms.
        compare: compares two arms.
    """
    suspect, reference = trainers
    first, *others = placements
    alone = suspect == reference
    found: list[Found] = []

    def side(a: Arm, b: Arm) -> Difference | None:
        comparison = None if a == b else compare(a, b)
        return comparison.first if comparison else None

    base = Arm(suspect, first, execution), Arm(reference, first, execution)
    trainer = side(*base)
    if trainer:
        found.append(Found("both" if first.mirrored else "trainer", *base, trainer))
    for placement in others:
        corner, partner = Arm(suspect, placement, execution), Arm(reference, placement, execution)
        across = side(corner, partner)
        spread = side(corner, base[0])
        partner_spread = spread if alone else side(partner, base[1])
        if across and not trainer:
            turned = (side(partner, corner) or across) if partner_spread and not spread else None
            if turned:
                found.append(Found("both", partner, corner, turned, partner))
            else:
                wrong = corner if spread and (not partner_spread or spread.place < partner_spread.place) else None
                found.append(Found("both", corner, partner, across, wrong))
        if spread and partner_spread:
            # The partner's, where the corner has something of its own on top.
            own = across is not None and not alone
            arm, other, apart = (partner, base[1], partner_spread) if own else (corner, base[0], spread)
            found.append(Found("distribution", arm, other, apart, arm))
    return found


def executions(arms: Sequence[Arm], reference: str, compare: Compare) -> list[Found]:
    """The differences of each arm from the same arm under the reference execution."""
    found: list[Found] = []
    for arm in arms:
        if arm.execution == reference:
            continue
        other = Arm(arm.trainer, arm.placement, reference)
        comparison = compare(arm, other)
        if comparison and comparison.first:
            found.append(Found("execution", arm, other, comparison.first))
    return found
