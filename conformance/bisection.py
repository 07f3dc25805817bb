"""The search for the version in which something changed.

The ends are tried first. Where they agree there may have been no change, or two of them, and no halving tells; so
nothing is searched and nothing is claimed. Where they differ, by what the script says or by how much it is off, halving
finds the version from which on it is as in the newest one. A version in which nothing can
be run says nothing of either side, so the one next to it is tried in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from conformance.errors import UsageError
from conformance.history import Trial, by_age

Ask = Callable[[str], Trial]


@dataclass(frozen=True)
class Trying:
    """A version is about to be tried.

    Attributes:
        version: the version.
        number: the how many-th that is, from 1.
        of: how many may follow it at the most where no version fails.
    """

    version: str
    number: int
    of: int


def limited(versions: Sequence[str], good: str | None, bad: str | None) -> tuple[str, ...]:
    """The versions between the one that conforms and the one that diverges; where one is not given, to that end.

    Args:
        versions: those there are, oldest first.
        good: one that is said to conform: the search begins with it, or, with `bad`, lies between the two.
        bad: one that is said to diverge: the search ends with it.

    Raises:
        UsageError: when one of them is none of the versions.
    """
    places: list[int] = []
    for option, version in (("--good", good), ("--bad", bad)):
        if version is not None and version not in versions:
            raise UsageError(f"{option} {version!r} is none of {', '.join(versions)}")
        places += [] if version is None else [versions.index(version)]
    low, high = 0, len(versions) - 1
    if len(places) > 1:
        low, high = min(places), max(places)
    elif places:
        low, high = (places[0], high) if bad is None else (low, places[0])
    return tuple(versions[low : high + 1])


def searched(versions: Iterable[str], ask: Ask, *, every: bool = False) -> Iterator[Trying | Trial]:
    """Try versions until it is known where the outcome changes.

    Args:
        versions: the versions, in any order.
        ask: runs the script in one.
        every: whether all of them are tried, oldest first, whatever comes of it.

    Yields:
        A `Trying` before each trial, and the `Trial`.
    """
    names = sorted(set(versions), key=by_age)
    done: dict[int, Trial] = {}

    def tried(place: int, left: int) -> Iterator[Trying | Trial]:
        yield Trying(names[place], len(done) + 1, len(done) + 1 + left)
        done[place] = ask(names[place])
        yield done[place]

    def first(places: Sequence[int]) -> Generator[Trying | Trial, None, int | None]:
        """The first of these places that is decided."""
        for place in places:
            yield from tried(place, (len(places) - 1).bit_length())
            if done[place].decided:
                return place
        return None

    if every:
        for place in range(len(names)):
            yield from tried(place, len(names) - place - 1)
        return
    last = yield from first(range(len(names))[::-1])
    oldest = None if last is None else (yield from first(range(last)))
    if last is None or oldest is None or done[oldest].like(done[last]):
        return
    low, high = oldest, last
    while open_ := [place for place in range(low + 1, high) if place not in done]:
        place = min(open_, key=lambda place: abs(2 * place - low - high))
        yield from tried(place, (len(open_) // 2).bit_length())
        if done[place].like(done[high]):
            high = place
        elif done[place].decided:
            low = place
