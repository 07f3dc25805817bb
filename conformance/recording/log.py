"""One recorded quantity: a variable with a row a step, on every replica."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from conformance.data import Array


class Log:
    """One quantity on all replicas: a variable (rows, ...) a replica."""

    def __init__(self, rows: int, shape: tuple[int, ...], dtype: Any, devices: Iterable[str]) -> None:
        import tensorflow as tf

        self.rows: list[Any] = []
        for device in devices:
            with tf.device(device):
                self.rows.append(tf.Variable(tf.zeros((rows, *shape), dtype), trainable=False))

    def write(self, replica: int, row: Any, value: Any) -> None:
        """Write a row, its index as (1, 1); inside of a graph, this is an operation of the graph."""
        import tensorflow as tf

        rows = self.rows[replica]
        rows.scatter_nd_update(row, tf.expand_dims(tf.cast(value, rows.dtype), 0))

    def write_from(self, replica: int, row: Any, start: Any, value: Any, unread: int) -> None:
        """Write the elements of a row from one on; those that are beyond its end go into another row.

        Nothing here has a shape that only its values tell, so XLA compiles it.

        Args:
            replica: the replica.
            row: the row's index as (1, 1).
            start: the first element.
            value: the elements, (elements, ...).
            unread: the index of the row for what has no place.
        """
        import tensorflow as tf

        rows = self.rows[replica]
        places, last = start + tf.range(tf.shape(value)[0]), rows.shape[1] - 1
        index = tf.stack([tf.where(places <= last, row[0, 0], unread), tf.minimum(places, last)], axis=1)
        rows.scatter_nd_update(index, tf.cast(value, rows.dtype))

    def count(self, replica: int, row: Any, number: Any = 1) -> None:
        """Add to a row."""
        import tensorflow as tf

        self.rows[replica].scatter_nd_add(row, tf.reshape(tf.cast(number, tf.int32), (1,)))

    def at(self, replica: int, row: Any) -> Any:
        """A row's value."""
        import tensorflow as tf

        return tf.gather(self.rows[replica], row[0, 0])

    def clear(self) -> None:
        """Forget everything."""
        for row in self.rows:
            row.assign(np.zeros(row.shape, row.dtype.as_numpy_dtype))

    def read(self) -> list[Array]:
        """The values of every replica, (rows, ...) each."""
        return [row.numpy() for row in self.rows]
