"""How much of what rounding allows correct trainings use, and whatever else was said of them.

The key idea is that the calibration of many cases is the sum of those of one case each. Counts add up, the worst ratio
is the largest one, lists are sorted; so the sum does not depend on which worker had which case, or on who was first.

A harness whose allowances are too narrow accuses correct arms; one whose allowances are too wide accuses none. The
histogram of seen / allowed over cases in which nothing is wrong shows how far it is from the first; planted faults
show how far from the second.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping

import msgspec

from conformance.verdict import CONFORMS, DIVERGES, KNOWN, UNSUPPORTED

EDGES = (1e-4, 1e-3, 1e-2, 0.1, 0.2, 0.5)
BINS = ("0", "<1e-4", "<1e-3", "<1e-2", "<0.1", "<0.2", "<0.5", "<=1")
"""What is within its allowance may use all of it, so the last bin ends with 1 itself."""

FAILED = "failed"
"""The outcome of a case in which the harness itself ran into an exception."""

ITSELF = "itself"
"""The axis of an arm that did not do the same twice."""


class Worst(msgspec.Struct, frozen=True, order=True):
    """A quantity's seen / allowed, and where it was seen: ordered by the ratio, and then so that there is one worst.

    Attributes:
        value: the ratio.
        path: the case's file.
        arm: the arm.
        stage: the stage.
        step: the step, or `conformance.trace.FINAL`.
        name: the quantity.
    """

    value: float
    path: str
    arm: str
    stage: str
    step: int
    name: str

    @property
    def where(self) -> str:
        """Everything but the ratio, in one line."""
        # What is left when training has returned has a number below those of the steps.
        when = f"step {self.step}" if self.step >= 0 else "after training"
        return f"{self.stage}, {self.name}, {when}, {self.arm}, {self.path}"


class Ratios(msgspec.Struct, frozen=True):
    """The histogram of one stage: a count for each of `BINS`, and the worst."""

    counts: tuple[int, ...] = (0,) * len(BINS)
    worst: Worst | None = None

    @property
    def count(self) -> int:
        """How many ratios there are."""
        return sum(self.counts)

    def merged(self, other: Ratios) -> Ratios:
        """Both together."""
        worst = max((item for item in (self.worst, other.worst) if item is not None), default=None)
        return Ratios(tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)), worst)


def ratios(items: list[Worst]) -> Ratios:
    """The histogram of ratios that were seen at one stage."""
    counts = [0] * len(BINS)
    for item in items:
        counts[bin_of(item.value)] += 1
    return Ratios(tuple(counts), max(items, default=None))


def bin_of(value: float) -> int:
    """The bin of a ratio, as its place in `BINS`; exact agreement has one of its own."""
    return 0 if value == 0 else 1 + bisect_right(EDGES, value)


class Item(msgspec.Struct, frozen=True, order=True):
    """Something said of an arm in a case: a departure that is news, or a failure of the harness."""

    signature: str
    path: str
    arm: str
    message: str


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen in some cases, one or many.

    Attributes:
        cases: how many.
        arms: how many arms of theirs were held against the referee.
        repeated: how many quantities an arm gave again, bit for bit, when it was prepared and run anew.
        compared: how many quantities were held against the referee; what is due exactly has no ratio.
        stages: the histograms, by stage.
        known: by signature in how many cases something departs as the corpus says.
        news: what departs otherwise, and what an arm did not do twice.
        raised: by exception how many arms raised.
        unsupported: by reason how many arms could not be run.
        skipped: by reason how often something could not be judged.
        failures: what the harness itself ran into.
    """

    cases: int = 0
    arms: int = 0
    repeated: int = 0
    compared: int = 0
    stages: dict[str, Ratios] = msgspec.field(default_factory=dict)
    known: dict[str, int] = msgspec.field(default_factory=dict)
    news: tuple[Item, ...] = ()
    raised: dict[str, int] = msgspec.field(default_factory=dict)
    unsupported: dict[str, int] = msgspec.field(default_factory=dict)
    skipped: dict[str, int] = msgspec.field(default_factory=dict)
    failures: tuple[Item, ...] = ()

    def merged(self, other: Calibration) -> Calibration:
        """Both together; no order of merging gives another result."""
        names = {*self.stages, *other.stages}
        none = Ratios()
        return Calibration(
            cases=self.cases + other.cases,
            arms=self.arms + other.arms,
            repeated=self.repeated + other.repeated,
            compared=self.compared + other.compared,
            stages={name: self.stages.get(name, none).merged(other.stages.get(name, none)) for name in sorted(names)},
            known=_added(self.known, other.known),
            news=tuple(sorted(self.news + other.news)),
            raised=_added(self.raised, other.raised),
            unsupported=_added(self.unsupported, other.unsupported),
            skipped=_added(self.skipped, other.skipped),
            failures=tuple(sorted(self.failures + other.failures)),
        )

    @property
    def worst(self) -> Worst | None:
        """The largest seen / allowed of all stages."""
        return max((item.worst for item in self.stages.values() if item.worst is not None), default=None)

    @property
    def signatures(self) -> dict[str, int]:
        """In how many cases each signature was told, known ones and news."""
        return _added(self.known, Counter(item.signature for item in self.news))

    @property
    def outcome(self) -> str:
        """The gravest thing there is to say, as a case's outcome."""
        if self.failures:
            return FAILED
        if self.news:
            return DIVERGES
        if not self.compared:
            return UNSUPPORTED
        return KNOWN if self.known else CONFORMS


def _added(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted((Counter(first) + Counter(second)).items()))
