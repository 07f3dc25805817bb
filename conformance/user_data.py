"""The data of a user's own as the rows of one epoch: arrays, datasets, generators.

It is read before anything is trained, and kept: every way of training gets the same batches in the same order, so what
is compared is the training and not what a dataset gives the next time it is read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from conformance.data import Array, Arrays
from conformance.errors import UsageError

MOST_BATCHES = 10_000
"""A dataset with more batches than this is taken for an endless one."""


def rows_of(data: Any, batch_size: int) -> tuple[Arrays, int, str]:
    """The rows of one epoch, the batch size and the feed."""
    if isinstance(data, tuple) and 2 <= len(data) <= 3:
        return _arrays(data), batch_size, "arrays"
    feed = "dataset"
    if callable(data) and not hasattr(data, "element_spec"):
        data, feed = data(), "generator"
    batches = _batches(data)
    sizes = [batch.rows for batch in batches]
    if len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0]:
        raise UsageError(f"the data's batches have {sizes[:8]} rows; all but the last should have the same")
    joined = Arrays(
        tuple(map(np.concatenate, zip(*(batch.x for batch in batches), strict=True))),
        tuple(map(np.concatenate, zip(*(batch.y for batch in batches), strict=True))),
        None
        if batches[0].sample_weight is None
        else tuple(map(np.concatenate, zip(*(batch.sample_weight or () for batch in batches), strict=True))),
    )
    return joined, sizes[0], feed


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
    if len(rows.y) != 1 or rows.y[0].ndim > 2:
        shapes = ", ".join(str(array.shape) for array in rows.y)
        raise UsageError(f"class_weight for targets of shape {shapes}: it takes one output, (rows,) or (rows, classes)")
    return weights


def validation_rows(given: Any, rows: Arrays) -> Arrays | None:
    """The rows that are evaluated after every epoch, shaped as those that are trained on; None where none are given."""
    if given is None:
        return None
    if not isinstance(given, tuple) or not 2 <= len(given) <= 3:
        raise UsageError(f"validation_data={type(given).__name__} is not (x, y[, sample_weight]) of arrays")
    validation = _arrays(given)
    for name, ours, theirs in (("x", validation.x, rows.x), ("y", validation.y, rows.y)):
        if [array.shape[1:] for array in ours] != [array.shape[1:] for array in theirs]:
            shapes = ", ".join(str(array.shape) for array in ours)
            raise UsageError(f"validation_data with {name} of shape {shapes}; rows should be as in data")
    return validation


def _batches(data: Any) -> list[Arrays]:
    length = getattr(data, "__len__", None)
    try:
        items: Iterable[Any] = (data[i] for i in range(length())) if length and not hasattr(data, "unbatch") else data
        found = [_arrays(tuple(item)) for item in itertools.islice(items, MOST_BATCHES + 1)]
    except TypeError as error:
        raise UsageError(
            f"data={type(data).__name__} is neither (x, y[, sample_weight]), a dataset of batches nor a function that"
            " gives a generator of them"
        ) from error
    if not found:
        raise UsageError("the data has no batches")
    if len(found) > MOST_BATCHES:
        raise UsageError(f"the data has more than {MOST_BATCHES} batches; limit an endless dataset with take(n)")
    return found


def _arrays(parts: tuple[Any, ...]) -> Arrays:
    if len(parts) not in (2, 3):
        raise UsageError(f"a batch of {len(parts)} parts; it should be (x, y) or (x, y, sample_weight)")
    x, y, weights = (*parts, None)[:3]
    rows = Arrays(_leaves(x), _leaves(y), None if weights is None else _leaves(weights))
    counts = {len(array) for array in (*rows.x, *rows.y, *(rows.sample_weight or ()))}
    if len(counts) != 1:
        raise UsageError(f"data with {sorted(counts)} rows; every array should have the same number")
    if 0 in counts:
        raise UsageError("data with 0 rows; give at least one")
    return rows


def _leaves(part: Any) -> tuple[Array, ...]:
    items = part if isinstance(part, list | tuple) else (part,)
    if isinstance(part, Mapping):
        raise UsageError("a dictionary of inputs or targets; give them as a tuple in the model's order")
    arrays = tuple(np.asarray(item) for item in items)
    # Keras computes in float32; float64 arrays, NumPy's default, are what users pass without meaning to.
    return tuple(array.astype(np.float32) if array.dtype == np.float64 else array for array in arrays)
