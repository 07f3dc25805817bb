"""A second reading of a user's data held against the first: does it give the same batches, and if not, why not?

`fit` reads its data anew every epoch, and a loop of the user's reads it once more. What gives other batches then makes
two trainings differ that are both right, so it is told of the data, never of a training.

The key idea is that the two readings say the reason by themselves. The same rows in another order were shuffled, a
reading that ends at once was of something that can be read once only, other values in the same shapes were drawn. The
looks are a table, the most telling first, and see rows as bytes: nothing here is a matter of rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from conformance.data import Array, Arrays

Batches = Sequence[Arrays]

DATASET, SEQUENCE, FUNCTION, ITERATOR = "dataset", "PyDataset", "generator function", "iterator"
"""The kinds of data that are read batch by batch."""

_SHUFFLES = {
    DATASET: "a shuffle without a seed, or with reshuffle_each_iteration=True, which is the default",
    SEQUENCE: "it is shuffled by on_epoch_end or as it is read",
    FUNCTION: "every call shuffles anew",
    ITERATOR: "it is shuffled as it is read",
}
_ENDS = {
    DATASET: "an exhausted generator: give from_generator a function that makes a new one each time",
    SEQUENCE: "it is empty after on_epoch_end",
    FUNCTION: "an exhausted generator: the function gives the same one each time; make a new one in it",
    ITERATOR: "an exhausted generator: give the function that makes it, and not the generator",
}

FROZEN = "every way of training was given the batches of the first reading, in every epoch"


def remark(kind: str, first: Batches, second: Batches, *, counted: bool = True, what: str = "the data") -> str | None:
    """What is said of data whose two readings differ; None where they are the same, bit for bit.

    Args:
        kind: the kind of data, a constant of this module.
        first: the batches of the first reading, at least one.
        second: those of the second; none where there was nothing more to read.
        counted: whether the data knows how many batches it has, as a dataset of known cardinality does.
        what: what it is called.

    Example:
        >>> x = np.arange(3.0)
        >>> rows = [Arrays((x,), (x,))]
        >>> remark(DATASET, rows, rows) is None
        True
        >>> remark(FUNCTION, rows, []).partition(": ")[2].partition(";")[0]
        'batch 0 is missing'
    """
    place = _differs(first, second)
    if place is None:
        return None
    reason = next(told for look in _LOOKS if (told := look(kind, first, second)))
    uncounted = "" if counted or len(first) == len(second) else _UNCOUNTED
    where = f"batch {place} {'is missing' if place >= len(second) else 'differs'}"
    return f"{what} gives other batches each time it is read: {where}; {reason}{uncounted}; {FROZEN}"


_UNCOUNTED = "; its cardinality is unknown, so fit counts the steps of an epoch by the first it reads to the end"


def _differs(first: Batches, second: Batches) -> int | None:
    """The first batch that is not the same."""
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        if not _same(one, other):
            return index
    return None if len(first) == len(second) else min(len(first), len(second))


def _same(one: Arrays, other: Arrays) -> bool:
    same = one.rows == other.rows and shapes_of(one) == shapes_of(other)
    return same and one.digest() == other.digest()


def shapes_of(batch: Arrays) -> str:
    """The shapes of a batch's rows with their dtypes, part by part."""
    parts = (
        ("x", batch.x, batch.x_names),
        ("y", batch.y, batch.y_names),
        ("sample_weight", batch.sample_weight or (), batch.weight_names),
    )
    told = {part: " ".join(map(_shape, arrays, names or [""] * len(arrays))) for part, arrays, names in parts}
    return ", ".join(f"{part} {shapes}" for part, shapes in told.items() if shapes)


def _shape(array: Array, name: str) -> str:
    return f"{f'{name!r} ' if name else ''}{array.dtype}{array.shape[1:]}"


def _parts(batch: Arrays) -> tuple[Array, ...]:
    return (*batch.x, *batch.y, *(batch.sample_weight or ()))


def _rows(batches: Batches, parts: Callable[[Arrays], Sequence[Array]]) -> Counter[bytes]:
    """How often there is each row."""
    return Counter(
        b"|".join(np.ascontiguousarray(array[row]).tobytes() for array in parts(batch))
        for batch in batches
        for row in range(batch.rows)
    )


def _ended(kind: str, first: Batches, second: Batches) -> str:
    return "" if second else _ENDS[kind]


def _other_count(kind: str, first: Batches, second: Batches) -> str:
    if len(first) == len(second):
        return ""
    return f"the first reading has {len(first)} batches, the second {len(second)}"


def _other_shapes(kind: str, first: Batches, second: Batches) -> str:
    for one, other in zip(first, second, strict=False):
        if shapes_of(one) != shapes_of(other):
            return f"its rows are {shapes_of(one)} at the first reading, {shapes_of(other)} at the second"
    return ""


def _reordered(kind: str, first: Batches, second: Batches) -> str:
    if _rows(first, _parts) != _rows(second, _parts):
        return ""
    if sorted(batch.digest() for batch in first) == sorted(batch.digest() for batch in second):
        return f"the same batches in another order: {_SHUFFLES[kind]}"
    return f"the same rows in another order: {_SHUFFLES[kind]}"


def _shuffled_apart(kind: str, first: Batches, second: Batches) -> str:
    for parts in (lambda batch: batch.x, lambda batch: batch.y):
        if _rows(first, parts) != _rows(second, parts):
            return ""
    return "the same inputs with other targets: the two are shuffled apart, so most rows have the target of another"


def _other_values(kind: str, first: Batches, second: Batches) -> str:
    x, y = (_rows(first, parts) == _rows(second, parts) for parts in (lambda b: b.x, lambda b: b.y))
    if y and not x:
        return "the same targets with other inputs of the same shape: a random augmentation without a fixed seed"
    if x and not y:
        return "the same inputs with other targets"
    return "other rows of the same shape: it draws them, or goes on where the first reading ended"


_LOOKS: tuple[Callable[[str, Batches, Batches], str], ...] = (
    _ended,
    _other_shapes,
    _reordered,
    _other_count,
    _shuffled_apart,
    _other_values,
)
"""From two readings that differ to the reason, or nothing; the last says something of any two."""
