"""The arrays of a case, and the three ways of feeding them.

Arrays are made by NumPy from the case alone, so every arm, every process and every Keras version trains on the same
bits. Every arm gets copies of its own: TensorFlow may alias the arrays it is lent, and a training that writes into its
caller's arrays is itself a divergence (`digest` finds it).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.case import Case, shapes
from conformance.losses import LOSSES

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Arrays:
    """The rows of one epoch, float32 or int32, one array an input, an output, an output's weights; rows first.

    Attributes:
        x: the inputs; by name in the order in which TensorFlow flattens a dictionary, which is that of the names.
        y: the targets, in the order of the model's outputs.
        sample_weight: the weights, in the order of the model's outputs, or None.
        x_names: the inputs' names where they are given as a dictionary, or nothing; as `y_names`, `weight_names`.
        y_names: the targets' names.
        weight_names: the weights' names.
    """

    x: tuple[Array, ...]
    y: tuple[Array, ...]
    sample_weight: tuple[Array, ...] | None = None
    x_names: tuple[str, ...] = ()
    y_names: tuple[str, ...] = ()
    weight_names: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows in an epoch."""
        return len(self.x[0])

    @property
    def bytes(self) -> int:
        """Bytes of all arrays together."""
        return sum(array.nbytes for array in (*self.x, *self.y, *(self.sample_weight or ())))

    def part(self, start: int, stop: int) -> Arrays:
        """Some of the rows, as views."""
        return self.map(lambda array: array[start:stop])

    def copy(self) -> Arrays:
        """The same values in memory of their own."""
        return self.map(np.copy)

    def map(self, change: Any) -> Arrays:
        """`change` applied to every array."""
        weights = None if self.sample_weight is None else tuple(map(change, self.sample_weight))
        return replace(self, x=tuple(map(change, self.x)), y=tuple(map(change, self.y)), sample_weight=weights)

    def digest(self) -> str:
        """A digest of every byte, to notice a training that writes into its data."""
        digest = hashlib.sha256()
        for array in (*self.x, *self.y, *(self.sample_weight or ())):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def class_weighted(self, class_weight: Mapping[int, float] | None) -> Arrays:
        """The same rows with the weights of their classes as sample weights, where there are class weights.

        A class is a label, the place of the largest of a one-hot row, or 0 and 1; one without a weight weighs 1.
        """
        if class_weight is None:
            return self
        (y,) = self.y
        if y.ndim > 1:
            y = y.argmax(axis=-1) if y.shape[-1] != 1 else y[..., 0]
        weights = [class_weight.get(int(label), 1.0) for label in np.round(y)]
        return replace(self, sample_weight=(np.asarray(weights, np.float32),))

    def structure(self) -> tuple[Any, ...]:
        """`(x, y)` or `(x, y, sample_weight)` as Keras takes them.

        A part is a lone array bare, several as a tuple, or a dictionary of named ones in the order of this class.
        """
        parts = (self.x, self.y) if self.sample_weight is None else (self.x, self.y, self.sample_weight)
        names = (self.x_names, self.y_names, self.weight_names)
        return tuple(packed(part, of_part) for part, of_part in zip(parts, names, strict=False))

    def batches(self, batch_size: int) -> Iterator[tuple[Any, ...]]:
        """The batches of one epoch in order, the last one partial where rows do not divide."""
        for start in range(0, self.rows, batch_size):
            part = slice(start, start + batch_size)
            yield self.map(lambda array, part=part: array[part].copy()).structure()


def packed(part: Sequence[Any], names: Sequence[str]) -> Any:
    """The leaves of a part of a batch as Keras takes them: by name, or a lone one bare and several as a tuple."""
    if names:
        return dict(zip(names, part, strict=True))
    return part[0] if len(part) == 1 else tuple(part)


def leaves(part: Any, names: Sequence[str] = ()) -> list[Any]:
    """The leaves of a part of a batch, of a dictionary with these names in their order.

    TensorFlow flattens a dictionary in the order of its names, which need not be that of a model's outputs.
    """
    import tensorflow as tf

    if isinstance(part, Mapping) and set(part) == set(names):
        return [part[name] for name in names]
    return list(tf.nest.flatten(part))


def arrays(case: Case) -> Arrays:
    """The arrays of a case; the same bits on every call."""
    known = shapes(case.model)
    rng = np.random.default_rng(case.data.seed)
    rows, pattern = case.data.rows, case.data.pattern
    x = tuple(
        _reals(pattern, (rows, *item.shape), rng)
        if item.below is None
        else _labels(pattern, (rows, *item.shape), item.below, rng)
        for item in case.model.inputs
    )
    y = tuple(
        _targets(LOSSES[loss.name].target, pattern, (rows, *known[name]), rng)
        for loss, name in zip(case.losses, case.model.outputs, strict=True)
    )
    if case.data.sample_weight is None:
        return Arrays(x, y)
    weights = tuple(np.abs(_reals(case.data.sample_weight, (rows,), rng)) for _ in y)
    return Arrays(x, y, weights)


def _reals(pattern: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    count = int(np.prod(shape))
    values: Array
    if pattern == "ones":
        values = np.ones(count)
    elif pattern == "ramp":
        values = np.arange(1, count + 1) / 8 % 2
    elif pattern == "small_integers":
        values = rng.integers(-3, 4, count)
    else:
        values = rng.standard_normal(count)
    return values.reshape(shape).astype(np.float32)


def _labels(pattern: str, shape: tuple[int, ...], below: int, rng: np.random.Generator) -> Array:
    count = int(np.prod(shape))
    values: Array = np.arange(count) % below
    if pattern in ("small_integers", "normal"):
        values = rng.integers(0, below, count)
    return values.reshape(shape).astype(np.int32)


def _targets(kind: str, pattern: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if kind == "real":
        return _reals("ramp" if pattern == "ones" else pattern, shape, rng)
    if kind == "positive":
        return np.abs(_reals(pattern, shape, rng))
    if kind == "binary":
        return _labels(pattern, shape, 2, rng).astype(np.float32)
    labels = _labels(pattern, shape[:-1], shape[-1], rng)
    return labels if kind == "label" else np.eye(shape[-1], dtype=np.float32)[labels]


def epoch_dataset(data: Arrays, batch_size: int, feed: str) -> Any:
    """One epoch of batches in order, as the `tf.data.Dataset` a custom loop reads.

    Args:
        data: the rows.
        batch_size: the global batch size.
        feed: `arrays` and `dataset` slice tensors, `generator` wraps a Python generator.
    """
    import tensorflow as tf

    if feed != "generator":
        return tf.data.Dataset.from_tensor_slices(data.structure()).batch(batch_size)
    return generated(data, lambda: data.batches(batch_size))


def generated(data: Arrays, batches: Callable[[], Iterator[tuple[Any, ...]]]) -> Any:
    """A `tf.data.Dataset` of what a function generates: batches of any number of rows like these."""
    import tensorflow as tf

    signature = tf.nest.map_structure(
        lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), data.structure()
    )
    return tf.data.Dataset.from_generator(batches, output_signature=signature)
