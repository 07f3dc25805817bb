"""What a run's cases tell together: what was drawn, how long arms took, how much of what is allowed was seen."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from conformance.calibration import BINS, bin_of
from conformance.case import FEEDS, PRECISIONS, Case, from_json, owner_of
from conformance.errors import CaseError
from conformance.events import CaseJudged, CaseStarted, Event
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.optimizers import OPTIMIZERS
from conformance.reports.page import Cell, Table
from conformance.reports.text import quoted
from conformance.reports.words import REFEREE, counted

_MORE = (">1, up to 100", ">100")
"""Beyond what is allowed."""


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


def coverage(events: Iterable[Event]) -> tuple[tuple[str, Table], ...]:
    """What was drawn, how often, and in how many cases that diverged; and what was never drawn."""
    drawn = _cases(events)
    return tuple((title, _drawn(drawn, has, known)) for title, has, known in KINDS)


def _cases(events: Iterable[Event]) -> list[tuple[Case, bool]]:
    """Every case that was begun, with whether it diverged."""
    begun: dict[tuple[int, int], str] = {}
    diverged = set()
    for event in events:
        if isinstance(event, CaseStarted):
            begun[event.worker, event.index] = event.case
        elif isinstance(event, CaseJudged) and event.signatures:
            diverged.add((event.worker, event.index))
    read = []
    for place, text in begun.items():
        try:
            read.append((from_json(text), place in diverged))
        except CaseError:
            # A layer that was registered where the run was made may not be known here.
            continue
    return read


def _drawn(drawn: Sequence[tuple[Case, bool]], has: Callable[[Case], Iterable[str]], known: Iterable[str]) -> Table:
    counts, diverging = Counter[str](), Counter[str]()
    for case, diverged in drawn:
        names = set(has(case))
        counts.update(names)
        diverging.update(names if diverged else ())
    most = max(counts.values(), default=1)
    rows = tuple(
        (
            Cell(quoted(name)),
            Cell(f"{count:,}", count, share=count / most),
            Cell(f"{diverging[name]:,}", diverging[name], share=diverging[name] / most),
        )
        for name, count in counts.most_common()
    )
    never = [name for name in known if name not in counts]
    about = f"Never: {', '.join(map(quoted, never))}." if never else ""
    return Table(("name", "cases", "of these diverged"), rows, frozenset({1, 2}), about)


def timing(judged: Iterable[CaseJudged]) -> Table:
    """The seconds that each arm took to be traced and run, where it ran."""
    seconds: dict[str, list[float]] = {}
    for event in judged:
        for arm in _items(event.verdict, "arms"):
            if arm.get("status") == "ran" and isinstance(arm.get("seconds"), int | float):
                seconds.setdefault(str(arm.get("arm")), []).append(float(arm["seconds"]))
    most = max((statistics.median(taken) for taken in seconds.values()), default=0.0) or 1.0
    rows = tuple(
        (
            Cell(quoted(name)),
            Cell(f"{len(taken):,}", len(taken)),
            _seconds(statistics.median(taken), most),
            _seconds(max(taken)),
            _seconds(sum(taken)),
        )
        for name, taken in seconds.items()
    )
    return Table(("arm", "cases", "median seconds", "longest", "all"), rows, frozenset({1, 2, 3, 4}))


def _seconds(value: float, most: float | None = None) -> Cell:
    return Cell(f"{value:.2f}", value, share=None if most is None else value / most)


def margins(judged: Iterable[CaseJudged]) -> Table:
    """How many rows of comparisons saw which part of what is allowed: of two arms, and of one and the referee."""
    bins = (*BINS, *_MORE)
    counts = {False: [0] * len(bins), True: [0] * len(bins)}
    for arms, row in _rows(judged):
        if _number(row, "allowed") > 0:
            counts[arms[-1:] == [REFEREE]][_bin(_number(row, "ratio"))] += 1
    most = max((*counts[False], *counts[True], 1))
    rows = tuple(
        (
            Cell(name, float(index)),
            *(Cell(f"{counts[of][index]:,}", counts[of][index], share=counts[of][index] / most) for of in counts),
        )
        for index, name in enumerate(bins)
        if any(map(any, counts.values()))
    )
    return Table(("seen / allowed", "two arms", "an arm and the referee"), rows, frozenset({1, 2}))


def _bin(ratio: float) -> int:
    if ratio <= 1:
        return bin_of(ratio)
    return len(BINS) + (ratio > 100)


def exact(judged: Iterable[CaseJudged]) -> str:
    """How many rows owed the same bits, and how many kept to it."""
    owed = [_number(row, "seen") == 0 for arms, row in _rows(judged) if _number(row, "allowed") == 0]
    if not owed:
        return ""
    return (
        f"The same bits were due in {counted(len(owed), 'row')} more, each a stage of a step;"
        f" {sum(owed):,} of them have the same bits, {len(owed) - sum(owed):,} have not."
    )


def _rows(judged: Iterable[CaseJudged]) -> Iterable[tuple[list[Any], Mapping[str, Any]]]:
    for event in judged:
        for item in _items(event.verdict, "comparisons"):
            for row in _items(item, "rows"):
                yield list(item.get("arms") or ()), row


def _items(data: Mapping[str, Any] | None, name: str) -> list[Mapping[str, Any]]:
    """A list of objects; events of another release may hold none."""
    found = (data or {}).get(name)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list | tuple) else []


def _number(row: Mapping[str, Any], name: str) -> float:
    try:
        return float(row.get(name, math.nan))
    except (TypeError, ValueError):
        return math.nan
