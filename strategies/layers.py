"""Draws one layer's configuration, valid for the shapes that meet it.

Nothing here knows a layer: the options come from its fields, and whether a configuration can be had from its shape
function. The required options are one choice, their combination, and the optional ones as `options` draws them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

from hypothesis import strategies as st

from conformance.case import Node
from conformance.errors import UsageError
from conformance.fields import Shape, check_config
from conformance.frozen import FrozenMap
from conformance.layers import LAYERS, LayerEntry
from conformance.strategies import arguments
from conformance.strategies.graph import snake
from conformance.strategies.options import draw_options
from conformance.strategies.register_layer import REGISTERED

LARGEST = 100
"""Elements a row that no layer's output exceeds, if its input did not; joining two inputs may give twice that."""

_WIDE = ("LayerNormalization", "Softmax")
"""Over an axis of one they are constant, and every gradient behind them is zero."""


def layers(
    *, shapes: Iterable[Shape] = ((3,),), names: Iterable[str] | None = None, below: int | None = None
) -> st.SearchStrategy[Node]:
    """A call of one layer on inputs called `input_1`, `input_2`, ...

    Args:
        shapes: the shapes of its inputs, without the batch axis; several for a layer that merges.
        names: the layers to draw from, names of `conformance.layers.LAYERS`; None for all.
        below: for an input of indices, the number they stay below.

    Raises:
        UsageError: when a name is not known, a shape is none, or no layer takes these shapes.

    Example:
        >>> import hypothesis
        >>> node = hypothesis.find(layers(shapes=[(5, 5, 1)]), lambda node: node.layer == "Conv2D")
        >>> node.name, dict(node.config)
        ('conv2d_1', {'filters': 1, 'kernel_size': 1})
    """
    try:
        given = tuple(tuple(shape) for shape in shapes)
    except TypeError:
        raise UsageError(f"shapes={shapes!r} should be a collection of shapes, as [(5, 5, 1)] is") from None
    for length in itertools.chain.from_iterable(given):
        arguments.whole(length, 1, 2**31 - 1, "a length in shapes")
    fitting = [name for name in arguments.names(names, LAYERS, "names") if fits(LAYERS[name], given, below)]
    if not fitting:
        raise UsageError(f"shapes={given!r} are taken by none of the layers; give other shapes or other names")
    return _node(tuple(fitting), given, below)


@st.composite
def _node(draw: st.DrawFn, names: tuple[str, ...], shapes: tuple[Shape, ...], below: int | None) -> Node:
    entry = LAYERS[draw(st.sampled_from(names))]
    inputs = tuple(f"input_{number}" for number, _ in enumerate(shapes, start=1))
    config = draw_config(draw, entry, shapes, below)
    return Node(name=f"{snake(entry.name)}_1", layer=entry.name, config=config, inputs=inputs)


def fits(entry: LayerEntry, shapes: tuple[Shape, ...], below: int | None = None) -> bool:
    """Whether a layer can be called on inputs of these shapes."""
    if (len(shapes) < 2 if entry.merges else len(shapes) != 1) or (entry.takes == "index") != (below is not None):
        return False
    if any(len(shape) not in entry.ranks for shape in shapes) or (entry.name in _WIDE and shapes[0][-1] == 1):
        return False
    alike = {shape[:-1] if entry.name == "Concatenate" else shape for shape in shapes}
    if len(alike) > 1 or (entry.name == "Subtract" and len(shapes) > 2):
        return False
    return entry.name in REGISTERED or bool(_required(entry, shapes, below))


def draw_config(draw: st.DrawFn, entry: LayerEntry, shapes: tuple[Shape, ...], below: int | None = None) -> FrozenMap:
    """A configuration of a layer that fits."""
    if entry.name in REGISTERED:
        return _draw_registered(draw, entry, shapes)
    config = draw(st.sampled_from(_required(entry, shapes, below)))
    return draw_options(draw, entry.fields, shapes, onto=config, suits=lambda item: _suits(entry, item, shapes))


def _draw_registered(draw: st.DrawFn, entry: LayerEntry, shapes: tuple[Shape, ...]) -> FrozenMap:
    drawn = draw(REGISTERED[entry.name])
    try:
        config = FrozenMap(drawn)
    except (TypeError, ValueError):
        raise UsageError(f"{drawn!r} was drawn by the config= of layer {entry.name}; let it draw mappings") from None
    check_config(config, entry.fields, f"layer {entry.name}", "register_layer(config=...)")
    try:
        shape = entry.shape(config, shapes)
        valid = bool(shape) and min(shape) >= 1
    except Exception as error:
        raise UsageError(f"output_shape= of layer {entry.name} raised {error!r} for {config!r}, {shapes[0]}") from error
    if not valid:
        raise UsageError(f"output shape {shape!r} of layer {entry.name} should be lengths of at least 1")
    return config


def _required(entry: LayerEntry, shapes: tuple[Shape, ...], below: int | None) -> list[FrozenMap]:
    """The combinations of required options that these shapes allow, simplest first."""
    needed = {name: field.options(shapes) for name, field in entry.fields.items() if field.required}
    if below is not None:
        needed["input_dim"] = (below,)
    combinations = [FrozenMap(dict(zip(needed, values, strict=True))) for values in itertools.product(*needed.values())]
    return [config for config in combinations if _suits(entry, config, shapes)]


def _suits(entry: LayerEntry, config: FrozenMap, shapes: tuple[Shape, ...]) -> bool:
    shape = entry.shape(config, shapes)
    most = max(LARGEST, *(math.prod(item) for item in shapes))
    return bool(shape) and min(shape) >= 1 and math.prod(shape) <= most
