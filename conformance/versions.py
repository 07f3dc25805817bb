"""Ranges of versions, as an entry of a baseline names those it concerns: `keras>=3.5,<3.16`.

Only release numbers are compared: a nightly or a release candidate counts as the release that it becomes, so that what
is known up to 3.15 is news in a nightly of 3.16 already.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from conformance.errors import UsageError

DISTRIBUTIONS = ("keras", "tensorflow")
"""What versions are given of."""

_BOUNDS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    "==": operator.eq,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_RANGE = re.compile(r"(\w+)((?:==|>=|<=|>|<)\d+(?:\.\d+)*(?:,(?:==|>=|<=|>|<)\d+(?:\.\d+)*)*)", re.ASCII)
_BOUND = re.compile(r"(==|>=|<=|>|<)([\d.]+)")


@dataclass(frozen=True)
class Range:
    """The versions of one distribution between bounds, all of which have to hold.

    Attributes:
        distribution: a name of `DISTRIBUTIONS`.
        bounds: a comparison and a release each, as they are written.
    """

    distribution: str
    bounds: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return self.distribution + ",".join(comparison + release for comparison, release in self.bounds)

    def holds(self, version: str) -> bool:
        """Whether a version is in the range; never one that does not begin with a number."""
        found = release(version)
        return bool(found) and all(_BOUNDS[comparison](found, release(of)) for comparison, of in self.bounds)


def parse_range(text: str) -> Range:
    """The range that is written so; spaces do not matter.

    Raises:
        UsageError: for anything else, wildcards included.

    Example:
        >>> parse_range("keras >= 3.5, < 3.16").holds("3.15.1")
        True
    """
    match = _RANGE.fullmatch("".join(text.split()))
    if match is None or match[1] not in DISTRIBUTIONS:
        named = " or ".join(DISTRIBUTIONS)
        raise UsageError(f"{text!r} is no range of versions of {named}; write keras==3.15.1 or keras>=3.5,<3.16")
    return Range(match[1], tuple((bound[1], bound[2]) for bound in _BOUND.finditer(match[2])))


def parse_ranges(text: str) -> tuple[Range, ...]:
    """Ranges with semicolons between them, as in `keras>=3.5,<3.16; tensorflow==2.21.0`.

    Raises:
        UsageError: when one is no range, or there is none.
    """
    return tuple(parse_range(part) for part in text.split(";"))


def concerned(ranges: tuple[str, ...], installed: Mapping[str, str]) -> bool:
    """Whether every range holds for what is installed.

    Args:
        ranges: as they are written.
        installed: a version a distribution.
    """
    read = [parse_range(text) for text in ranges]
    return all(item.holds(installed.get(item.distribution, "")) for item in read)


def release(version: str) -> tuple[int, ...]:
    """The numbers of a release without the zeros at its end, for 3.15 and 3.15.0 are one; none where it has none."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(number) for number in match[0].split(".")] if match else []
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
