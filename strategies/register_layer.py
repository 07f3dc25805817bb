"""A user's own layers, beside those of Keras.

A registered layer becomes an entry of `conformance.layers.LAYERS` like any other, so that it is drawn, checked, built
and loaded from case files. What a case file says of it is still data: a name, and options that are scalars and lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from conformance.errors import UsageError
from conformance.fields import Shape
from conformance.layers import LAYERS, LayerEntry
from conformance.strategies import arguments
from conformance.strategies.registering import AnyOptions, Configs, check_configs, name_of

REGISTERED: dict[str, Configs] = {}
"""The strategies of the configurations of registered layers, by layer name."""


def register_layer(
    layer: Callable[..., Any],
    *,
    config: Configs,
    input_ranks: Iterable[int] = (1, 2, 3),
    name: str | None = None,
    output_shape: Callable[[Mapping[str, Any], Shape], Shape] | None = None,
    random: bool = False,
) -> None:
    """Add a layer to what is drawn and to what case files may hold; a layer registered before is replaced.

    Args:
        layer: the layer's class, or a function that makes one; called with `name=` and the drawn options, and with
            `seed=` where it is random.
        config: draws its options as a mapping of names to numbers, strings, booleans, None or lists of these.
        input_ranks: the ranks of input it takes, without the batch axis, of 1, 2 and 3.
        name: its name in cases; the class's name where left out.
        output_shape: (options, input shape) to output shape, both without the batch axis; left out, the layer gives
            the shape it takes.
        random: whether it draws random numbers.

    Raises:
        UsageError: when an argument is not what it should be, or the name is that of a layer of Keras.

    Example:
        >>> from conformance.layers import LAYERS
        >>> class Scale:  # a keras.layers.Layer, in earnest
        ...     def __init__(self, factor, name=None): ...
        >>> register_layer(Scale, config=st.builds(dict, factor=st.sampled_from([0.5, 2.0])))
        >>> "Scale" in LAYERS
        True
    """
    if not callable(layer):
        raise UsageError(f"layer={layer!r} should be a layer class or a function that makes a layer")
    given = name_of(layer, name, "layer", LAYERS.keys() - REGISTERED.keys())
    check_configs(config)
    if output_shape is not None and not callable(output_shape):
        raise UsageError(f"output_shape={output_shape!r} should be a function of (options, input shape), or None")
    ranks = _ranks(input_ranks)

    def shape(options: Mapping[str, Any], shapes: tuple[Shape, ...]) -> Shape:
        return shapes[0] if output_shape is None else tuple(output_shape(options, shapes[0]))

    LAYERS[given] = LayerEntry(given, AnyOptions(), shape, ranks, random=bool(random), weights=True, make=layer)
    REGISTERED[given] = config


def _ranks(given: Iterable[int]) -> tuple[int, ...]:
    try:
        ranks = tuple(sorted(set(given)))
    except TypeError:
        raise UsageError(f"input_ranks={given!r} should be a collection of ranks, as (1, 2, 3) is") from None
    if not ranks:
        raise UsageError(f"input_ranks={given!r} leaves no input; give at least one of 1, 2, 3")
    return tuple(arguments.whole(rank, 1, 3, "a rank in input_ranks") for rank in ranks)
