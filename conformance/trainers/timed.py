"""A dataset that tells how long a loop takes between one batch and the next.

What a whole loop does with a batch is its own affair, so the time of its steps is seen where it asks for batches in
Python. The dataset stays what it was, with its class in its bases: a loop may map it, distribute it or iterate over it
in a graph, where nothing is timed.
"""

from __future__ import annotations

import time
from typing import Any


def timed(dataset: Any, durations: list[float]) -> Any:
    """The dataset itself, of a class of its own; `durations` takes the seconds from each batch to the next request."""
    import tensorflow as tf

    kind = type(dataset)

    def iterate(self: Any) -> Any:
        iterator = kind.__iter__(self)
        if tf.executing_eagerly():
            iterator.__class__ = _timed_iterator(type(iterator), durations)
        return iterator

    dataset.__class__ = _subclass(kind, {"__iter__": iterate})
    return dataset


def _timed_iterator(kind: Any, durations: list[float]) -> Any:
    given: list[float] = []

    def following(self: Any) -> Any:
        if given:
            durations.append(time.perf_counter() - given.pop())
        batch = kind.__next__(self)
        given.append(time.perf_counter())
        return batch

    return _subclass(kind, {"__next__": following})


def _subclass(kind: Any, names: dict[str, Any]) -> Any:
    """A class that is like another but for these names."""
    return type(kind)(kind.__name__, (kind,), {"__module__": kind.__module__, "__doc__": kind.__doc__, **names})
