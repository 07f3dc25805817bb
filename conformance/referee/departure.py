"""What the referee says of an arm: where it departs from the clauses, and by which deviations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from conformance.arm import Arm
from conformance.data import Array
from conformance.margin import Meter
from conformance.stage import Stage


@dataclass(frozen=True)
class Named:
    """A deviation that reproduces what was seen.

    Attributes:
        name: a name of the contract.
        exact: whether it reproduces every step.
        evidence: what was computed and found, a line each.
        feature: the option involved, for the signature.
    """

    name: str
    exact: bool
    evidence: tuple[str, ...] = ()
    feature: str = ""


@dataclass(frozen=True)
class Departure:
    """A stage at which an arm departs from the clauses.

    Attributes:
        stage: the stage.
        step: the first step at which it does.
        name: the quantity that is furthest off there, as a multiple of what is allowed.
        seen: the arm's value, on the replica that is furthest off.
        wanted: the referee's.
        magnitude: the largest absolute difference.
        allowed: what rounding explains.
        causes: the deviations that reproduce it; empty where nothing does.
        beside: what the records say of it beside, a line each.
    """

    stage: Stage
    step: int
    name: str
    seen: Array
    wanted: Array
    magnitude: float
    allowed: float
    causes: tuple[Named, ...] = ()
    beside: tuple[str, ...] = ()


class Ratio(NamedTuple):
    """How much of what is allowed was seen, of one quantity that conforms."""

    value: float
    step: int
    name: str


@dataclass
class Judgement:
    """What the referee says of one trace.

    Attributes:
        arm: the arm.
        departures: in the order of the stages.
        ratios: by stage the seen / allowed of everything that conforms.
        compared: how many quantities were compared.
        skipped: what could not be judged, and why.
        unjudged: the stages of what could not be judged.
        ended: whether the weights after training were judged.
        reported: the names of the reports that were judged.
        meter: what was seen and allowed of everything compared. What comes after a departure that is explained is held
            against the deviation that explains it.
    """

    arm: Arm
    departures: list[Departure] = field(default_factory=list)
    ratios: dict[Stage, list[Ratio]] = field(default_factory=dict)
    compared: int = 0
    skipped: list[str] = field(default_factory=list)
    unjudged: set[Stage] = field(default_factory=set)
    ended: bool = False
    reported: set[str] = field(default_factory=set)
    meter: Meter = field(default_factory=Meter)

    @property
    def conforms(self) -> bool:
        """Whether nothing departs."""
        return not self.departures

    def conforms_to(self, stage: Stage) -> bool:
        """Whether everything up to a stage was judged, and nothing departs."""
        places = {*self.unjudged, *(item.stage for item in self.departures)}
        return all(place.order > stage.order for place in places)

    def skip(self, line: str, *stages: Stage) -> None:
        """Note what could not be judged, and of which stages it is."""
        self.unjudged.update(stages)
        if line not in self.skipped:
            self.skipped.append(line)
