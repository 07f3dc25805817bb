"""Draws data: how many rows, in which batches, of what values, fed how.

The last batch decides most replica faults, so it is drawn and the rows follow from it: full, partial, or smaller than
the number of replicas, where a replica is left with nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

from conformance.case import FEEDS, PATTERNS, Data
from conformance.strategies import arguments
from conformance.strategies.weighted import pick

MOST_REPLICAS = 16
"""A batch has at most this many rows, and a replica a row at least."""

_BATCH_SIZES = (2, 3, 4, 5, 6, 8, 12, 16)
_FULL_BATCHES = 3
"""At most three full batches and a partial one, 48 rows: one epoch is at most 4 steps."""
_MOST_ROWS = 48


def data(*, replicas: int = 2, feeds: Iterable[str] | None = None, weighted: bool = True) -> st.SearchStrategy[Data]:
    """The data of a case: at most 48 rows in batches of at most 16, never fewer rows than replicas.

    Args:
        replicas: the number of replicas among which a batch is divided, 1 to 16.
        feeds: the feeds to draw from, of `arrays`, `dataset`, `generator`; None for all.
        weighted: whether some of it has sample weights.

    Raises:
        UsageError: when an argument is out of range or a feed is not known.

    Example:
        >>> import hypothesis
        >>> data_ = hypothesis.find(data(replicas=2), lambda data: True)
        >>> data_.rows, data_.batch_size, data_.pattern, data_.feed
        (2, 2, 'ones', 'arrays')
    """
    arguments.whole(replicas, 1, MOST_REPLICAS, "replicas")
    return _data(replicas, arguments.names(feeds, FEEDS, "feeds"), weighted)


@st.composite
def _data(draw: st.DrawFn, replicas: int, feeds: tuple[str, ...], weighted: bool) -> Data:
    return draw_data(draw, replicas, feeds, weighted)


def draw_data(draw: st.DrawFn, replicas: int, feeds: tuple[str, ...], weighted: bool) -> Data:
    """The data of a case for `replicas` replicas, fed in one of the ways `feeds`."""
    rows, batch_size = _draw_rows(draw, replicas)
    pattern = pick(draw, *((name, 4 if name == "normal" else 1) for name in PATTERNS))
    nothing: str | None = None
    weights = pick(draw, (nothing, 7), *((name, 1) for name in PATTERNS)) if weighted else nothing
    feed = pick(draw, *((name, 2 if name == "arrays" else 1) for name in feeds))
    # Drawn even where no pattern reads it: a choice that comes and goes puts those behind it out of step in shrinking.
    seed = draw(st.integers(0, 9))
    return Data(rows=rows, batch_size=batch_size, pattern=pattern, feed=feed, sample_weight=weights, seed=seed)


def _draw_rows(draw: st.DrawFn, replicas: int) -> tuple[int, int]:
    batch_size = draw(st.sampled_from(sorted({replicas, *(size for size in _BATCH_SIZES if size > replicas)})))
    tail = pick(draw, (0, 4), *_tails(replicas, batch_size))
    most = min(_FULL_BATCHES, (_MOST_ROWS - tail) // batch_size)
    full = list(range(1, most + 1))
    # Fewer rows than one batch: `fit` is lenient about it, hand-written loops divide by the wrong number.
    full += [0] if tail >= replicas else []
    return draw(st.sampled_from(full)) * batch_size + tail, batch_size


def _tails(replicas: int, batch_size: int) -> list[tuple[int, int]]:
    """The sizes of a partial last batch with their weights: a third for those that leave a replica without a row."""
    starved = sorted({1, replicas - 1} - {0}) if replicas > 1 else []
    partial = sorted({replicas, batch_size // 2, batch_size - 1} & set(range(replicas, batch_size)))
    return [*((size, 4 // len(starved)) for size in starved), *((size, 2) for size in partial)]
