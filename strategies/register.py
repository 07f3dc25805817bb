"""A user's own layers, beside those of Keras.

A registered layer becomes an entry of `conformance.layers.LAYERS` like any other, so that it is drawn, checked, built
and loaded from case files. What a case file says of it is still data: a name, and options that are scalars and lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

from conformance.errors import UsageError
from conformance.fields import Field, Shape, penalty
from conformance.frozen import FrozenMap
from conformance.layers import LAYERS, LayerEntry
from conformance.strategies import arguments

REGISTERED: dict[str, st.SearchStrategy[Mapping[str, Any]]] = {}
"""The strategies of the configurations of registered layers, by layer name."""


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(_is_plain(item) for item in value)
    if isinstance(value, FrozenMap):
        return penalty().accepts(value) or set(value) == {"max_norm"}
    return value is None or isinstance(value, bool | int | float | str)


class AnyOptions(Mapping[str, Field]):
    """Fields that accept every option: only the registered layer itself knows its options."""

    def __getitem__(self, key: str) -> Field:
        return Field("a number, a string, true, false, null, or a list of these", _is_plain, lambda _: ())

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def register_layer(
    layer: Callable[..., Any],
    *,
    config: st.SearchStrategy[Mapping[str, Any]],
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
    given = getattr(layer, "__name__", "") if name is None else name
    if not isinstance(given, str) or not given.isidentifier():
        raise UsageError(f"name={given!r} should be an identifier; name it with register_layer(..., name='MyLayer')")
    if given in LAYERS and given not in REGISTERED:
        raise UsageError(f"name={given!r} is a layer of Keras; give another, as in name='My{given}'")
    if not isinstance(config, st.SearchStrategy):
        raise UsageError(f"config={config!r} should be a Hypothesis strategy of mappings, as st.just({{}}) is")
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
