"""How often a value is drawn, in a form the shrinker understands.

Hypothesis shrinks a choice towards the front of its list. A list that repeats its values for weight puts copies of the
simple value between the others and the front, and each copy costs the shrinker a training. So every value comes once,
simplest first, and the repeats behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


def weighted(*pairs: tuple[T, int]) -> list[T]:
    """The values, each as many times as its weight says; each once, in the order given, then the repeats.

    Example:
        >>> weighted(("a", 3), ("b", 2), ("c", 0))
        ['a', 'b', 'a', 'a', 'b']
    """
    once = [value for value, weight in pairs if weight > 0]
    return once + [value for value, weight in pairs for _ in range(weight - 1)]


def pick(draw: st.DrawFn, *pairs: tuple[T, int]) -> T:
    """One of the values, drawn by weight."""
    return draw(st.sampled_from(weighted(*pairs)))


def pick_fitting(draw: st.DrawFn, fits: Callable[[T], bool], *pairs: tuple[T, int]) -> T:
    """One of the values that fit, of which there is one at least, drawn by weight.

    A choice keeps its meaning where other values fit than before: the shrinker can take a layer away and those behind
    it stay what they are. A choice that does not fit stands for one that does, so nothing is drawn in vain.
    """
    values = weighted(*pairs)
    index = draw(st.integers(0, len(values) - 1))
    if fits(values[index]):
        return values[index]
    fitting = [value for value in values if fits(value)]
    return fitting[index % len(fitting)]
