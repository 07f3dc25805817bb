"""What the referee says of each arm, put together: which deviation, in which arms, and so along which axis.

The key idea is that a deviation's axis is read off the arms that have it. One that every trainer has on one device is
shared, and no comparison of two of them could have shown it; one that all have on replicas alone belongs to the
distribution; one that a single trainer has belongs to that trainer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from conformance.arm import Arm, Placement
from conformance.causes import CAUSES
from conformance.compare import ulps_apart
from conformance.diagnose import signature
from conformance.referee.departure import Departure, Judgement, Named
from conformance.referee.dispute_deviations import ADVICE, DISPUTE_ADVICE, DISPUTE_SENTENCES
from conformance.stage import FINAL, Stage
from conformance.tolerance import constant_ratio
from conformance.verdict import Cause, Divergence, Expected

REFEREE = "referee"
"""What stands in the place of the second arm, and of the axis, where an arm is held against the clauses."""


@dataclass(frozen=True)
class Told:
    """One deviation, or one stage that nothing explains, with the arms that have it.

    Attributes:
        axis: `referee`, `trainer`, `distribution` or `both`.
        suspect: the arm it is told of.
        arms: all that have it.
        departure: the suspect's.
        named: the deviation; None where nothing reproduces the departure.
    """

    axis: str
    suspect: Arm
    arms: frozenset[Arm]
    departure: Departure
    named: Named | None

    @property
    def key(self) -> tuple[Stage, str, str]:
        """What is deviated in, whichever arms do."""
        return self.departure.stage, self.named.name if self.named else "", self.named.feature if self.named else ""

    @property
    def of_reports(self) -> bool:
        """Whether it is about what was reported alone."""
        return self.departure.stage is Stage.LOGS

    @property
    def signature(self) -> str:
        """The signature of a finding."""
        name, feature = (self.named.name, self.named.feature) if self.named else ("unexplained", "")
        return signature(self.axis, self.departure.stage, name, feature)


def attributed(judgements: Mapping[Arm, Judgement], placements: Sequence[Placement]) -> list[Told]:
    """Everything the referee has to say, each deviation once, in the order of a step.

    Args:
        judgements: of the arms that could be judged.
        placements: those of the plan, the reference first.
    """
    found: dict[tuple[str, str, str], list[tuple[Arm, Departure, Named | None]]] = {}
    for arm, judgement in judgements.items():
        for departure in judgement.departures:
            for named in departure.causes or (None,):
                name, feature = (named.name, named.feature) if named else ("unexplained", "")
                found.setdefault((departure.stage.value, name, feature), []).append((arm, departure, named))
    told = [_told(items, tuple(judgements), placements) for items in found.values()]
    return sorted(told, key=lambda item: item.departure.stage.order)


def _told(
    items: Sequence[tuple[Arm, Departure, Named | None]], judged: Sequence[Arm], placements: Sequence[Placement]
) -> Told:
    def all_at(placement: Placement) -> bool:
        return all(arm in arms for arm in judged if arm.placement == placement)

    arms = [arm for arm, _, _ in items]
    base = [arm for arm in arms if arm.placement == placements[0]]
    named = items[0][2]
    entry = CAUSES.get(named.name) if named else None
    of_replicas = entry is not None and entry.of_replicas
    if base and all_at(placements[0]):
        axis, suspect = ("distribution" if of_replicas else REFEREE), base[0]
    elif base:
        axis, suspect = ("both" if placements[0].mirrored else "trainer"), base[0]
    else:
        suspect = arms[0]
        axis = "distribution" if all_at(suspect.placement) else "both"
    departure, named = next((d, n) for arm, d, n in items if arm == suspect)
    return Told(axis, suspect, frozenset(arms), departure, named)


def cause_of(told: Told) -> Cause:
    """The cause with its sentence, its cure, and what was computed."""
    departure = told.departure
    if told.named is None:
        entry = CAUSES["unexplained"]
        return Cause(name=entry.name, explanation=entry.sentence, advice=entry.advice, evidence=shown(departure))
    known = CAUSES.get(told.named.name)
    if known is None:
        sentence = DISPUTE_SENTENCES[told.named.name]
        advice = DISPUTE_ADVICE.get(told.named.name, ADVICE)
        return Cause(
            name=told.named.name,
            explanation=sentence,
            advice=advice,
            exact=told.named.exact,
            evidence=told.named.evidence,
        )
    return Cause(
        name=known.name,
        explanation=known.sentence,
        advice=known.advice,
        exact=told.named.exact,
        evidence=(*told.named.evidence, *((f"clause {known.clause} of docs/semantics.md",) if known.clause else ())),
    )


def shown(departure: Departure) -> tuple[str, ...]:
    """What a departure itself shows, a line each."""
    when = "after training" if departure.step == FINAL else f"step {departure.step}"
    lines = [f"first wrong stage: {departure.stage.value} ({departure.name}), {when}, held against the referee"]
    ratio = constant_ratio(departure.seen, departure.wanted, departure.allowed)
    if ratio is not None:
        lines.append(f"the quantity is {ratio:.6g} times the referee's")
    return (*lines, *departure.beside)


def divergence_of(told: Told) -> Divergence:
    """A departure in the form of the contract: the arm against the referee."""
    departure = told.departure
    ratio = constant_ratio(departure.seen, departure.wanted, departure.allowed)
    when = "after training" if departure.step == FINAL else f"step {departure.step}"
    # A constant that reads as 1 says nothing that the amount does not.
    times = "" if ratio is None or f"{ratio:.6g}" == "1" else f" = {ratio:.6g} x the referee's"
    amount = f"off by {departure.magnitude:.4g}" if np.isfinite(departure.magnitude) else "not comparable"
    off = "" if departure.stage.value == "batch" else f": {amount}"
    allowed = "exact" if departure.allowed == 0 else f"allowed {departure.allowed:.2g}"
    return Divergence(
        arms=(str(told.suspect), REFEREE),
        axis=told.axis,
        step=None if departure.step == FINAL else departure.step,
        stage=departure.stage,
        variable=departure.name,
        magnitude=departure.magnitude,
        allowed=departure.allowed,
        ulps=ulps_apart(departure.seen, departure.wanted.astype(departure.seen.dtype)),
        ratio=ratio,
        expected=_expected(departure),
        message=f"{departure.stage.value}[{when}] {departure.name}{times}{off} ({allowed}) [{told.suspect} against the"
        " referee]",
    )


MOST_EXPECTED = 64
"""A quantity with more elements is not written out."""


def _expected(departure: Departure) -> Expected | None:
    if departure.stage is Stage.BATCH or departure.wanted.dtype.kind != "f" or departure.wanted.size > MOST_EXPECTED:
        return None
    values = tuple(float(value).hex() for value in departure.wanted.ravel())
    return Expected(shape=tuple(departure.wanted.shape), values=values)
