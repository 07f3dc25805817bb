"""What registering a layer, a loss and an optimizer of one's own have in common."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

from conformance.errors import UsageError
from conformance.fields import Field, penalty
from conformance.frozen import FrozenMap

Configs = st.SearchStrategy[Mapping[str, Any]]
"""Draws options as mappings of names to numbers, strings, booleans, None or lists of these."""


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(_is_plain(item) for item in value)
    if isinstance(value, FrozenMap):
        return penalty().accepts(value) or set(value) == {"max_norm"}
    return value is None or isinstance(value, bool | int | float | str)


class AnyOptions(Mapping[str, Field]):
    """Fields that accept every option: only what is registered knows its options itself."""

    def __getitem__(self, key: str) -> Field:
        return Field("a number, a string, true, false, null, or a list of these", _is_plain, lambda _: ())

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def name_of(given: Any, name: str | None, kind: str, taken: Container[str]) -> str:
    """The name that something is registered by.

    Args:
        given: what is registered.
        name: the name it is given, or None for its own.
        kind: what it is, `layer`, `loss` or `optimizer`.
        taken: the names that are Keras's.

    Raises:
        UsageError: when that is no identifier, or one of Keras's.
    """
    chosen = getattr(given, "__name__", "") if name is None else name
    if not isinstance(chosen, str) or not chosen.isidentifier():
        raise UsageError(
            f"name={chosen!r} should be an identifier; name it with register_{kind}(..., name='My{kind.title()}')"
        )
    if chosen in taken:
        article = "an" if kind[0] in "aeiou" else "a"
        raise UsageError(f"name={chosen!r} is {article} {kind} of Keras; give another, as in name='My{chosen}'")
    return chosen


def check_configs(config: Any) -> None:
    """Refuse what draws no options.

    Raises:
        UsageError: when it is no strategy.
    """
    if not isinstance(config, st.SearchStrategy):
        raise UsageError(f"config={config!r} should be a Hypothesis strategy of mappings, as st.just({{}}) is")
