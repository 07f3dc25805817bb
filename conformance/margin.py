"""What was seen of each stage of each step, beside what was allowed there.

The key idea is that a comparison already looks at every quantity, and that of many quantities of one stage of one step
the one that is furthest off, as a multiple of what is allowed, says all: it is within its allowance only if all are.
So a comparison leaves a row a step and stage, whatever the number of variables.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from conformance.stage import FINAL, Stage

MOST_STEPS = 64
"""A comparison keeps the rows of so many steps, those that are furthest off."""

_DIGITS = 6


class Margin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The quantity of one stage of one step that is furthest off, as a multiple of what is allowed.

    Attributes:
        stage: the stage.
        step: the step, from 0; None of an epoch's logs and of what is left after training.
        epoch: the epoch, from 0, of an epoch's logs.
        variable: the quantity.
        seen: its largest absolute difference; infinite where shapes or NaNs differ or one is missing.
        allowed: what rounding explains; 0 where the same bits are due, or were seen and nothing had to be measured.
        ratio: seen / allowed; 0 where nothing was seen, infinite where nothing was allowed and something was seen.
        compared: how many quantities were compared there.
    """

    stage: Stage
    step: int | None = None
    epoch: int | None = None
    variable: str
    seen: float
    allowed: float
    ratio: float
    compared: int = 1

    @property
    def exceeds(self) -> bool:
        """Whether more was seen than is allowed."""
        return self.seen > self.allowed or math.isnan(self.seen)

    @property
    def place(self) -> tuple[float, float, int]:
        """Where it stands in the order of training: steps, then what is left after training, then epochs."""
        step = math.inf if self.step is None else float(self.step)
        return step, -1.0 if self.epoch is None else float(self.epoch), self.stage.order


class Margins(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What comparing two arms saw, or holding one against the referee.

    Attributes:
        arms: the two, the one asked about first; the second is `referee` where it is held against the clauses.
        rows: a row a step and stage, in the order of training.
        left_out: of how many steps the rows are not kept, none of them further off than those that are.
    """

    arms: tuple[str, str]
    rows: tuple[Margin, ...] = ()
    left_out: int = 0


def ratio_of(seen: float, allowed: float) -> float:
    """Seen / allowed; 0 where nothing was seen, infinite where nothing was allowed."""
    if seen == 0:
        return 0.0
    return seen / allowed if allowed else math.inf


@dataclass
class _Worst:
    """The quantity that is furthest off so far; none yet."""

    ratio: float = -1.0
    variable: str = ""
    seen: float = 0.0
    allowed: float = 0.0
    compared: int = 0


class Meter:
    """Collects what a comparison sees, quantity by quantity."""

    def __init__(self) -> None:
        self._worst: dict[tuple[int | None, int | None, Stage], _Worst] = {}

    def note(
        self, step: int | None, stage: Stage, name: str, seen: float, allowed: float, *, epoch: int | None = None
    ) -> None:
        """One quantity was compared."""
        ratio = ratio_of(seen, allowed)
        known = self._worst.setdefault((step, epoch, stage), _Worst())
        known.compared += 1
        if (ratio, seen) > (known.ratio, known.seen):
            known.ratio, known.variable, known.seen, known.allowed = ratio, name, seen, allowed

    def forget(self, stage: Stage, steps: Iterable[int]) -> None:
        """Drop what was noted of a stage at these steps: it is about to be compared more thoroughly."""
        for step in steps:
            self._worst.pop((step, None, stage), None)

    def has(self, step: int | None, stage: Stage) -> bool:
        """Whether anything was noted there."""
        return (step, None, stage) in self._worst

    def margins(self, arms: tuple[str, str] = ("", "")) -> Margins:
        """Everything that was noted, a row a step and stage."""
        rows = sorted((self._row(place) for place in self._worst), key=lambda row: row.place)
        return kept(Margins(arms=arms, rows=tuple(rows)), MOST_STEPS)

    def _row(self, place: tuple[int | None, int | None, Stage]) -> Margin:
        step, epoch, stage = place
        worst = self._worst[place]
        return Margin(
            stage=stage,
            step=None if step == FINAL else step,
            epoch=epoch,
            variable=worst.variable,
            seen=_short(worst.seen),
            allowed=_short(worst.allowed),
            ratio=_short(worst.ratio),
            compared=worst.compared,
        )


def kept(margins: Margins, most: int) -> Margins:
    """Only the rows of the `most` steps that are furthest off, and those that are no step's."""
    worst: dict[int, float] = {}
    for row in margins.rows:
        if row.step is not None:
            worst[row.step] = max(worst.get(row.step, 0.0), row.ratio)
    if len(worst) <= most:
        return margins
    chosen = set(sorted(worst, key=lambda step: (-worst[step], step))[:most])
    rows = tuple(row for row in margins.rows if row.step is None or row.step in chosen)
    return msgspec.structs.replace(margins, rows=rows, left_out=margins.left_out + len(worst) - len(chosen))


def thinned(margins: Margins) -> Margins:
    """The furthest-off row of each stage alone, for who keeps thousands of comparisons."""
    worst: dict[Stage, Margin] = {}
    for row in margins.rows:
        if row.stage not in worst or row.ratio > worst[row.stage].ratio:
            worst[row.stage] = row
    rows = tuple(sorted(worst.values(), key=lambda row: row.place))
    steps = {row.step for row in margins.rows} - {None}
    gone = len(steps - {row.step for row in rows})
    return msgspec.structs.replace(margins, rows=rows, left_out=margins.left_out + gone)


def _short(value: float) -> float:
    """A few digits: the row is to be read, and the exact number of a divergence stands in the divergence."""
    return float(f"{value:.{_DIGITS}g}")
