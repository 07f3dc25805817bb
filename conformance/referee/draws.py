"""Random numbers for the referee: drawn in the arm's dtype, used in the referee's, and counted.

TensorFlow's random operations give other numbers in another dtype, with the same seed (measured: Dropout,
GaussianDropout and GaussianNoise do, in float64 and in bfloat16). A referee that drew in float64 would judge another
training. So the functions through which Keras's layers draw are replaced for the length of a forward pass.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from conformance.referee.forward_clauses import dropped


@contextlib.contextmanager
def drawn_as(dtype: str) -> Iterator[Counter[int]]:
    """Layers that run inside draw what they would draw in `dtype`, whatever they compute in.

    Yields:
        How often each generator was drawn from, by the identity of its state variable.
    """
    import keras
    import tensorflow as tf

    random = keras.src.backend.random
    drawing = {name: getattr(random, name) for name in ("dropout", "normal", "uniform", "truncated_normal")}
    draws: Counter[int] = Counter()

    def count(seed: Any) -> None:
        if hasattr(seed, "state"):
            draws[id(seed.state)] += 1

    def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
        if 0.0 < rate < 1.0:
            count(seed)
        drawn = drawing["dropout"](tf.ones_like(inputs, dtype=dtype), rate, noise_shape, seed)
        return dropped(inputs, drawn != 0, rate)

    def counted(name: str) -> Any:
        def draw(*args: Any, **kwargs: Any) -> Any:
            count(kwargs.get("seed"))
            wanted = kwargs.pop("dtype", None)
            values = drawing[name](*args, dtype=None if wanted is None else dtype, **kwargs)
            return values if wanted is None else tf.cast(values, wanted)

        return draw

    replaced = {"dropout": dropout, **{name: counted(name) for name in drawing if name != "dropout"}}
    for name, function in replaced.items():
        setattr(random, name, function)
    try:
        yield draws
    finally:
        for name, function in drawing.items():
            setattr(random, name, function)
