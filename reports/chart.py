"""Seen against allowed, as a map of stages over steps and as two curves: the numbers and places, not the drawing.

A map's cell is told by a number and by the word for what it means; a colour may come on top. The curves' scale is
logarithmic and has no place for nothing, so what is 0 stands on a line of its own at the bottom, and what cannot be
compared on one at the top.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from conformance.margin import Margin, Margins
from conformance.reports.text import quoted
from conformance.reports.words import REFEREE, amount, in_words, times, when
from conformance.stage import STAGES, Stage

LEVELS = ("none", "same", "little", "within", "beyond", "far")
"""What a cell means: nothing compared, no difference, at most a tenth of what is allowed, within it, beyond it, more
than a hundred times beyond it or where nothing at all is allowed."""

MEANINGS = {
    "same": "no difference at all",
    "little": "at most a tenth of what rounding explains",
    "within": "within what rounding explains",
    "beyond": "more than rounding explains",
    "far": "more than a hundred times that, or not the same bits where those are due",
}

WIDTH, HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 16, 18, 44
_STRIP = 22


@dataclass(frozen=True)
class Square:
    """A cell of a map: its level, the number in it, and the whole of it in a sentence."""

    level: str
    text: str
    told: str
    first: bool = False


@dataclass(frozen=True)
class Heat:
    """A map of stages over steps.

    Attributes:
        title: which arms.
        says: what it shows, in a sentence.
        steps: the columns' names.
        rows: by stage its cells, a column each.
        left_out: of how many steps nothing is shown.
        beyond: whether any cell is beyond what is allowed.
    """

    title: str
    says: str
    steps: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Square, ...]], ...]
    left_out: int
    beyond: bool


@dataclass(frozen=True)
class Point:
    """A point of a curve, and what it stands for."""

    x: float
    y: float
    told: str


@dataclass(frozen=True)
class Plot:
    """Two curves.

    Attributes:
        title: of what.
        says: of which arms, in a sentence.
        joined: whether the points of a curve belong together, as those of steps do; stages are side by side.
        across: what the horizontal axis counts.
        ticks: (x, name) of the horizontal axis.
        lines: (y, name) of the vertical one.
        seen: the curve of what was seen.
        allowed: the curve of what is allowed.
        rows: the numbers: where, the quantity, seen, allowed, ratio, compared.
    """

    title: str
    says: str
    joined: bool
    across: str
    ticks: tuple[tuple[float, str], ...]
    lines: tuple[tuple[float, str], ...]
    seen: tuple[Point, ...]
    allowed: tuple[Point, ...]
    rows: tuple[tuple[str, ...], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM


def level(row: Margin) -> str:
    """What a row means, a word of `LEVELS`."""
    if not row.exceeds:
        return "same" if row.seen == 0 else "little" if row.ratio <= 0.1 else "within"
    return "far" if row.ratio > 100 else "beyond"


def heat(margins: Margins) -> Heat:
    """The map of one comparison."""
    columns: dict[tuple[float, float], str] = {}
    for row in sorted(margins.rows, key=lambda row: row.place):
        columns.setdefault(row.place[:2], _column(row))
    held = {(row.stage, row.place[:2]): row for row in margins.rows}
    first = next((row for row in sorted(margins.rows, key=lambda row: row.place) if row.exceeds), None)
    rows = tuple(
        (stage.value.replace("_", " "), tuple(_square(held.get((stage, column)), first) for column in columns))
        for stage in STAGES
        if any(row.stage is stage for row in margins.rows)
    )
    return Heat(
        title=" against ".join("the referee" if arm == REFEREE else in_words(arm) for arm in margins.arms),
        says=_says(margins, first),
        steps=tuple(columns.values()),
        rows=rows,
        left_out=margins.left_out,
        beyond=first is not None,
    )


def _column(row: Margin) -> str:
    if row.step is not None:
        return str(row.step)
    return "end" if row.epoch is None else f"epoch {row.epoch}"


def _says(margins: Margins, first: Margin | None) -> str:
    if first is None:
        most = max((row.ratio for row in margins.rows), default=0.0)
        if not most:
            return "There is no difference at all."
        return f"Everything is within what is allowed; the most that was seen is {times(most)} of it."
    stage = first.stage.value.replace("_", " ")
    told = f"The first stage beyond what is allowed is the {stage}, {when(first.step, first.epoch)}."
    if margins.arms[1] != REFEREE:
        return told
    return f"{told} Where a fault explains it, later stages are held against the definitions with that fault put in."


def _square(row: Margin | None, first: Margin | None) -> Square:
    if row is None:
        return Square("none", "", "not compared")
    many = f"; {row.compared} quantities compared" if row.compared > 1 else ""
    told = f"{row.variable}: off by {amount(row.seen)}, allowed {row.allowed:.2g}{many}"
    return Square(level(row), _number(row), told, row is first)


def _number(row: Margin) -> str:
    if row.seen == 0:
        return "0"
    if not math.isfinite(row.ratio):
        return "\N{NOT EQUAL TO}"
    if row.ratio < 0.01:
        return "<.01"
    if row.ratio < 10:
        return f"{row.ratio:.2g}".removeprefix("0")
    return f"{row.ratio:.0f}" if row.ratio < 1000 else f"{row.ratio:.0e}".replace("e+0", "e").replace("e+", "e")


def plot(margins: Margins, stage: Stage) -> Plot | None:
    """The curves of a stage over the steps; over the stages of the one step where there is only one.

    Returns:
        None where nothing of that stage was compared.
    """
    rows = [row for row in margins.rows if row.stage is stage]
    across, over = "step", f"{stage.value.replace('_', ' ')} over the steps"
    if len(rows) == 1:
        here = rows[0]
        rows = [row for row in margins.rows if row.place[:2] == here.place[:2]]
        across, over = "stage", f"the stages of {when(here.step, here.epoch)}"
    if not rows:
        return None
    says = f"{' against '.join(map(quoted, margins.arms))}, of each the quantity that is furthest off."
    return _drawn(rows, across, over, says)


def _drawn(rows: Sequence[Margin], across: str, over: str, says: str) -> Plot:
    scale = _Scale([value for row in rows for value in (row.seen, row.allowed)])
    names = [_column(row) if across == "step" else row.stage.value.replace("_", " ") for row in rows]
    room = WIDTH - _LEFT - _RIGHT
    xs = [_LEFT + room * (index + 0.5) / len(rows) for index in range(len(rows))]
    every = max(1, math.ceil(len(rows) / 16))
    return Plot(
        title=f"Seen against allowed: {over}",
        says=says,
        joined=across == "step",
        across=across,
        ticks=tuple((x, name) for index, (x, name) in enumerate(zip(xs, names, strict=True)) if index % every == 0),
        lines=scale.lines,
        seen=tuple(
            Point(x, scale.y(row.seen), f"{name}: seen {amount(row.seen)}")
            for x, row, name in zip(xs, rows, names, strict=True)
        ),
        allowed=tuple(
            Point(x, scale.y(row.allowed), f"{name}: allowed {row.allowed:.2g}")
            for x, row, name in zip(xs, rows, names, strict=True)
        ),
        rows=tuple(
            (name, row.variable, amount(row.seen), f"{row.allowed:.3g}", times(row.ratio), str(row.compared))
            for row, name in zip(rows, names, strict=True)
        ),
    )


class _Scale:
    """A logarithmic scale over whole powers of ten, with a line below for 0 and one above for the infinite."""

    def __init__(self, values: Iterable[float]) -> None:
        known = list(values)
        finite = [value for value in known if math.isfinite(value) and value > 0]
        self._low = math.floor(math.log10(min(finite))) if finite else -1
        self._high = math.ceil(math.log10(max(finite))) if finite else 0
        self._high = max(self._high, self._low + 1)
        self._zero, self._infinite = any(value == 0 for value in known), not all(map(math.isfinite, known))

    @property
    def _span(self) -> tuple[float, float]:
        """The y of the lowest and of the highest power."""
        low = HEIGHT - _BOTTOM - (_STRIP if self._zero else 0)
        return low, _TOP + (_STRIP if self._infinite else 0)

    def y(self, value: float) -> float:
        """Where a value stands."""
        if not math.isfinite(value):
            return float(_TOP)
        if value <= 0:
            return float(HEIGHT - _BOTTOM)
        low, high = self._span
        return low + (high - low) * (math.log10(value) - self._low) / (self._high - self._low)

    @property
    def lines(self) -> tuple[tuple[float, str], ...]:
        """The lines with their names, few enough to be read."""
        every = max(1, math.ceil((self._high - self._low) / 6))
        powers = [(self.y(10.0**power), f"{10.0**power:g}") for power in range(self._low, self._high + 1, every)]
        zero = [(self.y(0.0), "0")] if self._zero else []
        above = [(self.y(math.inf), "no number")] if self._infinite else []
        return (*zero, *powers, *above)
