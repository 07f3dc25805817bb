"""Making a diverging case small: Hypothesis proposes, the signature decides.

The key idea is that a smaller case counts only if the same finding is derived from it anew: it is run, compared and
diagnosed like any other case, in the arms the finding needs and no others. Nothing is remembered from the case it
came from, so what is left at the end stands on its own.

Most faults show without graphs too, and an eager step is not traced, which makes an attempt several times cheaper; so
a finding that shows eagerly is shrunk eagerly and confirmed at the end in the execution it was found in.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

from conformance.arm import Placement, parse_arm
from conformance.attribution import REFEREE
from conformance.case import Case
from conformance.judge import Plan, judge_case
from conformance.passes import simplified
from conformance.verdict import Observation, Verdict


def plan_for(observation: Observation, plan: Plan) -> Plan:
    """The fewest arms from which this observation can be derived."""
    axis, (first, second) = observation.divergence.axis, observation.divergence.arms
    suspect = parse_arm(first)
    if second == REFEREE:
        # The axis of what the referee says is read off all arms: which of them have it, and on which placement. What
        # no arm has alone can be said of any of them.
        trainers = (suspect.trainer,) if axis in (REFEREE, "distribution") else plan.trainers
        both = dict.fromkeys((plan.placements[0], suspect.placement))
        return Plan(trainers, tuple(both), (suspect.execution,))
    reference = parse_arm(second)
    if axis == "execution":
        return Plan((suspect.trainer,), (suspect.placement,), (reference.execution, suspect.execution))
    if axis == "distribution":
        return Plan((suspect.trainer,), (reference.placement, suspect.placement), (suspect.execution,))
    placements: tuple[Placement, ...] = (suspect.placement,)
    if axis == "both" and plan.placements[0] != suspect.placement:
        placements = (plan.placements[0], suspect.placement)
    return Plan((suspect.trainer, reference.trainer), placements, (suspect.execution,))


class Shrinking:
    """The question Hypothesis asks of every smaller case: is it still the same finding?

    Args:
        case: the case the finding was made in.
        observation: the finding.
        plan: the arms of the run.
        seconds: for how long cases are tried; after that every new one is refused unseen.
        most: how many are tried at the most, for results that do not depend on the machine.

    Attributes:
        attempts: how many cases were tried.
        kept: the cases that still showed the finding, the last one kept last.
    """

    def __init__(
        self, case: Case, observation: Observation, plan: Plan, seconds: float, *, most: float = math.inf
    ) -> None:
        self.signature = observation.signature
        self._plan = plan_for(observation, plan)
        self._known: dict[Case, bool] = {case: True}
        self.kept: list[Case] = [case]
        self.attempts, self._most = 0, most
        self._seconds = seconds
        self._end = time.monotonic() + seconds / 3
        eager = replace(self._plan, executions=("eager",))
        if observation.divergence.axis != "execution" and self._plan != eager and self._shows(case, eager):
            self._plan = eager

    def __call__(self, case: Case) -> bool:
        """Whether the finding shows in this case."""
        if case not in self._known:
            if time.monotonic() > self._end or self.attempts >= self._most:
                return False
            self.attempts += 1
            self._known[case] = self._shows(case, self._plan)
            if self._known[case]:
                self.kept.append(case)
        return self._known[case]

    def _shows(self, case: Case, plan: Plan) -> bool:
        return self.signature in signatures(judge_case(case, plan, quick=True))

    def simplified(self, case: Case) -> Case:
        """The case Hypothesis ended with, made simpler still by the named passes, in the rest of the time."""
        self._end = time.monotonic() + self._seconds * 2 / 3
        return simplified(case, self)


def signatures(verdict: Verdict) -> tuple[str, ...]:
    """The signatures of a verdict's observations."""
    return tuple(item.signature for item in verdict.observations)


def confirmed(shrinking: Shrinking, smallest: Case, plan: Plan) -> Verdict:
    """The verdict on the smallest case that shows the finding in the run's own arms, with the finding first.

    Args:
        shrinking: the shrinking that has ended.
        smallest: the case Hypothesis ended with.
        plan: the arms of the run.
    """
    for case in dict.fromkeys((smallest, *shrinking.kept[::-1])):
        verdict = judge_case(case, plan)
        if shrinking.signature in signatures(verdict):
            first = [item for item in verdict.observations if item.signature == shrinking.signature]
            others = [item for item in verdict.observations if item.signature != shrinking.signature]
            return _with(verdict, tuple(first + others))
    raise AssertionError("the case the finding was made in no longer shows it")


def _with(verdict: Verdict, observations: tuple[Observation, ...]) -> Verdict:
    import msgspec

    return msgspec.structs.replace(verdict, observations=observations)
