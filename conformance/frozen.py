"""A mapping that is a value: immutable, hashable, equal by content.

A case must be hashable, for Hypothesis replays cases and their judgement is remembered by case; Keras configurations
are mappings. `FrozenMap` is both. Lists become tuples on the way in and lists again in JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Scalar = bool | int | float | str | None


class FrozenMap(Mapping[str, Any]):
    """An immutable mapping of names to scalars, tuples of scalars or further frozen maps.

    Example:
        >>> FrozenMap({"units": 3}) == FrozenMap(units=3)
        True
    """

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        merged = {**(items or {}), **named}
        self._items = {key: freeze(merged[key]) for key in sorted(merged)}
        self._hash: int | None = None

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        # The type is part of the hash and of equality: 1, 1.0 and True are one key to Python and three to Keras.
        if self._hash is None:
            self._hash = hash(_typed(self))
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FrozenMap):
            return NotImplemented
        return bool(_typed(self) == _typed(other))

    def __repr__(self) -> str:
        return f"FrozenMap({self._items!r})"

    def set(self, /, **named: Any) -> FrozenMap:
        """This mapping with `named` added or replaced."""
        return FrozenMap(self._items, **named)

    def without(self, *names: str) -> FrozenMap:
        """This mapping less `names`."""
        return FrozenMap({key: value for key, value in self._items.items() if key not in names})


def freeze(value: Any) -> Any:
    """`value` with every mapping a `FrozenMap` and every list a tuple."""
    if isinstance(value, FrozenMap):
        return value
    if isinstance(value, Mapping):
        return FrozenMap(value)
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


def thaw(value: Any) -> Any:
    """`value` as plain dictionaries and lists."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [thaw(item) for item in value]
    return value


def _typed(value: Any) -> Any:
    if isinstance(value, FrozenMap):
        return tuple((key, _typed(value[key])) for key in value)
    if isinstance(value, tuple):
        return tuple(_typed(item) for item in value)
    return type(value).__name__, value
