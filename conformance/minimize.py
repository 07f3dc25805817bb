"""Making a diverging case small: Hypothesis, sketches and passes propose, the signature decides.

The key idea is that a smaller case counts only if the same finding is derived from it anew: it is run, compared and
diagnosed like any other case, in the arms the finding needs and no others. Nothing is remembered from the case it
came from, so what is left at the end stands on its own.

What is known already need not be looked for: where the corpus has a case of this finding, that is tried before all
else, and one attempt takes the place of most others. It is held to the same question as any.

Of what is new, Hypothesis goes first and gets a small share of the time, for it takes away choice by choice what a
sketch leaves out at once, and every one of its attempts trains a case that is still large. Then come the sketches, tiny
cases with few traits of the found one, and then the passes, which leave only what no pass can do without.

On one device most faults show without graphs too, and an eager step is not traced, which makes an attempt half as
dear; so a finding that shows eagerly is shrunk eagerly and confirmed at the end in the execution it was found in. Under
a `MirroredStrategy` an eager step is no cheaper than a traced one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from conformance import cases
from conformance.arm import Placement, parse_arm
from conformance.attribution import REFEREE
from conformance.case import Case
from conformance.judge import judge_case
from conformance.passes import simplified
from conformance.plan import Plan
from conformance.simplicity import simplicity
from conformance.sketch import sketched
from conformance.verdict import EVERY_ARM, Observation, Verdict


def plan_for(observation: Observation, plan: Plan) -> Plan:
    """The fewest arms from which this observation can be derived."""
    axis, (first, second) = observation.divergence.axis, observation.divergence.arms
    suspect = parse_arm(first)
    if axis == EVERY_ARM:
        return Plan((suspect.trainer,), (suspect.placement,), (suspect.execution,))
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


FEWEST = 2
"""Replicas tried instead of more."""

HYPOTHESIS_SHARE = 1 / 6
"""Of the time, for Hypothesis's shrinker; the sketches and the passes have the rest."""


MOST_KNOWN = 2
"""So many cases of the corpus are tried; those that are about the finding come first."""


def with_fewer_replicas(plan: Plan) -> Plan:
    """The plan with two replicas wherever there are more."""
    fewest = tuple(
        Placement(min(placement.replicas, FEWEST), mirrored=True) if placement.mirrored else placement
        for placement in plan.placements
    )
    return replace(plan, placements=tuple(dict.fromkeys(fewest)))


Judge = Callable[..., Verdict]


class Shrinking:
    """The question asked of every smaller case: is it still the same finding?

    Args:
        case: the case the finding was made in.
        observation: the finding.
        plan: the arms of the run.
        seconds: for how much of the processor's time cases are tried; after that every new one is refused unseen. Of
            the processor's, so that how small a case gets does not hang on what else the machine does.
        most: how many are tried at the most, for results that do not depend on the machine.
        cost: how many seconds a case like the found one takes; Hypothesis tries none that would outlast its share.
        judge: judges a case in arms as `judge_case` does; that is the default.
        within: says of a case whether it may be tried at all.

    Attributes:
        attempts: how many cases were tried.
        raised: how many of them ended in an exception of the harness, and so showed nothing.
        kept: the cases that still showed the finding, the last one kept last.
        whole: the arms of the run, with no more replicas than the finding needs.
    """

    def __init__(
        self,
        case: Case,
        observation: Observation,
        plan: Plan,
        seconds: float,
        *,
        most: float = math.inf,
        cost: float = 0.0,
        judge: Judge | None = None,
        within: Callable[[Case], bool] = lambda case: True,
    ) -> None:
        self._judge, self._within = judge, within
        self.signature = observation.signature
        self.attempts, self.raised, self._most, self._cost = 0, 0, most, cost
        self.kept: list[Case] = [case]
        self.whole, self._plan = plan, plan_for(observation, plan)
        self._judged: dict[Case, bool] = {case: True}
        self._known: tuple[Case | None] | None = None
        started = time.process_time()
        self._last = started + seconds
        self._end = started + seconds * HYPOTHESIS_SHARE
        fewer = with_fewer_replicas(self._plan)
        if fewer != self._plan and self._shows(case, fewer):
            self._plan, self.whole = fewer, with_fewer_replicas(plan)
        eager = replace(self._plan, executions=("eager",))
        apart = observation.divergence.axis == "execution" or self._plan.replicas > 1
        if not apart and self._plan != eager and self._shows(case, eager):
            self._plan = eager

    @property
    def judge(self) -> Judge:
        """What judges a case."""
        return self._judge or judge_case

    def __call__(self, case: Case) -> bool:
        """Whether the finding shows in this case."""
        if case not in self._judged:
            if time.process_time() + self._cost > self._end or self.attempts >= self._most:
                return False
            if not self._within(case):
                return False
            self._try(case)
        return self._judged[case]

    def _try(self, case: Case, plan: Plan | None = None) -> bool:
        self.attempts += 1
        self._judged[case] = self._shows(case, self._plan if plan is None else plan)
        if self._judged[case]:
            self.kept.append(case)
        return self._judged[case]

    def _shows(self, case: Case, plan: Plan) -> bool:
        try:
            return self.signature in signatures(self.judge(case, plan, quick=True))
        except Exception:  # noqa: BLE001 - what cannot be judged is not kept, and what was kept is not lost to it
            self.raised += 1
            return False

    @property
    def best(self) -> Case:
        """The simplest case that showed the finding so far."""
        return min(self.kept, key=simplicity)

    def simplified(self, case: Case) -> Case:
        """The case Hypothesis ended with, made simpler still by sketches and passes, in the rest of the time."""
        self._end, self._cost = self._last, 0.0
        least = self.take_known()
        if least is None:
            least = sketched(case, self, self.signature, self._plan.replicas)
        return min(simplified(least, self), self.best, key=simplicity)

    def take_known(self) -> Case | None:
        """Try what the corpus has of the finding, once; cases are asked in the arms that show it from then on.

        Returns:
            The simplest case of the corpus that shows the finding here, if that is simpler than the found one.
        """
        if self._known is None:
            self._known = (self._from_corpus(),)
        return self._known[0]

    def _from_corpus(self) -> Case | None:
        entries = sorted(cases.entries_showing(self.signature), key=lambda entry: not entry.tells(self.signature))
        for entry in entries[:MOST_KNOWN]:
            case = cases.load(entry.name)
            if simplicity(case) >= simplicity(self.kept[0]) or not self._within(case):
                continue
            for plan in dict.fromkeys((self._of_fit, self._plan)):
                if self._try(case, plan):
                    self._plan = plan
                    return case
        return None

    @property
    def _of_fit(self) -> Plan:
        """The arms with `fit` in the place of the guide's loop: what both have is told of `fit`, in fewer lines.

        A found case may show it in the loop alone, for `fit` raises in it, say.
        """
        alone = self._plan.trainers == ("loop",) and "fit" in self.whole.trainers
        return replace(self._plan, trainers=("fit",)) if alone else self._plan


def signatures(verdict: Verdict) -> tuple[str, ...]:
    """The signatures of a verdict's observations."""
    return tuple(item.signature for item in verdict.observations)


def confirmed(shrinking: Shrinking, smallest: Case, plan: Plan) -> Verdict:
    """The verdict on the smallest case that shows the finding in the run's own arms, with the finding first.

    Args:
        shrinking: the shrinking that has ended.
        smallest: the case it ended with.
        plan: the arms of the run.
    """
    for case, arms in _candidates(shrinking, smallest, plan):
        verdict = shrinking.judge(case, arms)
        if shrinking.signature in signatures(verdict):
            first = [item for item in verdict.observations if item.signature == shrinking.signature]
            others = [item for item in verdict.observations if item.signature != shrinking.signature]
            return _with(verdict, tuple(first + others))
    raise AssertionError("the case the finding was made in no longer shows it")


def minimized(
    case: Case, observation: Observation, plan: Plan, seconds: float, *, judge: Judge, within: Callable[[Case], bool]
) -> Verdict:
    """The verdict on the smallest case that shows a finding, found without Hypothesis.

    Args:
        case: the case the finding was made in.
        observation: the finding.
        plan: the arms.
        seconds: see `Shrinking`.
        judge: see `Shrinking`.
        within: see `Shrinking`.
    """
    shrinking = Shrinking(case, observation, plan, seconds, judge=judge, within=within)
    return confirmed(shrinking, shrinking.simplified(case), plan)


def _candidates(shrinking: Shrinking, smallest: Case, plan: Plan) -> Iterator[tuple[Case, Plan]]:
    """What to confirm, the simplest first; from one that fails, longer and longer leaps back to the first."""
    ordered = list(dict.fromkeys((smallest, *sorted(shrinking.kept, key=simplicity))))
    place, leap = 0, 1
    while place < len(ordered):
        yield ordered[place], shrinking.whole
        place, leap = place + leap, leap * 2
    yield shrinking.kept[0], plan


def _with(verdict: Verdict, observations: tuple[Observation, ...]) -> Verdict:
    import msgspec

    return msgspec.structs.replace(verdict, observations=observations)
