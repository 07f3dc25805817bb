"""The checks every strategy makes of its arguments, when it is called and not when it is first drawn from."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from conformance.errors import UsageError


def names(given: Iterable[str] | None, known: Collection[str], argument: str) -> tuple[str, ...]:
    """The names given, in the order they are known in, or all known ones where None is given.

    Raises:
        UsageError: for a bare string, no names at all, or a name that is not known.
    """
    if given is None:
        return tuple(known)
    if isinstance(given, str):
        raise UsageError(f"{argument}={given!r} should be a collection of names; write {argument}=({given!r},)")
    try:
        chosen = tuple(given)
    except TypeError:
        raise UsageError(f"{argument}={given!r} should be a collection of names, or None for all") from None
    if not chosen:
        raise UsageError(f"{argument}={given!r} leaves nothing to draw; name at least one, or give None for all")
    for name in chosen:
        if name not in known:
            raise UsageError(f"{name!r} in {argument} is not known; choose among {', '.join(known)}")
    return tuple(name for name in known if name in chosen)


def whole(given: object, low: int, high: int, argument: str) -> int:
    """The whole number given.

    Raises:
        UsageError: when it is not one from `low` to `high`.
    """
    if isinstance(given, bool) or not isinstance(given, int) or not low <= given <= high:
        raise UsageError(f"{argument}={given!r} should be a whole number from {low} to {high}")
    return given
