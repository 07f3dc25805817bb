"""Deviations in the learning rate, where `fit`'s is set by callbacks and no schedule says what it should be.

The referee takes a whole loop's rate as the loop has set it, for callbacks set one between the steps as well; so what
the rate should have been only the other arm shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from conformance.deviations.context import Context, Replay
from conformance.stage import FINAL, Stage


def _rates(context: Context) -> tuple[Mapping[int, float], Mapping[int, float]] | None:
    """The rates of both arms, where it is by them that the two differ first, and they have the same steps."""
    found = context.difference
    if found.stage is not Stage.UPDATE or not found.name.endswith("learning_rate"):
        return None
    seen, due = (
        {
            step: float(parts[0])
            for (step, stage, name), parts in trace.values.items()
            if stage is Stage.UPDATE and name == found.name and step != FINAL
        }
        for trace in (context.suspect, context.reference)
    )
    return (seen, due) if len(seen) > 1 and seen.keys() == due.keys() else None


def _is(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6)


def rate_frozen(context: Context) -> Replay | None:
    """Every update has the rate that the other arm has at its first one."""
    rates = _rates(context)
    if rates is None:
        return None
    seen, due = rates
    first = due[min(due)]
    if not all(_is(rate, first) for rate in seen.values()):
        return None
    return Replay(True, (f"the rate of the first step, {first:.6g}, at each of {len(seen)} steps",))


def rate_off_by_one(context: Context) -> Replay | None:
    """Every update has the rate that the other arm has at the update before or at the one after."""
    rates = _rates(context)
    if rates is None:
        return None
    seen, due = ([values[step] for step in sorted(values)] for values in rates)
    for own, other, told in ((seen[1:], due[:-1], "before"), (seen[:-1], due[1:], "after")):
        if all(map(_is, own, other)):
            return Replay(True, (f"the rate of the update {told}, at {len(own)} of {len(own)} that have one",))
    return None
