"""The initial weights of a small model as literals, so that both trainings of a script visibly begin alike.

It mirrors `conformance.build.initialize` and must give the same bits; the tests hold the two against each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from conformance.case import Case, shapes
from conformance.layers import LAYERS
from conformance.reports.source import Expression, call

MOST = 40
"""A model with as many weights or more has them drawn."""

Config = Mapping[str, Any]
Shapes = list[tuple[int, ...]]


def _dense(config: Config, below: tuple[int, ...]) -> Shapes:
    kernel = (below[-1], config["units"])
    return [kernel, (config["units"],)] if config.get("use_bias", True) else [kernel]


_SHAPES: dict[str, Callable[[Config, tuple[int, ...]], Shapes]] = {
    "Dense": _dense,
    "Embedding": lambda config, below: [(config["input_dim"], config["output_dim"])],
}
"""By layer, the shapes of its weights in Keras's order; of the others no literals are written."""


def literals(case: Case) -> list[Expression] | None:
    """One array a weight, in the order of `model.weights`; None where they are many or the layers' are not known."""
    known = shapes(case.model)
    wanted: Shapes = []
    for node in case.model.nodes:
        entry = LAYERS.get(node.layer or "")
        if entry is None or entry.make or node.config.get("trainable") is False:
            return None
        if entry.weights and entry.name not in _SHAPES:
            return None
        if entry.weights:
            wanted += _SHAPES[entry.name](node.config, known[node.inputs[0]])
    if not wanted or sum(map(math.prod, wanted)) >= MOST:
        return None
    rng = np.random.default_rng(case.seed)
    values = [(rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype("float32") for shape in wanted]
    return [call("np.array", digits(value)) for value in values]


def digits(array: Any) -> str:
    """An array's numbers as nested lists: of a float32, the shortest decimals that round to it."""
    if array.ndim:
        return f"[{', '.join(map(digits, array))}]"
    return repr(array.item() if array.dtype.kind == "i" else float(str(array)))
