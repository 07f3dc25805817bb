"""Random numbers for the referee: drawn in the arm's dtype, used in the referee's, and counted.

TensorFlow's random operations give other numbers in another dtype, with the same seed (measured: Dropout,
GaussianDropout and GaussianNoise do, in float64 and in bfloat16). A referee that drew in float64 would judge another
training. So the functions through which Keras's layers draw are replaced for the length of a forward pass. XLA has a
generator of its own, so what an `xla` arm drew is drawn again under XLA.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from conformance.referee.forward_clauses import dropped


def draws(model: Any) -> bool:
    """Whether a model has layers that draw from generators of Keras's."""
    return any(variable.name.startswith("seed_") for variable in model.variables)


@contextlib.contextmanager
def drawn_as(
    dtype: str, *, xla: bool = False, silent: bool = False, computed: str | None = None
) -> Iterator[Counter[int]]:
    """Layers that run inside draw what they would draw in `dtype`, whatever they compute in.

    Args:
        dtype: the dtype.
        xla: whether they would draw it under XLA.
        computed: the dtype that is computed in, for what is drawn without naming a dtype; by default what Keras takes.
            Keras's own layers for data cast by themselves what they draw, and some fail on any other dtype.
        silent: whether they draw nothing: Dropout leaves all units, and of a distribution there is its middle.

    Yields:
        How often each generator was drawn from, by the identity of its state variable.
    """
    import keras
    import tensorflow as tf

    random = keras.src.backend.random
    kept = {name: getattr(random, name) for name in ("dropout", "normal", "uniform", "truncated_normal")}
    drawing = {name: _under_xla(function) for name, function in kept.items()} if xla else kept
    drawing = _SILENT if silent else drawing
    drawn: Counter[int] = Counter()
    inside: list[Any] = []

    def count(seed: Any) -> None:
        if hasattr(seed, "state"):
            drawn[id(seed.state)] += 1

    def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
        if 0.0 < rate < 1.0:
            count(seed)
        if silent:
            return inputs
        drawn = drawing["dropout"](tf.ones_like(inputs, dtype=dtype), rate, noise_shape, seed=seed)
        return dropped(inputs, drawn != 0, rate)

    def counted(name: str) -> Any:
        def draw(*args: Any, **kwargs: Any) -> Any:
            count(kwargs.get("seed"))
            wanted = kwargs.pop("dtype", None)
            values = drawing[name](*args, dtype=None if wanted is None else dtype, **kwargs)
            into = wanted if wanted is not None or inside else computed
            return values if into is None else tf.cast(values, into)

        return draw

    replaced = {"dropout": dropout, **{name: counted(name) for name in drawing if name != "dropout"}}
    data_layer = _of_data()
    data_call = data_layer.__call__

    def call_of_data(layer: Any, *args: Any, **kwargs: Any) -> Any:
        inside.append(layer)
        try:
            return data_call(layer, *args, **kwargs)
        finally:
            inside.pop()

    for name, function in replaced.items():
        setattr(random, name, function)
    data_layer.__call__ = call_of_data
    try:
        yield drawn
    finally:
        data_layer.__call__ = data_call
        for name, function in kept.items():
            setattr(random, name, function)


def _of_data() -> Any:
    """The class of Keras's own layers for data, as those that augment images; its name is another one by version."""
    import keras

    classes: tuple[Any, ...] = keras.layers.RandomFlip.__mro__
    # Where it has yet another name, they are taken for layers like all others.
    return next((found for found in classes if found.__name__ in ("DataLayer", "TFDataLayer")), keras.layers.RandomFlip)


def _middle(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    import tensorflow as tf

    return tf.fill(shape, tf.cast(mean, dtype or "float32"))


def _between(shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    return _middle(shape, (minval + maxval) / 2, dtype=dtype)


_SILENT: dict[str, Callable[..., Any]] = {"normal": _middle, "truncated_normal": _middle, "uniform": _between}
"""What is drawn where nothing is, by the names of the functions through which Keras draws."""


def _under_xla(draw: Any) -> Any:
    """A drawing function compiled by XLA; the random state moves outside of what is compiled."""
    import keras
    import tensorflow as tf

    class Drawn(keras.random.SeedGenerator):  # type: ignore[misc]  # Keras has no types
        """A generator whose next seed is drawn already."""

        def __init__(self, seed: Any) -> None:
            self._seed = seed

        def __setattr__(self, name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        def next(self, ordered: bool = True) -> Any:
            return self._seed

    def drawn(*args: Any, seed: Any = None, **kwargs: Any) -> Any:
        following = tf.convert_to_tensor(seed.next())

        def compiled(value: Any) -> Any:
            return draw(*args, seed=Drawn(value), **kwargs)

        return tf.function(compiled, jit_compile=True, autograph=False)(following)

    return drawn
