"""Draws the optional part of a configuration from its table of fields.

An option is left out most of the time and then means the Keras default, as in the code people write. How many are set
is drawn first, also where there are none to set, so that the choices behind stay in step when a layer is exchanged for
another; then each one whole, name and value together: one choice an option, none for an option left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

from conformance.fields import Field, Shape
from conformance.frozen import FrozenMap
from conformance.strategies.weighted import pick


def settings(fields: Mapping[str, Field], shapes: tuple[Shape, ...] = ()) -> list[tuple[str, Any]]:
    """Every optional (option, value) of a table worth setting, simplest first."""
    found: list[tuple[str, Any]] = []
    for name, field in fields.items():
        values = () if field.required else field.options(shapes)
        # The first of a flag, of a choice, null and zero are what Keras does anyhow: setting them tells nothing new.
        default = bool(values) and (not values[0] or isinstance(values[0], bool | str))
        found += [(name, value) for value in (values[1:] if default else values)]
    return found


def draw_options(
    draw: st.DrawFn,
    fields: Mapping[str, Field],
    shapes: tuple[Shape, ...] = (),
    *,
    onto: FrozenMap,
    suits: Callable[[FrozenMap], bool] = lambda _: True,
    counts: tuple[tuple[int, int], ...] = ((0, 5), (1, 3), (2, 2)),
) -> FrozenMap:
    """A configuration with some options set.

    Args:
        draw: Hypothesis's draw function.
        fields: the options there are.
        shapes: the input shapes, without the batch axis; none for what is not a layer.
        onto: the configuration so far; what it holds stays.
        suits: whether a configuration may be had.
        counts: how many options are set, each with its weight.
    """
    return draw(_options(settings(fields, shapes), onto, suits, counts))


# A strategy of its own is a span to the shrinker: it tries in one attempt to leave all options out.
@st.composite
def _options(
    draw: st.DrawFn,
    known: list[tuple[str, Any]],
    onto: FrozenMap,
    suits: Callable[[FrozenMap], bool],
    counts: tuple[tuple[int, int], ...],
) -> FrozenMap:
    config = onto
    for _ in range(pick(draw, *counts)):
        more = [config.set(**{name: value}) for name, value in known if name not in config]
        more = [item for item in more if suits(item)]
        if more:
            config = draw(st.sampled_from(more))
    return config
