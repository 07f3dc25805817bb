"""The data of a user's own as the rows of one epoch: arrays, datasets, generators.

It is read before anything is trained, and kept: every way of training gets the same batches in the same order, so what
is compared is the training and not what a dataset gives the next time it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from conformance.data import Array, Arrays
from conformance.errors import UsageError
from conformance.raised import shortened
from conformance.rereading import DATASET, FROZEN, FUNCTION, ITERATOR, remark, shapes_of
from conformance.user_batches import LISTED, UNKNOWN, arrays_of, batches_of, kind_of, refuse_endless
from conformance.validation import Validation

DATA, VALIDATION = "the data", "validation_data"
"""What messages call what was given."""

GENERATED = (
    "validation_data is generated: with Keras 3.15.1, fit over a generator leaves batches out of every evaluation but"
    " the first, those that were read ahead; here it was given a dataset of all of them, as"
    " tf.data.Dataset.from_generator makes one"
)
"""Which ones are left out hangs on how fast they are read, so nobody could be held against it."""


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
        return Given(arrays_of(data), batch_size, "arrays")
    first, feed, remarks, seconds = _read(data, DATA)
    sizes = [batch.rows for batch in first]
    odd = next((i for i, size in enumerate(sizes) if size > sizes[0] or (size < sizes[0] and i + 1 < len(sizes))), None)
    if odd is not None:
        raise UsageError(
            f"the data's batches have {sizes[:8]} rows: batch {odd} has {sizes[odd]} and not {sizes[0]}; all but the"
            f" last should have the same, as in dataset.unbatch().batch({sizes[0]})"
        )
    return Given(joined(first), sizes[0], feed, remarks, seconds)


def _read(data: Any, what: str) -> tuple[list[Arrays], str, tuple[str, ...], float]:
    """The batches of the first reading, how `fit` is fed with them, what a second one says, and seconds a batch."""
    kind = kind_of(data, what)
    refuse_endless(data, kind, what)
    first, seconds = batches_of(data, kind, what)
    if not first:
        raise UsageError(f"{what} has no batches")
    told = _told(kind, data, first, what) if kind != LISTED else None
    feed = "generator" if kind in (FUNCTION, ITERATOR) else "dataset"
    return first, feed, () if told is None else (told,), seconds


def _told(kind: str, data: Any, first: list[Arrays], what: str) -> str | None:
    """What a second reading says of the data; a failing one is told as well, for `fit` would meet it too."""
    ended = getattr(data, "on_epoch_end", None)
    try:
        if ended is not None:
            # As fit does between two epochs.
            ended()
        second, _ = batches_of(data, kind, what)
    except Exception as error:  # noqa: BLE001 - a user's code may raise anything
        cause = error.__cause__ or error
        return f"{what} cannot be read twice: {type(cause).__name__}: {shortened(str(cause))}; {FROZEN}"
    counted = kind not in (FUNCTION, ITERATOR) and (kind != DATASET or int(data.cardinality()) != UNKNOWN)
    return remark(kind, first, second, counted=counted, what=what)


def joined(batches: Sequence[Arrays], what: str = DATA) -> Arrays:
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
                f"{what}'s batches have rows of many shapes: batch {index} has {shapes_of(batch)}, batch 0"
                f" {shapes_of(first)}; all should have the same{_padded(batches)}"
            )
    weights = None if first.sample_weight is None else whole([batch.sample_weight or () for batch in batches])
    x, y = whole([batch.x for batch in batches]), whole([batch.y for batch in batches])
    return replace(first, x=x, y=y, sample_weight=weights)


def _padded(batches: Sequence[Arrays]) -> str:
    """How sequences of many lengths are padded to the longest of all, and not of their batch; nothing for others."""
    longest: list[list[list[int]]] = [[], []]
    for index, part in enumerate(("x", "y")):
        for leaves in zip(*(getattr(batch, part) for batch in batches), strict=False):
            sizes = [array.shape[1:] for array in leaves]
            if len({len(size) for size in sizes}) != 1:
                return ""
            longest[index].append([max(lengths) for lengths in zip(*sizes, strict=True)])
    shown = ", ".join(str(part[0]) if len(part) == 1 else f"({str(part)[1:-1]})" for part in longest)
    return f"; pad to the longest of all: dataset.padded_batch({batches[0].rows}, padded_shapes=({shown}))"


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


def validation(given: Any, rows: Arrays, batch_size: int) -> tuple[Validation | None, tuple[str, ...]]:
    """What is evaluated after every epoch, of rows like those that are trained on, and what there is to say of it.

    Args:
        given: as `conformance.check` takes it; None for nothing.
        rows: the rows that are trained on.
        batch_size: the batch size of arrays; batches have sizes of their own, and each may have another.

    Raises:
        UsageError: when it is nothing of what can be read, or its rows are others.
    """
    if given is None:
        return None, ()
    if isinstance(given, list) and 2 <= len(given) <= 3 and not all(isinstance(item, tuple) for item in given):
        # As fit takes it.
        given = tuple(given)
    if isinstance(given, tuple) and 2 <= len(given) <= 3:
        return Validation.cut(validation_rows(arrays_of(given, VALIDATION), rows), batch_size), ()
    batches, feed, remarks, _ = _read(given, VALIDATION)
    sizes = tuple(batch.rows for batch in batches)
    if feed == "generator":
        remarks = (*remarks, GENERATED)
    return Validation(validation_rows(joined(batches, VALIDATION), rows), sizes, "dataset"), remarks


def validation_rows(given: Arrays, rows: Arrays) -> Arrays:
    """The rows that are evaluated, in the order of the outputs, checked against those that are trained on."""
    validation = ordered(given, "validation_data's targets", rows.y_names)
    if validation.x_names != rows.x_names or validation.y_names != rows.y_names:
        raise UsageError("validation_data with other names than data; dictionaries should have the same")
    for name, ours, theirs in (("x", validation.x, rows.x), ("y", validation.y, rows.y)):
        if [array.shape[1:] for array in ours] != [array.shape[1:] for array in theirs]:
            shapes, wanted = (", ".join(str(array.shape) for array in part) for part in (ours, theirs))
            raise UsageError(
                f"validation_data with {name} of shape {shapes}; rows should be as in data, where it is {wanted}"
            )
    return validation
