"""Loops that accumulate gradients by hand: several batches an update, where Keras has `gradient_accumulation_steps`.

Such a loop calls the optimizer once for several batches, so its steps are updates. What an update should have received
follows from the batches that were due to it, each differentiated with the weights before the update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from conformance.data import Array
from conformance.referee.departure import Departure, Named
from conformance.referee.evaluate import Evaluator
from conformance.referee.reading import Reading
from conformance.referee.scene import Rules
from conformance.stage import Stage
from conformance.tolerance import distance

Gradients = dict[str, Array]

_MEAN = "the mean of the gradients"
_SUM = "the sum of the gradients in the place of their mean"
_FEWER = "the mean of as many as there are"
_LAST = "the last batch's gradient alone"
_PART = "the last batch's gradient alone, divided by their number"


def accumulates_by_hand(reading: Reading) -> bool:
    """Whether a loop on trial called the model several times an update, where the optimizer was to accumulate."""
    steps = reading.given_config.get("gradient_accumulation_steps") or 1
    calls = reading.trace.calls
    return steps > 1 and reading.replicas == 1 and any(max(counts, default=1) > 1 for counts in calls.values())


def judge_accumulation(
    exact: Evaluator, rounded: Sequence[Evaluator], rules: Rules, allowed: Callable[[float, Array], float]
) -> list[Departure]:
    """The departures of what the updates received from the means of the gradients of their batches.

    Args:
        exact: the referee's evaluator.
        rounded: evaluators in the arm's precision.
        rules: the clauses.
        allowed: (spread, value) to what rounding explains.
    """
    reading = exact.reading
    count = int(reading.given_config["gradient_accumulation_steps"])
    sizes = [max(reading.trace.calls.get(step, (1,))) for step in reading.steps]
    complete = [count] * (len(reading.due) // count)
    causes: list[Named] = []
    if sizes != complete:
        told = f"updates of {', '.join(map(str, sizes))} batches, where {count} are due to each of {len(complete)}"
        causes.append(Named("accumulation_tail", True, (told,)))
    # What an update receives by the sum of its batches' gradients, the gradient of the last one, and their number.
    ways: dict[str, Callable[[Array, Array, int], Array]] = {
        _MEAN: lambda total, last, size: total / count,
        _SUM: lambda total, last, size: total,
        _FEWER: lambda total, last, size: total / size,
        _LAST: lambda total, last, size: last,
        _PART: lambda total, last, size: last / count,
    }
    fits = dict.fromkeys(ways, True)
    first: Departure | None = None
    for step, (start, size) in zip(reading.steps, _spans(sizes), strict=True):
        due = reading.due[start : start + size]
        sums = [evaluator.summed_gradients(step, due, rules) for evaluator in (exact, *rounded)]
        last = exact.summed_gradients(step, due[-1:], rules)
        for name, seen in (reading.received(step) or reading.local_gradients(step)).items():
            spread = max((distance(other[name], sums[0][name]) for other in sums[1:]), default=0.0)
            for way, made_of in ways.items():
                wanted = made_of(sums[0][name], last[name], size)
                off = distance(seen[0], wanted)
                limit = allowed(spread, wanted)
                if off > limit:
                    fits[way] = False
                    if first is None and way == _MEAN:
                        first = Departure(Stage.GRADIENT, step, name, seen[0], wanted, off, limit)
    did = next((way for way in (_SUM, _LAST, _PART) if fits[way]), None)
    if fits[_MEAN] or (causes and fits[_FEWER]):
        pass
    elif did is not None:
        cause = "accumulation_not_averaged" if did is _SUM else "accumulation_tail"
        causes.append(Named(cause, True, (f"{did}, at {len(sizes)} of {len(sizes)} updates",)))
    elif first is not None and not causes:
        return [first]
    if not causes:
        return []
    made, due_to_be = np.array(float(len(sizes)), np.float32), np.array(float(len(complete)), np.float32)
    shown = first or Departure(Stage.GRADIENT, reading.steps[-1], "updates", made, due_to_be, np.inf, 0.0)
    return [replace(shown, causes=tuple(causes))]


def _spans(sizes: Sequence[int]) -> list[tuple[int, int]]:
    starts = np.cumsum([0, *sizes])
    return [(int(start), size) for start, size in zip(starts, sizes, strict=False)]
