"""Seeding the global generators before a run, and when TensorFlow's need not be seeded again.

Setting TensorFlow's seed makes it forget every kernel, and the next step pays for that: 0.1 s of a run that takes 0.1 s
without, in each of the three to nineteen runs that measure what rounding allows. It is needed only where something
draws from what it resets: a random operation with a state of its own in a compiled function, code in Python that such
a function calls, or a loop that runs in Python. What compiled functions hold can be read off them. Operations with a
state that are known to draw nothing are listed; whatever else has one is taken to draw.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import numpy as np

DRAW_NOTHING = (
    "Assert",
    "Assign",
    "Case",
    "Collective",
    "If",
    "Iterator",
    "Nccl",
    "Optional",
    "PartitionedCall",
    "Placeholder",
    "Print",
    "ReadVariableOp",
    "Resource",
    "StatefulPartitionedCall",
    "TensorArray",
    "VarHandleOp",
    "VarIsInitializedOp",
    "While",
)
"""How the names of operations begin that have a state and draw nothing from it: variables, calls, batches."""


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's, TensorFlow's and Keras's global generators."""
    import keras

    keras.utils.set_random_seed(seed)


def seed_python(seed: int) -> None:
    """Seed Python's and NumPy's alone."""
    random.seed(seed)
    np.random.seed(seed)


def draws(graphs: Iterable[Any]) -> bool:
    """Whether any of these compiled functions may draw from what TensorFlow's seed resets."""
    return any(_draws(graph.as_graph_def()) for graph in graphs)


def _draws(definition: Any) -> bool:
    from tensorflow.python.framework import op_def_registry

    called = {function.signature.name for function in definition.library.function}
    nodes = [definition.node, *(function.node_def for function in definition.library.function)]
    for name in {node.op for held in nodes for node in held} - called:
        known = op_def_registry.get(name)
        if known is None or (known.is_stateful and not name.startswith(DRAW_NOTHING)):
            return True
    return False
