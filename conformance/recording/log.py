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

    def count(self, replica: int, row: Any) -> None:
        """Add one to a row."""
        import tensorflow as tf

        self.rows[replica].scatter_nd_add(row, tf.ones((1,), tf.int32))

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
