"""What a run's cases tell together: what was drawn, how long arms took, how much of what is allowed was seen.

A run of a night is too long to be held in memory with all its comparisons, so events are counted one by one, and what
is kept of them does not grow with their number but for a number an arm and case.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from conformance.calibration import BINS, bin_of
from conformance.case import FEEDS, PRECISIONS, Case, from_json, owner_of
from conformance.errors import CaseError
from conformance.events import CaseJudged, CaseStarted, Event, WorkerSpent
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.optimizers import OPTIMIZERS
from conformance.reports.page import Cell, Table
from conformance.reports.text import quoted
from conformance.reports.words import REFEREE, counted

_BINS = (*BINS, ">1, up to 100", ">100")
"""The last two are beyond what is allowed."""


def _layers(case: Case) -> Iterable[str]:
    return {owner_of(case.model, node).layer or "" for node in case.model.nodes}


def _options(case: Case) -> Iterable[str]:
    return (f"{case.optimizer.name}: {name}" for name in case.optimizer.config)


def _traits(case: Case) -> Iterable[str]:
    traits = {
        "several inputs": len(case.model.inputs) > 1,
        "several outputs": len(case.model.outputs) > 1,
        "a layer called again": any(node.shares for node in case.model.nodes),
        "sample weights": case.data.sample_weight is not None,
        "loss weights": any(loss.weight is not None for loss in case.losses),
        "a smaller last batch": case.last_batch != case.data.batch_size,
        "several epochs": case.schedule.epochs > 1,
        "several steps in one execution": case.schedule.steps_per_execution > 1,
        "optimizer not built first": not case.optimizer.built_first,
        "metrics": bool(case.metrics),
    }
    return [name for name, held in traits.items() if held]


KINDS: tuple[tuple[str, Callable[[Case], Iterable[str]], Iterable[str]], ...] = (
    ("Layers", _layers, LAYERS),
    ("Losses", lambda case: {loss.name for loss in case.losses}, LOSSES),
    ("Optimizers", lambda case: (case.optimizer.name,), OPTIMIZERS),
    ("Options of optimizers", _options, ()),
    ("Feeds", lambda case: (case.data.feed,), FEEDS),
    ("Precisions", lambda case: (case.precision,), PRECISIONS),
    ("Traits", _traits, ()),
)
"""By title, what a case has of it, and all there is."""


class Tally:
    """Counts a run's events one by one."""

    def __init__(self) -> None:
        self._case: dict[int, tuple[int, str]] = {}
        self._drawn = {title: Counter[str]() for title, _, _ in KINDS}
        self._diverged = {title: Counter[str]() for title, _, _ in KINDS}
        self._seconds: dict[str, list[float]] = {}
        self._bins = {False: [0] * len(_BINS), True: [0] * len(_BINS)}
        self._exact: Counter[bool] = Counter()

    def add(self, event: Event) -> None:
        """One more event, in the order in which they came."""
        if isinstance(event, CaseStarted):
            self._draw(event.worker)
            self._case[event.worker] = event.index, event.case
        elif isinstance(event, WorkerSpent):
            # It is told to start again.
            self._case.pop(event.worker, None)
        elif isinstance(event, CaseJudged):
            self._draw(event.worker, event)
            self._time(event)
            self._compare(event)

    def _draw(self, worker: int, judged: CaseJudged | None = None) -> None:
        """Count the case that a worker was running: it is judged, or it was lost."""
        index, text = self._case.pop(worker, (-1, ""))
        try:
            case = from_json(text)
        except CaseError:
            # A layer that was registered where the run was made may not be known here.
            return
        diverged = judged is not None and judged.index == index and bool(judged.signatures)
        for title, has, _ in KINDS:
            names = set(has(case))
            self._drawn[title].update(names)
            self._diverged[title].update(names if diverged else ())

    def _time(self, event: CaseJudged) -> None:
        for arm in _items(event.verdict, "arms"):
            if arm.get("status") == "ran" and isinstance(arm.get("seconds"), int | float):
                self._seconds.setdefault(str(arm.get("arm")), []).append(float(arm["seconds"]))

    def _compare(self, event: CaseJudged) -> None:
        for item in _items(event.verdict, "comparisons"):
            of_referee = list(item.get("arms") or ())[-1:] == [REFEREE]
            for row in _items(item, "rows"):
                if _number(row, "allowed") > 0:
                    self._bins[of_referee][_bin(_number(row, "ratio"))] += 1
                else:
                    self._exact[_number(row, "seen") == 0] += 1

    def coverage(self) -> tuple[tuple[str, Table], ...]:
        """What was drawn, how often, and in how many cases that diverged; and what was never drawn."""
        for worker in list(self._case):
            self._draw(worker)
        return tuple((title, self._table(title, known)) for title, _, known in KINDS)

    def _table(self, title: str, known: Iterable[str]) -> Table:
        counts, diverged = self._drawn[title], self._diverged[title]
        most = max(counts.values(), default=1)
        rows = tuple(
            (
                Cell(quoted(name)),
                Cell(f"{count:,}", count, share=count / most),
                Cell(f"{diverged[name]:,}", diverged[name], share=diverged[name] / most),
            )
            for name, count in counts.most_common()
        )
        never = [name for name in known if name not in counts]
        about = f"Never: {', '.join(map(quoted, never))}." if never else ""
        return Table(("name", "cases", "of these diverged"), rows, frozenset({1, 2}), about)

    def timing(self) -> Table:
        """The seconds that each arm took to be traced and run, where it ran."""
        most = max((statistics.median(taken) for taken in self._seconds.values()), default=0.0) or 1.0
        rows = tuple(
            (
                Cell(quoted(name)),
                Cell(f"{len(taken):,}", len(taken)),
                _seconds(statistics.median(taken), most),
                _seconds(max(taken)),
                _seconds(sum(taken)),
            )
            for name, taken in self._seconds.items()
        )
        return Table(("arm", "cases", "median seconds", "longest", "all"), rows, frozenset({1, 2, 3, 4}))

    def margins(self) -> Table:
        """How many rows of comparisons saw which part of what is allowed: of two arms, of an arm and the referee."""
        counts = self._bins.values()
        most = max((*map(max, counts), 1))
        rows = tuple(
            (
                Cell(name, float(index)),
                *(Cell(f"{each[index]:,}", each[index], share=each[index] / most) for each in counts),
            )
            for index, name in enumerate(_BINS)
            if any(map(any, counts))
        )
        return Table(("seen / allowed", "two arms", "an arm and the referee"), rows, frozenset({1, 2}))

    def exact(self) -> str:
        """How many rows owed the same bits, and how many kept to it."""
        owed = self._exact.total()
        if not owed:
            return ""
        return (
            f"The same bits were due in {counted(owed, 'row')} more, each a stage of a step;"
            f" {self._exact[True]:,} of them have the same bits, {self._exact[False]:,} have not."
        )


def _seconds(value: float, most: float | None = None) -> Cell:
    return Cell(f"{value:.2f}", value, share=None if most is None else value / most)


def _bin(ratio: float) -> int:
    if ratio <= 1:
        return bin_of(ratio)
    return len(BINS) + (ratio > 100)


def _items(data: Mapping[str, Any] | None, name: str) -> list[Mapping[str, Any]]:
    """A list of objects; events of another release may hold none."""
    found = (data or {}).get(name)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list | tuple) else []


def _number(row: Mapping[str, Any], name: str) -> float:
    try:
        return float(row.get(name, math.nan))
    except (TypeError, ValueError):
        return math.nan
