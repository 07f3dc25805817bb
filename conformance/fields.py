"""What a configuration may hold, said once for the reader of case files and for the generator.

A `Field` knows which values are valid (a case file is checked against it) and which are worth drawing, simplest first
(the generator draws from it and Hypothesis shrinks towards its front). Layers, losses and optimizers are tables of
these, so an option added to a table is at once loaded, drawn, shrunk, documented and listed by `conformance info`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.errors import CaseError
from conformance.frozen import FrozenMap

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Field:
    """One option of a configuration.

    Attributes:
        wants: what a valid value is, as the end of the sentence "should be ...".
        accepts: whether a value is valid.
        options: the values worth drawing, simplest first, given the shapes that meet the layer (without the batch
            axis; an empty tuple for what is not a layer).
        required: whether a configuration without it is malformed.
    """

    wants: str
    accepts: Callable[[Any], bool]
    options: Callable[[tuple[Shape, ...]], tuple[Any, ...]]
    required: bool = False


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def whole(*options: int, low: int = 1, required: bool = False) -> Field:
    """A whole number of at least `low`."""
    return Field(f"a whole number of at least {low}", lambda v: _is_whole(v) and v >= low, lambda _: options, required)


def size(limit: Callable[[tuple[Shape, ...]], int]) -> Field:
    """A window of 1 to 3 that is no larger than `limit` says the input allows."""
    return Field(
        "a whole number of at least 1",
        lambda v: _is_whole(v) and v >= 1,
        lambda shapes: tuple(range(1, min(3, limit(shapes)) + 1)),
        required=True,
    )


def real(*options: float, low: float = -math.inf, high: float = math.inf, required: bool = False) -> Field:
    """A finite number with `low` <= number <= `high`."""
    between = "a finite number" if math.isinf(low) and math.isinf(high) else f"a number from {low:g} to {high:g}"
    return Field(between, lambda v: _is_real(v) and low <= v <= high, lambda _: options, required)


def flag(*, first: bool = False) -> Field:
    """True or false; `first` is the simpler of the two."""
    return Field("true or false", lambda v: isinstance(v, bool), lambda _: (first, not first))


def choice(*options: str | None, also: tuple[str, ...] = (), required: bool = False) -> Field:
    """One of `options`, simplest first, or of `also`, which are valid but not drawn here."""
    valid = (*options, *also)
    names = ", ".join("null" if option is None else repr(option) for option in valid)
    return Field(f"one of {names}", lambda v: v in valid and not isinstance(v, bool), lambda _: options, required)


def wholes(options: Callable[[tuple[Shape, ...]], tuple[Shape, ...]]) -> Field:
    """A list of whole numbers of at least 1, as a target shape is."""
    return Field(
        "a list of whole numbers of at least 1",
        lambda v: isinstance(v, tuple) and all(_is_whole(item) and item >= 1 for item in v),
        options,
        required=True,
    )


def penalty() -> Field:
    """A weight regularizer: null, {"l2": strength} or {"l1": strength}."""
    return Field(
        'null, {"l2": strength} or {"l1": strength}',
        lambda v: v is None or _is_single(v, ("l1", "l2")),
        lambda _: (None, FrozenMap(l2=0.125), FrozenMap(l1=0.125)),
    )


def constraint() -> Field:
    """A weight constraint: null or {"max_norm": largest norm}."""
    return Field(
        'null or {"max_norm": largest norm}',
        lambda v: v is None or _is_single(v, ("max_norm",)),
        lambda _: (None, FrozenMap(max_norm=1.0)),
    )


def _is_single(value: Any, names: tuple[str, ...]) -> bool:
    if not isinstance(value, FrozenMap) or len(value) != 1:
        return False
    ((name, amount),) = value.items()
    return name in names and _is_real(amount) and amount >= 0


def check_config(config: Mapping[str, Any], fields: Mapping[str, Field], what: str, path: str) -> None:
    """Refuse a configuration with an unknown, missing or invalid option.

    Args:
        config: the configuration.
        fields: the options it may hold.
        what: whose configuration it is, as in `layer Dense`.
        path: where it stands in the case, as in `$.model.nodes[0].config`.

    Raises:
        CaseError: naming the value, the path and what would be valid.
    """
    for name, value in config.items():
        if name not in fields:
            known = ", ".join(sorted(fields)) or "none"
            raise CaseError(f"{name!r} is not an option of {what} - at `{path}`; its options are {known}")
        if not fields[name].accepts(value):
            raise CaseError(f"{name}={value!r} should be {fields[name].wants} - at `{path}.{name}`")
    for name, field in fields.items():
        if field.required and name not in config:
            raise CaseError(f"{what} misses its option {name!r} ({field.wants}) - at `{path}`")
