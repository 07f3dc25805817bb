"""What is assigned to weights outside of the optimizer that a loop was given: by hand, or by an optimizer of its own.

The key idea: whatever updates a weight, in whichever context, ends in one of a few methods of the `tf.Variable` that
one replica holds, so these are watched on the variables of the one model of this arm. Nothing else tells a zero update
from none, and so a step from a pass whose gradients are still being accumulated.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from conformance.recording.log import Log

METHODS = (
    *("assign", "assign_add", "assign_sub", "batch_scatter_update"),
    *("scatter_add", "scatter_sub", "scatter_update", "scatter_nd_add", "scatter_nd_sub", "scatter_nd_update"),
)
"""By these a `tf.Variable` changes."""

OPTIMIZER, NO_STEP = "optimizer", "no step"
"""Whose assignments are told apart from those by hand: the given optimizer's, and those that no step has made."""


class Assignments:
    """Whether weights were assigned since it was last asked, on every replica; in a graph, an operation of the graph.

    Args:
        copies: name, replica and variable of every copy of every weight.
        devices: the replicas' devices.

    Attributes:
        by_hand: the names of the weights that were assigned by anybody but the optimizer, in this run or in the one
            that traced its graph.
    """

    def __init__(self, copies: Iterable[tuple[str, int, Any]], devices: list[str]) -> None:
        import tensorflow as tf

        self.by_hand: set[str] = set()
        self._made = Log(1, (), tf.int32, devices)
        self._during: Counter[str] = Counter()
        for name, replica, variable in copies:
            for method in METHODS:
                setattr(variable, method, self._watched(name, replica, getattr(variable, method)))

    def _watched(self, name: str, replica: int, method: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if self._during[NO_STEP]:
                return result
            if not self._during[OPTIMIZER]:
                self.by_hand.add(name)
            # Of the optimizer's as well: while one replica waits in it for the others, these may assign by hand.
            self._made.rows[replica].assign([1])
            return result

        return watched

    @contextlib.contextmanager
    def of(self, whose: str) -> Iterator[None]:
        """While weights are assigned by `OPTIMIZER`, or of `NO_STEP`."""
        self._during[whose] += 1
        try:
            yield
        finally:
            self._during[whose] -= 1

    def taken(self, replica: int) -> Any:
        """Whether there were any on a replica, as a scalar tensor; from here on there were none."""
        made = self._made.rows[replica].read_value()[0] > 0
        self._made.rows[replica].assign([0])
        return made

    def forget(self) -> None:
        """From here on there were none."""
        self._made.clear()
