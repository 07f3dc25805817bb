"""The data that is evaluated after every epoch: its rows, where its batches end, and how `fit` is given it.

Batches of a user's own may have any number of rows each, for nothing is learned from them. What a loss makes of one,
and how the losses of batches are put together, then shows where they end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from conformance.data import Arrays, generated


@dataclass(frozen=True)
class Validation:
    """Validation data.

    Attributes:
        rows: the rows of all batches.
        sizes: the rows of each batch, in order.
        feed: how `fit` is given it: `arrays` or `dataset`.
    """

    rows: Arrays
    sizes: tuple[int, ...]
    feed: str = "arrays"

    @classmethod
    def cut(cls, rows: Arrays, batch_size: int) -> Validation:
        """Arrays, which are cut into batches of one size; the last one has what is left."""
        return cls(rows, tuple(min(batch_size, rows.rows - start) for start in range(0, rows.rows, batch_size)))

    def copy(self) -> Validation:
        """The same values in memory of their own."""
        return replace(self, rows=self.rows.copy())

    def batches(self) -> Iterator[Arrays]:
        """The batches, in order."""
        start = 0
        for size in self.sizes:
            yield self.rows.part(start, start + size)
            start += size

    def dataset(self) -> Any:
        """The batches as a `tf.data.Dataset`, which may be read as often as one likes."""
        import tensorflow as tf

        first = self.sizes[0]
        if all(size == first for size in self.sizes[:-1]) and self.sizes[-1] <= first:
            return tf.data.Dataset.from_tensor_slices(self.rows.structure()).batch(first)
        return generated(self.rows, self._structures)

    def given(self) -> Any:
        """What a loop that takes `validation_data` is given: arrays as they are, all else as a dataset of batches."""
        return self.copy().rows.structure() if self.feed == "arrays" else self.dataset()

    def _structures(self) -> Iterator[tuple[Any, ...]]:
        return (batch.copy().structure() for batch in self.batches())
