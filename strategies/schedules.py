"""Draws schedules: how long it trains."""

from __future__ import annotations

from hypothesis import strategies as st

from conformance.case import Schedule
from conformance.strategies import arguments
from conformance.strategies.weighted import pick

MOST_STEPS = 6
"""Training steps in all epochs together. A fault that a step does not show, a longer training seldom does either."""


def schedules(*, steps_per_epoch: int = 1) -> st.SearchStrategy[Schedule]:
    """One epoch or two, rarely three, at most 6 steps in all; sometimes two steps in one execution.

    Args:
        steps_per_epoch: the batches in an epoch, 1 to 6.

    Raises:
        UsageError: when `steps_per_epoch` is out of range.

    Example:
        >>> import hypothesis
        >>> hypothesis.find(schedules(steps_per_epoch=3), lambda schedule: schedule.epochs > 1)
        Schedule(epochs=2, steps_per_execution=1)
    """
    return _schedule(arguments.whole(steps_per_epoch, 1, MOST_STEPS, "steps_per_epoch"))


@st.composite
def _schedule(draw: st.DrawFn, steps_per_epoch: int) -> Schedule:
    return draw_schedule(draw, steps_per_epoch)


def draw_schedule(draw: st.DrawFn, steps_per_epoch: int) -> Schedule:
    """A schedule for epochs of that many steps."""
    shares = {1: 5, 2: 5, 3: 1}
    epochs = pick(draw, *((count, share) for count, share in shares.items() if count * steps_per_epoch <= MOST_STEPS))
    together = pick(draw, (1, 6), (2, 1 if steps_per_epoch > 1 else 0))
    return Schedule(epochs=epochs, steps_per_execution=together)
