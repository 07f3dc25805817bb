"""The data of a user's own as the rows of one epoch: arrays, datasets, generators.

It is read before anything is trained, and kept: every way of training gets the same batches in the same order, so what
is compared is the training and not what a dataset gives the next time it is read.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from conformance.data import Array, Arrays
from conformance.errors import UsageError
from conformance.raised import shortened
from conformance.rereading import DATASET, FROZEN, FUNCTION, ITERATOR, SEQUENCE, remark, shapes_of

LISTED = "list"
"""Batches in memory, which are the same each time."""

INFINITE, UNKNOWN = -1, -2
"""What `cardinality` says of a dataset without an end, and of one that has to be read to be counted."""

MOST_BATCHES = 10_000
"""A dataset with more batches than this is taken for an endless one."""


@dataclass(frozen=True)
class Given:
    """What was read of a user's data.

    Attributes:
        rows: the rows of one epoch.
        batch_size: the global batch size.
        feed: how `fit` is fed, a name of `conformance.case.FEEDS`.
        remarks: what there is to say of the data itself.
        seconds: the median of those that a batch took to be read; None for arrays.
    """

    rows: Arrays
    batch_size: int
    feed: str
    remarks: tuple[str, ...] = ()
    seconds: float | None = None


def read(data: Any, batch_size: int) -> Given:
    """Read a user's data: the first time for its rows, and once more to see whether they stay the same.

    Args:
        data: as `conformance.check` takes it.
        batch_size: the global batch size, for arrays; batches have one of their own.

    Raises:
        UsageError: when it is nothing of what can be read, or its batches are of many sizes.
    """
    if isinstance(data, tuple) and 2 <= len(data) <= 3:
        return Given(_arrays(data), batch_size, "arrays")
    kind = _kind(data)
    if kind == DATASET and int(data.cardinality()) == INFINITE:
        raise UsageError("the data is an endless dataset; limit it with take(n)")
    first, seconds = _batches(data() if kind == FUNCTION else data)
    if not first:
        raise UsageError("the data has no batches")
    if len(first) > MOST_BATCHES:
        raise UsageError(f"the data has more than {MOST_BATCHES} batches; limit an endless dataset with take(n)")
    sizes = [batch.rows for batch in first]
    odd = next((i for i, size in enumerate(sizes) if size > sizes[0] or (size < sizes[0] and i + 1 < len(sizes))), None)
    if odd is not None:
        raise UsageError(
            f"the data's batches have {sizes[:8]} rows: batch {odd} has {sizes[odd]} and not {sizes[0]}; all but the"
            " last should have the same"
        )
    told = _told(kind, data, first) if kind != LISTED else None
    return Given(
        joined(first),
        sizes[0],
        "generator" if kind in (FUNCTION, ITERATOR) else "dataset",
        () if told is None else (told,),
        seconds,
    )


def _kind(data: Any) -> str:
    if hasattr(data, "element_spec"):
        return DATASET
    if callable(data):
        return FUNCTION
    if isinstance(data, list | tuple):
        return LISTED
    return ITERATOR if isinstance(data, Iterator) else SEQUENCE


def _told(kind: str, data: Any, first: list[Arrays]) -> str | None:
    """What a second reading says of the data; a failing one is told as well, for `fit` would meet it too."""
    ended = getattr(data, "on_epoch_end", None)
    try:
        if ended is not None:
            # As fit does between two epochs.
            ended()
        second, _ = _batches(data() if kind == FUNCTION else data)
    except Exception as error:  # noqa: BLE001 - a user's code may raise anything
        return f"the data cannot be read twice: {type(error).__name__}: {shortened(str(error))}; {FROZEN}"
    counted = kind not in (FUNCTION, ITERATOR) and (kind != DATASET or int(data.cardinality()) != UNKNOWN)
    return remark(kind, first, second, counted=counted)


def joined(batches: Sequence[Arrays]) -> Arrays:
    """The rows of batches one after another.

    Raises:
        UsageError: when they are not of one shape.
    """
    first = batches[0]

    def whole(parts: Sequence[Sequence[Array]]) -> tuple[Array, ...]:
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    for index, batch in enumerate(batches):
        if shapes_of(batch) != shapes_of(first):
            raise UsageError(
                f"the data's batches have rows of many shapes: batch {index} has {shapes_of(batch)}, batch 0"
                f" {shapes_of(first)}; all should have the same"
            )
    weights = None if first.sample_weight is None else whole([batch.sample_weight or () for batch in batches])
    x, y = whole([batch.x for batch in batches]), whole([batch.y for batch in batches])
    return replace(first, x=x, y=y, sample_weight=weights)


def ordered(rows: Arrays, what: str, names: Sequence[str]) -> Arrays:
    """The rows with targets and weights that are given by name in another order.

    Args:
        rows: the rows.
        what: what messages call the targets.
        names: the names, in the order of the model's outputs.

    Raises:
        UsageError: when there are other names.
    """

    def moved(part: Sequence[Array], given: Sequence[str], called: str) -> tuple[Array, ...]:
        if set(given) != set(names):
            raise UsageError(f"{called} {list(given)} are not the model's outputs {list(names)}")
        return tuple(part[given.index(name)] for name in names)

    if rows.y_names:
        rows = replace(rows, y=moved(rows.y, rows.y_names, what), y_names=tuple(names))
    if rows.weight_names:
        weights = moved(rows.sample_weight or (), rows.weight_names, "sample weights")
        rows = replace(rows, sample_weight=weights, weight_names=tuple(names))
    return rows


def class_weights(given: Any, rows: Arrays) -> dict[int, float] | None:
    """The weight of each class by its number, checked against the rows; None where none are given."""
    if given is None:
        return None
    try:
        weights = {int(number): float(weight) for number, weight in given.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise UsageError(
            f"class_weight={given!r} should give a number for a class's, as in {{0: 1.0, 1: 3.0}}"
        ) from error
    if not weights or min(weights) < 0:
        raise UsageError(f"class_weight={given!r} should have the numbers of classes, from 0, as keys")
    if rows.sample_weight is not None:
        raise UsageError("class_weight beside sample weights: fit takes one of the two")
    if len(rows.y) != 1 or rows.y_names or rows.y[0].ndim > 2:
        shapes = ", ".join(str(array.shape) for array in rows.y)
        raise UsageError(f"class_weight for targets of shape {shapes}: it takes one output, (rows,) or (rows, classes)")
    return weights


def validation_rows(given: Any, rows: Arrays) -> Arrays | None:
    """The rows that are evaluated after every epoch, shaped as those that are trained on; None where none are given."""
    if given is None:
        return None
    if not isinstance(given, tuple) or not 2 <= len(given) <= 3:
        raise UsageError(f"validation_data={type(given).__name__} is not (x, y[, sample_weight]) of arrays")
    validation = ordered(_arrays(given), "validation_data's targets", rows.y_names)
    if validation.x_names != rows.x_names or validation.y_names != rows.y_names:
        raise UsageError("validation_data with other names than data; dictionaries should have the same")
    for name, ours, theirs in (("x", validation.x, rows.x), ("y", validation.y, rows.y)):
        if [array.shape[1:] for array in ours] != [array.shape[1:] for array in theirs]:
            shapes = ", ".join(str(array.shape) for array in ours)
            raise UsageError(f"validation_data with {name} of shape {shapes}; rows should be as in data")
    return validation


def _batches(data: Any) -> tuple[list[Arrays], float]:
    """The batches of one reading, and the median of the seconds each took.

    They are one more than may be where there is no end of them.
    """
    length = getattr(data, "__len__", None)
    try:
        items: Iterable[Any] = (data[i] for i in range(length())) if length and not hasattr(data, "unbatch") else data
        found, taken = list[Arrays](), list[float]()
        started = time.perf_counter()
        for item in itertools.islice(items, MOST_BATCHES + 1):
            taken.append(time.perf_counter() - started)
            found.append(_batch(item))
            started = time.perf_counter()
        return found, statistics.median(taken or [0.0])
    except (TypeError, NotImplementedError) as error:
        raise UsageError(
            f"data={type(data).__name__} is neither (x, y[, sample_weight]), a dataset of batches nor a function that"
            " gives a generator of them"
        ) from error


def _batch(item: Any) -> Arrays:
    if isinstance(item, Mapping):
        raise UsageError("a batch is a dictionary; it should be (x, y) or (x, y, sample_weight)")
    return _arrays(tuple(item))


def _arrays(parts: tuple[Any, ...]) -> Arrays:
    if len(parts) not in (2, 3):
        raise UsageError(f"a batch of {len(parts)} parts; it should be (x, y) or (x, y, sample_weight)")
    x, y, weights = (*parts, None)[:3]
    names = [tuple(sorted(part)) if isinstance(part, Mapping) else () for part in (x, y, weights)]
    rows = Arrays(_leaves(x), _leaves(y), None if weights is None else _leaves(weights), *names)
    counts = {len(array) for array in (*rows.x, *rows.y, *(rows.sample_weight or ()))}
    if len(counts) != 1:
        raise UsageError(f"data with {sorted(counts)} rows; every array should have the same number")
    if 0 in counts:
        raise UsageError("data with 0 rows; give at least one")
    return rows


def _leaves(part: Any) -> tuple[Array, ...]:
    if isinstance(part, Mapping):
        items: Iterable[Any] = (part[name] for name in sorted(part))
    else:
        items = part if isinstance(part, list | tuple) else (part,)
    items = tuple(items)
    if any(isinstance(item, list | tuple | int | float) for item in items):
        raise UsageError("data holds lists of numbers; give arrays, as in np.array(x): a list is one of several arrays")
    arrays = tuple(np.asarray(item) for item in items)
    for array in arrays:
        if array.ndim == 0 and array.dtype.kind in "fiubV":
            raise UsageError(f"data holds {array} where an array of rows should be; give arrays of (rows, ...)")
        # NumPy calls the kind of bfloat16 V.
        if array.dtype.kind not in "fiubV":
            raise UsageError(f"data of dtype {array.dtype}; every array should hold numbers")
    # Keras computes in float32; float64 arrays, NumPy's default, are what users pass without meaning to.
    return tuple(array.astype(np.float32) if array.dtype == np.float64 else array for array in arrays)
