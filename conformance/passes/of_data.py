"""Passes that leave fewer steps, and rows that are simpler and plainly fed."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from conformance.case import FEEDS, METRICS, PATTERNS, PRECISIONS, Case
from conformance.passes.proposal import Proposals, with_changes

SIZES = (
    *((2, 2, 1), (3, 2, 1), (3, 3, 1), (4, 4, 1)),
    *((2, 3, 1), (2, 4, 1), (3, 4, 1), (3, 5, 1), (4, 5, 1), (4, 8, 1), (2, 2, 2)),
    *((2, 5, 1), (2, 6, 1), (2, 2, 3), (2, 3, 2), (2, 4, 2)),
)
"""Canonical (batch size, rows, epochs): one step, even, short or odd, then two, the last one partial, then more."""


def shorten(case: Case) -> Proposals:
    """Fewer steps, epochs and rows; one step an execution; no metrics."""
    one = msgspec.structs.replace(case.schedule, steps_per_execution=1)
    yield from with_changes(case, schedule=one, metrics=())
    yield from with_changes(case, schedule=one)
    for index in range(len(case.metrics)):
        yield from with_changes(case, metrics=(*case.metrics[:index], *case.metrics[index + 1 :]))
    for schedule in dict.fromkeys((one, case.schedule)):
        for batch_size, rows, epochs in SIZES:
            yield from with_changes(
                case,
                data=msgspec.structs.replace(case.data, batch_size=batch_size, rows=rows),
                schedule=msgspec.structs.replace(schedule, epochs=epochs),
            )
    yield from with_changes(case, schedule=msgspec.structs.replace(case.schedule, epochs=1))
    for batch_size, rows in _fewer(case):
        yield from with_changes(case, data=msgspec.structs.replace(case.data, batch_size=batch_size, rows=rows))


def _fewer(case: Case) -> Iterator[tuple[int, int]]:
    """(Batch size, rows) of what needs more than any of `SIZES`: one batch of all, a batch or a row less, halves."""
    data, full = case.data, case.steps_per_epoch - 1
    yield data.rows, data.rows
    if full:
        yield data.batch_size, data.rows - data.batch_size
    for batch_size in (data.batch_size // 2, data.batch_size - 1):
        lasts = (min(case.last_batch, batch_size), case.last_batch - data.batch_size + batch_size)
        yield from ((batch_size, full * batch_size + last) for last in dict.fromkeys(lasts) if last > 0)
    yield data.batch_size, data.rows - 1


def use_the_first_metric(case: Case) -> Proposals:
    """Metrics of the front of their table."""
    for index, name in enumerate(case.metrics):
        for earlier in METRICS[: METRICS.index(name)]:
            yield from with_changes(case, metrics=(*case.metrics[:index], earlier, *case.metrics[index + 1 :]))


def use_plain_precision(case: Case) -> Proposals:
    """Single precision, or one that stands before it in the table."""
    for precision in PRECISIONS[: PRECISIONS.index(case.precision)]:
        yield from with_changes(case, precision=precision)


def feed_plainly(case: Case) -> Proposals:
    """Arrays, unweighted."""
    for changes in ({"feed": "arrays", "sample_weight": None}, {"sample_weight": None}):
        yield from with_changes(case, data=msgspec.structs.replace(case.data, **changes))
    for feed in FEEDS[: FEEDS.index(case.data.feed)]:
        yield from with_changes(case, data=msgspec.structs.replace(case.data, feed=feed))


def use_simple_values(case: Case) -> Proposals:
    """Ones, then a ramp, then small integers; seeds from nought up."""
    data = case.data
    nought = msgspec.structs.replace(data, seed=0)
    patterns = PATTERNS[: PATTERNS.index(data.pattern)]
    for pattern in patterns:
        yield from with_changes(case, data=msgspec.structs.replace(nought, pattern=pattern), seed=0)
    for pattern in PATTERNS[: PATTERNS.index(data.sample_weight)] if data.sample_weight else ():
        yield from with_changes(case, data=msgspec.structs.replace(data, sample_weight=pattern))
    yield from with_changes(case, data=nought, seed=0)
    for pattern in patterns:
        yield from with_changes(case, data=msgspec.structs.replace(data, pattern=pattern))
    yield from with_changes(case, data=nought)
    for seed in range(min(case.seed, SEEDS)):
        yield from with_changes(case, seed=seed)
    for seed in range(1, min(data.seed, SEEDS)):
        yield from with_changes(case, data=msgspec.structs.replace(data, seed=seed))


SEEDS = 4
"""Seeds tried in their order; what none of so many shows hangs on a number."""
