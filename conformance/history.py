"""In which versions a finding was there: what its script did in each, and what follows from that.

Nothing is interpolated: what began or ended did so between two versions in which the script was run, and the versions
between those two in which it was not, or could not be, are named with it. What is said follows from the trials alone,
so that a search that was broken off, and one that goes on another day, say no more than what was seen.

A script says that two trainings differ, and not why. What differs by other numbers in another version may be something
else, so the numbers that a script prints are kept and compared.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from conformance.verdict import DIVERGES
from conformance.versions import release

Outcome = Literal["diverges", "conforms", "error"]

ERROR: Outcome = "error"
"""The outcome where the script could not be run, beside `diverges` and `conforms`."""

BEGAN, ENDED, SEVERAL, THERE, ABSENT, UNKNOWN = "began", "ended", "several", "there", "absent", "unknown"
"""What a history comes to: one change or several, none in what was run, or nothing could be run."""

_NUMBER = re.compile(r"(?<![\w./-])-?\d+\.\d*(?:e[-+]?\d+)?(?![\w.])")
_MOST = 400
_NEAR = 1e-2
"""Numbers that are closer, by this part of them, are the same: they are rounded, and rounding differs."""

_NAMED = 4
"""More versions than these are counted and not named."""


_KINDS = {"dev": 0, "a": 1, "b": 2, "rc": 3, "": 4, "post": 5}


def by_age(version: str) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """What versions are sorted by: the release, and around it what was there before it and after it."""
    kind = re.search(r"(dev|a|b|rc|post|)(\d*)$", version, re.ASCII)
    word, number = ("", "") if kind is None else kind.groups()
    return release(version), _KINDS[word], release(number) if word else ()


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """The script in one version.

    Attributes:
        version: the version.
        outcome: `diverges`, `conforms`, or `error` where it could not be run.
        beside: the versions of what else it ran with, by name; empty where it did not run.
        said: the last line that it printed, or why it could not be run.
        numbers: those that it printed before, where it diverges.
        seconds: how long that took, the installation included.
    """

    version: str
    outcome: Outcome
    beside: dict[str, str] = {}
    said: str = ""
    numbers: tuple[float, ...] = ()
    seconds: float = 0.0

    @property
    def decided(self) -> bool:
        """Whether the script ran to its end."""
        return self.outcome != ERROR

    def like(self, other: Trial) -> bool:
        """Whether the outcome is the same, and what diverges does so by the same numbers, or with that exception."""
        if self.outcome != DIVERGES or other.outcome != DIVERGES:
            return self.outcome == other.outcome
        if len(self.numbers) != len(other.numbers) or _words(self.said) != _words(other.said):
            return False
        # By the middle one: a ratio to what is nearly nothing would make all others small.
        scale = statistics.median(map(abs, self.numbers)) if self.numbers else 0.0
        pairs = zip(self.numbers, other.numbers, strict=True)
        return all(math.isclose(a, b, rel_tol=_NEAR, abs_tol=_NEAR * scale) for a, b in pairs)


def _words(said: str) -> list[str]:
    return said.partition(DIVERGES.upper())[2].split()[:2]


def numbers(printed: str) -> tuple[float, ...]:
    """The decimal numbers in what a script has printed, without those that are part of a name, a path or a version."""
    return tuple(float(match[0]) for match in _NUMBER.finditer(printed))[:_MOST]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Two versions, next to each other among those that are decided, in which the script says something else.

    Attributes:
        before: the older one.
        after: the newer one.
        failed: the versions between them in which it could not be run.
        untried: those in which it was not tried.
        next_to: whether the two are known to be next to each other, with no version between them.
    """

    before: Trial
    after: Trial
    failed: tuple[str, ...] = ()
    untried: tuple[str, ...] = ()
    next_to: bool = False

    @property
    def began(self) -> bool:
        """Whether the finding began there; else it ended."""
        return self.after.outcome == DIVERGES

    def __str__(self) -> str:
        if self.before.outcome == self.after.outcome:
            more = f"{self._between()}{self._other()}".removeprefix("; ")
            told = f"other numbers in {self.after.version} than in {self.before.version}"
            return f"{told} ({more})" if more else told
        verb = BEGAN if self.began else ENDED
        before, after = self.before.version, self.after.version
        told = f"{verb} in {after} ({before} {self.before.outcome}"
        if not self.next_to:
            told = f"{verb} after {before} and not later than {after} ({before} {self.before.outcome}, {after}"
            told += f" {self.after.outcome}"
        return f"{told}{self._between()}{self._other()})"

    def _between(self) -> str:
        parts = ((self.failed, "could not be run"), (self.untried, "not tried"))
        return "".join(f"; between them {what}: {named(versions)}" for versions, what in parts if versions)

    def _other(self) -> str:
        """What else was not the same in the two, and may be what has changed."""
        names = [name for name in self.after.beside if self.before.beside.get(name) != self.after.beside[name]]
        if not names:
            return ""
        each = [
            ", ".join(f"{name} {item.beside.get(name, '?')}" for name in names) for item in (self.before, self.after)
        ]
        return f"; but {self.before.version} ran with {each[0]} and {self.after.version} with {each[1]}"


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a finding by the versions of one package.

    Attributes:
        package: the package's name.
        versions: those that are known, oldest first.
        trials: those in which the script was tried, oldest first.
        whole: whether `versions` has all that there are; where somebody has named some, others may lie between.
    """

    package: str
    versions: tuple[str, ...]
    trials: tuple[Trial, ...] = ()
    whole: bool = False

    def taking(self, trials: Iterable[Trial], versions: Iterable[str] = (), *, whole: bool = False) -> History:
        """The same with more trials; of two of one version the later one counts."""
        of = {trial.version: trial for trial in (*self.trials, *trials)}
        asked = sorted({*self.versions, *versions, *of}, key=by_age)
        return History(
            package=self.package,
            versions=tuple(asked),
            trials=tuple(of[name] for name in asked if name in of),
            whole=self.whole or whole,
        )

    @property
    def decided(self) -> tuple[Trial, ...]:
        """The trials that say something."""
        return tuple(trial for trial in self.trials if trial.decided)

    @property
    def untried(self) -> tuple[str, ...]:
        """The versions that are known and were not tried, among those between the first and the last decided."""
        tried, ends = {trial.version for trial in self.trials}, [trial.version for trial in self.decided]
        return tuple(name for name in self._between(*ends[:1], *ends[1:][-1:]) if name not in tried)

    @property
    def changes(self) -> tuple[Change, ...]:
        """Where the outcome changes, oldest first."""
        return tuple(change for change in self._turns if change.before.outcome != change.after.outcome)

    @property
    def shifts(self) -> tuple[Change, ...]:
        """Where it diverges before and after, but by other numbers."""
        return tuple(change for change in self._turns if change.before.outcome == change.after.outcome)

    @property
    def _turns(self) -> tuple[Change, ...]:
        failed = {trial.version for trial in self.trials if not trial.decided}
        found = []
        for before, after in zip(self.decided, self.decided[1:], strict=False):
            if not before.like(after):
                between = self._between(before.version, after.version)
                found.append(
                    Change(
                        before=before,
                        after=after,
                        failed=tuple(name for name in between if name in failed),
                        untried=tuple(name for name in between if name not in failed),
                        next_to=self.whole and not between,
                    )
                )
        return tuple(found)

    def _between(self, *ends: str) -> tuple[str, ...]:
        if len(ends) < 2:
            return ()
        low, high = map(self.versions.index, ends)
        return self.versions[low + 1 : high]

    @property
    def status(self) -> str:
        """What it comes to, in a word: a name of this module."""
        if not self.decided:
            return UNKNOWN
        if len(self.changes) > 1:
            return SEVERAL
        if self.changes:
            return BEGAN if self.changes[0].began else ENDED
        return THERE if self.decided[0].outcome == DIVERGES else ABSENT

    @property
    def _caution(self) -> str:
        return "; by other numbers it may be something else that diverges" if self.shifts else ""

    def __str__(self) -> str:
        """What it comes to, in a sentence without an end."""
        decided = self.decided
        if not decided:
            return f"in no version of {self.package} could the script be run, of {len(self.trials)} tried"
        if self.changes:
            return f"{self.package}: {'; '.join(map(str, self._turns))}{self._caution}"
        verb = "there" if self.status == THERE else "not there"
        if len(decided) == 1:
            return f"{self.package}: {verb} in {decided[0].version}, the only version in which the script was run"
        span = f"from {decided[0].version} to {decided[-1].version}"
        told = f"{self.package}: {verb} in all {len(decided)} versions in which the script was run, {span}"
        if self.shifts:
            return "; ".join((told, *map(str, self.shifts))) + self._caution
        return f"{told}; between them not tried: {named(self.untried)}" if self.untried else told


def named(versions: Sequence[str]) -> str:
    """Versions in words: each by its name where they are few, else their number."""
    return ", ".join(versions) if len(versions) <= _NAMED else f"{len(versions)} versions"
