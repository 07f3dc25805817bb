"""A user's data as batches: what it is read as, and in one line why it cannot be read.

Whatever `fit` is fed with is read here, and what it gives is seen before any way of training is: so what no training
could be given is said of the data, with what to do, and never by a framework in the middle of an arm.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from conformance.data import Array, Arrays
from conformance.errors import UsageError
from conformance.raised import shortened
from conformance.rereading import DATASET, FUNCTION, ITERATOR, SEQUENCE

LISTED = "list"
"""Batches in memory, which are the same each time."""

INFINITE, UNKNOWN = -1, -2
"""What `cardinality` says of a dataset without an end, and of one that has to be read to be counted."""

MOST_BATCHES = 10_000
"""A dataset with more batches than this is taken for an endless one."""

MOST_BYTES = 2**30
"""A dataset with more bytes than this is not kept: the memory may end before the dataset does."""

_PARTS = "(x, y) or (x, y, sample_weight)"
_NAMES = ("x", "y", "sample_weight")


def kind_of(data: Any, what: str) -> str:
    """The kind of data, a constant of `conformance.rereading` or `LISTED`.

    Args:
        data: the data.
        what: what messages call the argument it was given as.

    Raises:
        UsageError: when it is of none.
    """
    if hasattr(data, "element_spec"):
        if not callable(getattr(data, "cardinality", None)):
            raise UsageError(
                f"{_argument(what)}={type(data).__name__} is distributed already; give the dataset of global batches"
                " that it was made of, which every way of training distributes by itself"
            )
        return DATASET
    if isinstance(data, str | bytes | Mapping) or hasattr(data, "shape"):
        told = f"{type(data).__name__} {data.shape}" if hasattr(data, "shape") else " ".join(repr(data).split())
        raise UsageError(f"{_argument(what)}={told[:_SHOWN]} {_NEITHER}")
    if callable(data) and not hasattr(data, "__getitem__"):
        return FUNCTION
    if isinstance(data, list | tuple):
        return LISTED
    if isinstance(data, Iterator):
        return ITERATOR
    if not (hasattr(data, "__getitem__") or hasattr(data, "__iter__")):
        raise UsageError(f"{_argument(what)}={type(data).__name__} {_NEITHER}")
    return SEQUENCE


def _argument(what: str) -> str:
    """The argument by its name, as in `data=3`, where a sentence has `the data`."""
    return what.removeprefix("the ")


_SHOWN = 80
_NEITHER = (
    "is neither (x, y[, sample_weight]), a dataset of batches, a PyDataset, nor a function that gives a generator of"
    " batches"
)


def refuse_endless(data: Any, kind: str, what: str) -> None:
    """Refuse what says of itself that it has no end, before it is read.

    Raises:
        UsageError: with what limits it.
    """
    if kind == DATASET and int(data.cardinality()) == INFINITE:
        raise UsageError(f"{what} is an endless dataset; limit it with take(n)")
    if kind == SEQUENCE and _length(data) is None and hasattr(type(data), "num_batches"):
        raise UsageError(f"{what} has no end; give {type(data).__name__} a __len__, its number of batches")


def batches_of(data: Any, kind: str, what: str) -> tuple[list[Arrays], float]:
    """The batches of one reading, and the median of the seconds each took.

    Raises:
        UsageError: when they have no end, are no batches, or reading them raises.
    """
    found, taken, held = list[Arrays](), list[float](), 0
    given = _items(data, kind, what)
    while True:
        started = time.perf_counter()
        try:
            item = next(given)
        except StopIteration:
            return found, statistics.median(taken or [0.0])
        except UsageError:
            raise
        except Exception as error:  # a user's code may raise anything
            raise UsageError(
                f"{what} cannot be read: batch {len(found)} raises {type(error).__name__}: {shortened(str(error))}"
            ) from error
        taken.append(time.perf_counter() - started)
        found.append(_batch(item, kind, what, len(found)))
        held += found[-1].bytes
        if len(found) > MOST_BATCHES:
            raise UsageError(
                f"{what} has more than {MOST_BATCHES} batches; limit an endless dataset with take(n), and end a"
                " generator that has none"
            )
        if held > MOST_BYTES:
            raise UsageError(
                f"{what} has more than {MOST_BYTES // 2**20} MiB in its first {len(found)} batches; give fewer, as in"
                " take(3)"
            )


def _items(data: Any, kind: str, what: str) -> Iterator[Any]:
    """The items of one reading; what making them raises is raised by the first `next`."""
    length = _length(data) if kind == SEQUENCE else None
    if length is not None and hasattr(data, "__getitem__"):
        yield from (data[index] for index in range(length))
        return
    given = data() if kind == FUNCTION else data
    if not isinstance(given, Iterable) and not hasattr(given, "__getitem__"):
        function = getattr(data, "__name__", type(data).__name__)
        raise UsageError(
            f"{_argument(what)}={function} gave {type(given).__name__}; a function should give a generator of batches"
        )
    yield from given


def _length(data: Any) -> int | None:
    """How many batches something that is read by index has; None where it does not say."""
    for ask in (lambda: data.num_batches, lambda: len(data)):
        try:
            found: Any = ask()
        except (AttributeError, NotImplementedError, TypeError):
            continue
        if found is not None:
            return int(found)
    return None


def _batch(item: Any, kind: str, what: str, index: int) -> Arrays:
    if isinstance(item, Mapping):
        named = ", ".join(map(repr, item))
        raise UsageError(
            f"{what}: a batch is a dictionary; it should be {_PARTS}, and not {{{named[:_SHOWN]}}}; map it, as in"
            ' dataset.map(lambda item: (item["x"], item["y"]))'
        )
    if not isinstance(item, list | tuple) or len(item) == 1:
        lone = item[0] if isinstance(item, list | tuple) else item
        cure = (
            "arrays are given as a tuple, data=(x, y)"
            if kind == LISTED
            else "where the inputs are the targets, as in dataset.map(lambda x: (x, x))"
        )
        raise UsageError(f"{what}'s batch {index} is {_told(lone)} without targets; it should be {_PARTS}; {cure}")
    return arrays_of(tuple(item), f"{what}'s batch {index}", batched=kind != LISTED)


def arrays_of(parts: tuple[Any, ...], what: str = "", *, batched: bool = False) -> Arrays:
    """The arrays of `(x, y)` or `(x, y, sample_weight)`.

    Args:
        parts: the parts.
        what: what messages call them; nothing for arrays that are given as the data.
        batched: whether they are an element that should have been a batch of some, so that it may be a lone row.

    Raises:
        UsageError: when they are something else.
    """
    where = f"{what}: " if what else ""
    if len(parts) not in (2, 3):
        raise UsageError(f"{where}a batch of {len(parts)} parts; it should be {_PARTS}")
    for name, part in zip(_NAMES[:2], parts, strict=False):
        if part is None:
            raise UsageError(f"{where}{name} is None; give {_PARTS}, the inputs again where they are the targets")
    x, y, weights = (*parts, None)[:3]
    names = [tuple(sorted(part)) if isinstance(part, Mapping) else () for part in (x, y, weights)]
    leaves = [
        None if part is None else _leaves(part, where, name) for name, part in zip(_NAMES, (x, y, weights), strict=True)
    ]
    rows = Arrays(leaves[0] or (), leaves[1] or (), leaves[2], *names)
    every = (*rows.x, *rows.y, *(rows.sample_weight or ()))
    scalar = any(array.ndim == 0 for array in every)
    counts = {len(array) for array in every if array.ndim}
    if scalar or len(counts) != 1:
        shapes = "; ".join(f"{name} {_shapes(part)}" for name, part in zip(_NAMES, leaves, strict=True) if part)
        should = "every array should have the same number"
        cure = (
            f"; {should}; single rows are no batch: batch them, as in dataset.batch(32)" if batched else f"; {should}"
        )
        told = "a single number" if scalar else f"{sorted(counts)} rows"
        raise UsageError(f"{where}data with {told}: {shapes}{cure}")
    if 0 in counts:
        raise UsageError(f"{where}data with 0 rows; give at least one")
    return rows


def _leaves(part: Any, where: str, name: str) -> tuple[Array, ...]:
    if isinstance(part, Mapping):
        items: Sequence[Any] = [part[key] for key in sorted(part)]
    else:
        items = part if isinstance(part, list | tuple) else (part,)
    arrays = tuple(_array(item, where, name) for item in items)
    # Keras computes in float32; float64 arrays, NumPy's default, are what users pass without meaning to.
    return tuple(array.astype(np.float32) if array.dtype == np.float64 else array for array in arrays)


def _array(item: Any, where: str, name: str) -> Array:
    for refused, cure in _NO_ARRAYS.items():
        if refused in {base.__name__ for base in type(item).__mro__}:
            raise UsageError(f"{where}{name} is a {type(item).__name__}; give a dense one: {cure}")
    if isinstance(item, list | tuple | int | float | Mapping | str):
        raise UsageError(
            f"{where}{name} holds a {type(item).__name__} of Python's; a list is taken for several inputs or outputs,"
            f" so give arrays: np.asarray({name})"
        )
    try:
        array = np.asarray(item)
    except Exception as error:
        raise UsageError(
            f"{where}{name} is {type(item).__name__}, which is no array: {shortened(str(error))}"
        ) from error
    # NumPy calls the kind of bfloat16 V.
    if array.dtype.kind not in "fiubV":
        words = "; words are turned into numbers before, as in dataset.map" if array.dtype.kind in "OSU" else ""
        raise UsageError(f"{where}data of dtype {array.dtype}; every array should hold numbers{words}")
    return array


_NO_ARRAYS = {"RaggedTensor": "to_tensor()", "SparseTensor": "tf.sparse.to_dense()"}


def _shapes(part: Sequence[Array]) -> str:
    return ", ".join(str(array.shape) for array in part)


def _told(item: Any) -> str:
    shape = getattr(item, "shape", None)
    return f"one array of shape {tuple(shape)}" if shape is not None else f"a {type(item).__name__}"
