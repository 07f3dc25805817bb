"""The judgement of one training: run its arms, compare them, name what differs.

The harness doubts itself first. A difference across modes is believed only after the allowance was measured on many
more perturbed runs, and every difference only after both arms were run again and showed it again; what does not
repeat is `flaky`, not a finding.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace as replace_struct

from conformance.arm import Arm, Placement
from conformance.attribution import REFEREE, Told, attributed, cause_of, divergence_of
from conformance.case import Case
from conformance.causes import CAUSES
from conformance.compare import Comparison, Difference, compare
from conformance.costs import Costs
from conformance.deviations import ROUNDING_ULPS, Context
from conformance.diagnose import diagnose, rounded_otherwise, signature
from conformance.errors import AbortedError, UnsupportedError
from conformance.exception import everywhere
from conformance.margin import Margins
from conformance.prepare import PreparedArm, release
from conformance.raised import shortened
from conformance.referee.departure import Judgement
from conformance.referee.dispute_deviations import DISPUTE_SENTENCES
from conformance.referee.judgement import Referee
from conformance.square import Found, executions, square
from conformance.stage import FINAL, Stage
from conformance.standstill import unwatched
from conformance.tolerance import FIRST, MORE, Allowance
from conformance.trace import Trace
from conformance.trainers.forms import STEP, loop_of
from conformance.training import Training, training
from conformance.verdict import (
    CONFORMS,
    DIVERGES,
    RAISES,
    UNJUDGED,
    UNSUPPORTED,
    ArmReport,
    Cause,
    Divergence,
    Observation,
    Verdict,
)


@dataclass(frozen=True)
class Plan:
    """Which arms to run.

    Attributes:
        trainers: the suspect and the reference; more are held against the reference in turn. One alone is held only
            against itself on other placements and executions.
        placements: the first is the one the others are held against.
        executions: the first is the one the others are held against.
    """

    trainers: tuple[str, ...] = ("fit", "loop")
    placements: tuple[Placement, ...] = (Placement(),)
    executions: tuple[str, ...] = ("graph",)

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Every arm of the plan."""
        return tuple(Arm(t, p, e) for e in self.executions for p in self.placements for t in self.trainers)

    @property
    def replicas(self) -> int:
        """The most replicas any arm needs."""
        return max(placement.replicas for placement in self.placements)


_OWN_STEP = (
    "the model trains with optimizers of its own, and only its train_step says what a step of it is; fit is held"
    " against itself, on other devices and in other executions"
)

CLEAR = 100.0
"""A difference so many times what is allowed is no matter of how well the allowance was measured."""


class Judge:
    """Judges one training. An arm is prepared when it is first asked for.

    Args:
        subject: the training.
        plan: the arms.
        case: the case it came from, if any: causes that are tested by changing the case need it.
        trial: the user's loop, given on to changed cases.
        quick: believe a difference at first sight, for shrinking; what is left at the end is judged in full.
        alternatives: say of a cause which others this training cannot tell from it; a search asks that of the cases
            that it ends with alone.
    """

    def __init__(
        self,
        subject: Training,
        plan: Plan,
        case: Case | None = None,
        trial: Callable[..., Any] | None = None,
        *,
        quick: bool = False,
        alternatives: bool = True,
    ) -> None:
        self.subject, self.plan, self.case, self.trial = subject, plan, case, trial
        self._quick, self._alternatives = quick, alternatives and not quick
        self._vanished: dict[tuple[int, Case], bool] = {}
        self._prepared: dict[Arm, PreparedArm] = {}
        self._traces: dict[Arm, Trace] = {}
        self._unsupported: dict[Arm, str] = {}
        self._aborted: str | None = None
        self._comparisons: dict[tuple[Arm, Arm], Comparison] = {}
        self._allowance: Allowance | None = None
        self._judgements: dict[Arm, Judgement | None] = {}
        self._unjudged: list[str] = []

    # Arms.

    def trace(self, arm: Arm) -> Trace | None:
        """What an arm did; None where it cannot be run."""
        if arm in self._unsupported:
            return None
        if arm not in self._traces:
            try:
                self._prepared[arm] = PreparedArm(arm, self.subject)
                self._traces[arm] = self._prepared[arm].run()
            except UnsupportedError as error:
                self._unsupported[arm] = str(error)
                if isinstance(error, AbortedError):
                    self._aborted = str(error)
                return None
        return self._traces[arm]

    @property
    def allowance(self) -> Allowance:
        """What rounding explains, measured on the plan's own reference arm."""
        if self._allowance is None:
            arm = Arm(self.plan.trainers[-1], self.plan.placements[0], self.plan.executions[0])
            trace = self.trace(arm)
            if trace is None:
                raise UnsupportedError(self._unsupported[arm])
            self._allowance = Allowance(self._prepared[arm], trace)
            if trace.error is None:
                self._allowance.measure(FIRST)
        return self._allowance

    # The referee.

    @functools.cached_property
    def referee(self) -> Referee | None:
        """The referee of this training; None where its model cannot be made in float64, or its step is its own."""
        if self.subject.parts.compile is not None:
            self._unjudged.append(f"{UNJUDGED}: {_OWN_STEP}")
            return None
        try:
            return Referee(self.subject, alternatives=self._alternatives)
        except UnsupportedError as error:
            self._unjudged.append(f"{UNJUDGED}: {shortened(str(error))}")
            return None

    def judgement(self, arm: Arm) -> Judgement | None:
        """What the referee says of an arm; None where it ran into an exception or cannot be judged."""
        if arm not in self._judgements:
            self._judgements[arm] = self._judged(arm)
        return self._judgements[arm]

    def _judged(self, arm: Arm) -> Judgement | None:
        trace = self.trace(arm)
        if trace is None or trace.error is not None or not trace.steps or self.referee is None:
            return None
        for other, known in self._judgements.items():
            if known is not None and self._same(arm, other):
                return replace(known, arm=arm)
        try:
            return self.referee.judge(trace)
        except Exception as error:  # noqa: BLE001 - a user's layer may refuse another precision only when it trains
            self._unjudged.append(f"{UNJUDGED} of {arm}: {type(error).__name__}: {shortened(str(error))}")
            return None

    def _same(self, arm: Arm, other: Arm) -> bool:
        """Whether two arms are known to have done the same bit for bit, so that one judgement is both's."""
        if (arm.placement, arm.execution) != (other.placement, other.execution) or "trial" in (
            arm.trainer,
            other.trainer,
        ):
            return False
        for pair in ((arm, other), (other, arm)):
            comparison = self._comparisons.get(pair)
            if comparison is not None and comparison.first is None and not comparison.skipped:
                return True
        return False

    def told(self) -> list[Told]:
        """Everything the referee has to say of the plan's arms."""
        found = {arm: self.judgement(arm) for arm in self.plan.arms if arm.execution == self.plan.executions[0]}
        judged = {arm: judgement for arm, judgement in found.items() if judgement is not None}
        return attributed(judged, self.plan.placements)

    # Comparing.

    def compare(self, suspect: Arm, reference: Arm) -> Comparison | None:
        """Compare two arms; None where one cannot be run."""
        if (suspect, reference) in self._comparisons:
            return self._comparisons[suspect, reference]
        first, second = self.trace(suspect), self.trace(reference)
        if first is None or second is None:
            return None
        same_mode = _same_mode(suspect, reference)
        comparison = self._compared(first, second, same_mode)
        self._comparisons[suspect, reference] = comparison
        return comparison

    def _compared(self, first: Trace, second: Trace, same_mode: bool) -> Comparison:
        if same_mode:
            return compare(first, second)
        if (first.arm.placement, first.arm.execution) == (second.arm.placement, second.arm.execution):
            # What agrees in every bit needs no allowance, and measuring one takes longer than an arm.
            exact = compare(first, second)
            if exact.first is None:
                return exact
        comparison = compare(first, second, self.allowance)
        if self._quick or comparison.first is None or second.error is not None or first.error is not None:
            return comparison
        if comparison.first.magnitude > CLEAR * comparison.first.allowed:
            return comparison
        # Near the allowance a difference is believed only after that was measured thoroughly.
        self.allowance.measure(FIRST + MORE)
        return compare(first, second, self.allowance)

    def differences(self) -> list[Found]:
        """All differences, one an axis at most for each placement and execution."""
        suspect, reference = self.plan.trainers[0], self.plan.trainers[-1]
        pairs = [(name, reference) for name in self.plan.trainers[:-1]] or [(suspect, suspect)]
        found: list[Found] = []
        for execution in self.plan.executions:
            for pair in pairs:
                found += square(pair, self.plan.placements, execution, self.compare)
        if len(self.plan.executions) > 1:
            others = executions(self.plan.arms, self.plan.executions[0], self.compare)
            found = [self._outvoted(item, others) for item in found]
            # An arm that already differs from its partner differs from itself elsewhere as a consequence.
            told = {arm for item in found for arm in (item.suspect, item.reference)}
            found += [item for item in others if not told & {item.suspect, item.reference}]
        return found

    def _outvoted(self, found: Found, others: list[Found]) -> Found:
        """Two trainers differ in one execution: the one that also differs from itself in another is the wrong one."""
        if found.wrong is not None or found.suspect.trainer == found.reference.trainer:
            return found
        moved = {arm for item in others for arm in (item.suspect, item.reference)}
        odd = [arm for arm in (found.suspect, found.reference) if arm in moved]
        return replace(found, wrong=odd[0]) if len(odd) == 1 else found

    def repeats(self, found: Found) -> bool:
        """Run both arms again; whether they show the same difference again.

        What raised is prepared anew as well, for a second run of what has been traced is not the first.
        """
        if found.difference.raised is not None:
            self._prepared[found.difference.raised] = PreparedArm(found.difference.raised, self.subject)
        try:
            again = [self._prepared[arm].run() for arm in (found.suspect, found.reference)]
        except AbortedError:
            # That nothing runs on replicas any more is what the exception has done.
            return found.difference.raised is not None
        same_mode = _same_mode(found.suspect, found.reference)
        first = self._compared(again[0], again[1], same_mode).first
        return first is not None and first.place == found.difference.place

    # Judging.

    def verdict(self) -> Verdict:
        """Run everything and judge."""
        if any(placement.replicas > self.subject.data.rows for placement in self.plan.placements):
            most = self.plan.replicas
            reason = f"{most} replicas for {self.subject.data.rows} rows; use at least as many rows as replicas"
            return Verdict(case=self.case, verdict=UNSUPPORTED, reason=reason)
        for arm in self.plan.arms:
            self.trace(arm)
        trial = [arm for arm in self._unsupported if arm.trainer == "trial"]
        if trial or len(self._unsupported) == len(self.plan.arms):
            reason = self._unsupported[trial[0] if trial else self.plan.arms[0]]
            return Verdict(case=self.case, verdict=UNSUPPORTED, arms=self._reports(), reason=reason)
        errors = [trace.error for trace in self._traces.values()]
        if all(errors):
            return self._raising()
        differences = self.differences()
        told = self.told()
        observations: list[Observation] = []
        flaky: list[str] = []
        rounding: list[str] = []
        for found in differences:
            if self._without_callbacks(found):
                if not self._quick and not self.repeats(found):
                    flaky.append(message(found, self.subject))
                else:
                    observations += self._of_callbacks(found, told)
                continue
            if self._settled(found, told):
                if found.difference.stage.order >= Stage.UPDATE.order:
                    rounding.append(message(found, self.subject))
                continue
            if not self._quick and not self.repeats(found):
                flaky.append(message(found, self.subject))
                continue
            made = self._observed(found, told)
            if made:
                observations += made
            else:
                rounding.append(message(found, self.subject))
        remarks: list[str] = []
        # What a difference of two arms was laid to is told with that difference, whatever axis its own arms make.
        laid = {item.key for found in differences for item in _matching(found, told)[0] if item.named is not None}
        for item in told:
            if item.key in laid or item.signature in {known.signature for known in observations}:
                continue
            if self._keras_own(item):
                remarks.append(f"{divergence_of(item).message}: {cause_of(item).explanation}")
                continue
            if not self._quick and not self._told_again(item):
                flaky.append(divergence_of(item).message)
                continue
            observations.append(_observation_of(item))
        unique: dict[str, Observation] = {}
        for observation in observations:
            unique.setdefault(observation.signature, observation)
        told_once = list(unique.values()) if self.subject.trial is None else _once(unique.values())
        ordered = sorted(told_once, key=lambda item: item.divergence.stage.order)
        if not ordered and any(unwatched(trace) for arm, trace in self._traces.items() if arm.trainer == "trial"):
            return Verdict(case=self.case, verdict=UNSUPPORTED, arms=self._reports(), reason=self._silent())
        return Verdict(
            case=self.case,
            # What could not be run is never passed as conforming.
            verdict=DIVERGES if ordered else UNSUPPORTED if self._aborted else CONFORMS,
            reason=None if ordered else self._aborted,
            arms=self._reports(),
            observations=tuple(ordered),
            compared=sum(item.compared for item in self._comparisons.values()) + sum(j.compared for j in self._known),
            not_compared=tuple(
                sorted(
                    {line for item in self._comparisons.values() for line in item.skipped}
                    | {f"{j.arm}: {line}" for j in self._known for line in j.skipped}
                    | set(self._unjudged)
                )
            ),
            flaky=tuple(flaky),
            rounding=tuple(rounding),
            remarks=tuple(remarks),
            comparisons=self._margins(),
            costs=self._costs(),
        )

    def _costs(self) -> tuple[Costs, ...]:
        """What the first run of each arm of the plan cost."""
        return tuple(
            Costs(
                arm=str(arm),
                prepare=self._prepared[arm].seconds,
                first_step=trace.durations[0] if trace.durations else None,
                step=statistics.median(trace.durations[1:]) if len(trace.durations) > 1 else None,
                functions=trace.functions,
                reading=self.subject.reading,
            )
            for arm in self.plan.arms
            if (trace := self._traces.get(arm)) is not None
        )

    def _raising(self) -> Verdict:
        """The verdict where every arm that can be run raises."""
        found = everywhere(self._traces, self.case)
        verdict = Verdict(
            case=self.case,
            verdict=RAISES,
            arms=self._reports(),
            observations=() if found is None else (found,),
            reason=str(next(iter(self._traces.values())).error),
        )
        if found is None or self._quick or self._raises_again():
            return verdict
        return replace_struct(verdict, observations=(), flaky=(found.divergence.message,))

    def _raises_again(self) -> bool:
        """Prepare and run the first arm anew; whether it raises the same kind of exception."""
        arm, trace = next(iter(self._traces.items()))
        try:
            again = PreparedArm(arm, self.subject).run().error
        except AbortedError:
            return True
        return again is not None and trace.error is not None and again.kind == trace.error.kind

    def _silent(self) -> str:
        """Why a loop that does nothing is not passed where `fit` moves nothing either."""
        assert self.subject.trial is not None
        return (
            f"{loop_of(self.subject.trial).name} never called the optimizer it was given and changed no weight, and fit"
            " changes none either, so nothing tells whether it trains; give an optimizer that moves the weights"
        )

    def _margins(self) -> tuple[Margins, ...]:
        """What every comparison saw, those of two arms first."""
        pairs = {(str(a), str(b)): item.margins for (a, b), item in self._comparisons.items()}
        alone = {(str(arm), REFEREE): item.meter.margins() for arm, item in self._judgements.items() if item}
        return tuple(msgspec.structs.replace(item, arms=arms) for arms, item in {**pairs, **alone}.items() if item.rows)

    @property
    def _known(self) -> list[Judgement]:
        return [judgement for judgement in self._judgements.values() if judgement is not None]

    def _without_callbacks(self, found: Found) -> bool:
        """Whether a difference is between `fit` with callbacks and a whole loop that is given none.

        The referee judges each step from what it began with, and so knows of neither what callbacks set in between.
        """
        if self.subject.callbacks is None or self.subject.trial is None or found.difference.raised is not None:
            return False
        loop = loop_of(self.subject.trial)
        trainers = {found.suspect.trainer, found.reference.trainer}
        return loop.form != STEP and "callbacks" not in loop.parameters and trainers == {"trial", "fit"}

    def _of_callbacks(self, found: Found, told: Sequence[Told]) -> list[Observation]:
        """What is said of such a difference: the loop is held against `fit` without the callbacks, too."""
        suspect, reference = found.suspect, found.reference
        trial, fit = (suspect, reference) if suspect.trainer == "trial" else (reference, suspect)
        without = PreparedArm(fit, replace(self.subject, callbacks=None)).run()
        comparison = self._compared(self._traces[trial], without, same_mode=False)
        if comparison.first is None:
            entry = CAUSES["callbacks_not_called"]
            line = f"it trains as fit does without callbacks: {comparison.compared} quantities agree"
            return [
                Observation(
                    divergence=divergence(found, self.subject),
                    cause=Cause(
                        name=entry.name, explanation=entry.sentence, advice=entry.advice, exact=True, evidence=(line,)
                    ),
                    signature=signature(found.axis, found.difference.stage, entry.name, ""),
                    wrong_arm=str(trial),
                )
            ]
        if any(item.named is not None for item in _matching(found, told)[0]):
            return self._observed(found, told)
        observation = self._observation(found)
        line = "fit has callbacks and the loop has none: what it does in their place is not what they do"
        evidence = (line, *observation.cause.evidence)
        return [replace_struct(observation, cause=replace_struct(observation.cause, evidence=evidence))]

    def _settled(self, found: Found, told: Sequence[Told]) -> bool:
        """Whether the referee has judged all there is to a difference from a user's loop, and says nothing of it.

        A loop owes `fit` no bits: it may add up in another order, and report what it likes on its replicas.
        """
        if "trial" not in (found.suspect.trainer, found.reference.trainer) or found.difference.raised is not None:
            return False
        judged = [self.judgement(arm) for arm in (found.suspect, found.reference)]
        if any(item is None or item.skipped or not item.compared for item in judged):
            return False
        if found.suspect.placement != found.reference.placement:
            return self._apart_by_definition(found) <= found.difference.allowed and not _matching(found, told)[0]
        return not _matching(found, told)[0]

    def _keras_own(self, item: Told) -> bool:
        """Whether something is Keras's affair and no news to who asks about parts and loops of their own."""
        trial = self.subject.trial is not None
        if self.case is not None and not trial:
            return False
        disputed = item.named is not None and item.named.name in DISPUTE_SENTENCES
        return disputed or (trial and item.suspect.trainer != "trial" and item.of_reports)

    def _told_again(self, item: Told) -> bool:
        """Run the arm again; whether the referee says the same again."""
        assert self.referee is not None
        try:
            again = self.referee.judge(self._prepared[item.suspect].run())
        except AbortedError:
            return False
        name = item.named.name if item.named else None
        return any(
            departure.stage is item.departure.stage and name in {n.name for n in departure.causes} | {None}
            for departure in again.departures
        )

    def _observed(self, found: Found, told: Sequence[Told]) -> list[Observation]:
        """What is said of a difference; nothing where rounding alone explains it."""
        matching, wrong = ([], found.suspect) if found.difference.raised is not None else _matching(found, told)
        named = [(item, item.named) for item in matching if item.named is not None]
        if named:
            entered = named[0][0].departure.stage
            return [
                Observation(
                    # What enters at a later stage is no matter of the quantity in which the two differ first.
                    divergence=divergence(found, self.subject)
                    if item.departure.stage is entered
                    else divergence_of(replace(item, axis=found.axis)),
                    cause=cause_of(item),
                    signature=signature(found.axis, item.departure.stage, known.name, known.feature),
                    wrong_arm=str(wrong),
                )
                for item, known in named
            ]
        observation = self._observation(found)
        if observation.cause.name != "unexplained" or matching or not self._both_conform(found):
            return [observation]
        if not _same_mode(found.suspect, found.reference):
            apart = self._apart_by_definition(found)
            if apart <= found.difference.allowed:
                # Two arms in different modes each took every step as the referee does: then rounding grew.
                return []
            line = (
                f"both take that step as the referee does, and by the clauses too they are {apart:.4g} apart: a layer"
                " or a loss looks at all rows of a batch, of which each replica has its own alone"
            )
            evidence = (*observation.cause.evidence, line)
            return [replace_struct(observation, cause=replace_struct(observation.cause, evidence=evidence))]
        ulps = found.difference.ulps
        if ulps is None or ulps > ROUNDING_ULPS:
            return [observation]
        cause, signed = rounded_otherwise(found.axis, found.difference)
        return [replace_struct(observation, cause=cause, signature=signed)]

    def _apart_by_definition(self, found: Found) -> float:
        """How far two arms are apart by the clauses themselves at a step that both began alike; 0 where they did not.

        Of two arms on different placements each may be right by itself: what looks at all rows of a batch has others
        to look at on a replica. Nothing can have grown between them by then.
        """
        difference = found.difference
        step, stage = difference.step, difference.stage
        if self.referee is None or step is None or step == FINAL or difference.raised is not None:
            return 0.0
        traces = [self._traces[arm] for arm in (found.suspect, found.reference)]
        befores = [trace.before(step, Stage.WEIGHTS) for trace in traces]
        if step > 0 and any(not np.array_equal(befores[0][name][0], befores[1][name][0]) for name in befores[0]):
            return 0.0
        return self.referee.apart(traces, step, stage, difference.name)

    def _both_conform(self, found: Found) -> bool:
        """Whether two arms each took every step as the referee does."""
        if found.difference.raised is not None:
            return False
        judged = [self.judgement(arm) for arm in (found.suspect, found.reference)]
        return all(item is not None and item.conforms and not item.skipped and item.compared for item in judged)

    @property
    def worst(self) -> float:
        """The largest seen / allowed among what was within its allowance."""
        return max((item.worst for item in self._comparisons.values()), default=0.0)

    def _reports(self) -> tuple[ArmReport, ...]:
        reports = []
        for arm in dict.fromkeys((*self.plan.arms, *self._traces)):
            if arm in self._unsupported:
                reports.append(ArmReport(arm=str(arm), status="unsupported", reason=self._unsupported[arm]))
            elif arm in self._traces:
                trace = self._traces[arm]
                status = "raised" if trace.error else "ran"
                reports.append(ArmReport(arm=str(arm), status=status, seconds=trace.seconds, raised=trace.error))
        return tuple(reports)

    def _observation(self, found: Found) -> Observation:
        suspect, reference = self._traces[found.suspect], self._traces[found.reference]
        context = Context(
            axis=found.axis,
            difference=found.difference,
            suspect=suspect,
            reference=reference,
            allowed=lambda key: self.allowance.of(key, reference.merged(key)),
            options=_options(self._prepared[found.reference]),
            case=self.case,
            vanishes=None if self.case is None else lambda case: self._vanishes(found, case),
        )
        cause, signature = diagnose(context)
        wrong = found.wrong or self._arbitrated(found)
        if wrong is None and cause.exact and found.difference.raised is None:
            # The deviation was replayed on what the suspect did.
            wrong = found.suspect
        return Observation(
            divergence=divergence(found, self.subject),
            cause=cause,
            signature=signature,
            wrong_arm=None if wrong is None else str(wrong),
        )

    def _vanishes(self, found: Found, case: Case) -> bool:
        """Whether the two arms, given another case, agree at least up to where they differed."""
        known = self._vanished.get((id(found), case))
        if known is None:
            known = self._vanished[id(found), case] = self._vanishes_in(found, case)
        return known

    def _vanishes_in(self, found: Found, case: Case) -> bool:
        arms = (found.suspect, found.reference)
        plan = Plan((found.suspect.trainer,), tuple(arm.placement for arm in arms[::-1]), self.plan.executions)
        other = Judge(training(case, self.trial), plan, case, self.trial, quick=True)
        comparison = other.compare(*arms)
        if comparison is None:
            return False
        return comparison.first is None or comparison.first.place[:2] > found.difference.place[:2]

    def _arbitrated(self, found: Found) -> Arm | None:
        """The wrong one of two trainers by the vote of the reference loop, where the two are fit and a user's loop."""
        if {found.suspect.trainer, found.reference.trainer} != {"fit", "trial"}:
            return None
        arbiter = replace_trainer(found.suspect, "loop")
        agreed = [
            arm
            for arm in (found.suspect, found.reference)
            if (comparison := self.compare(arm, arbiter)) is not None and comparison.first is None
        ]
        if len(agreed) != 1:
            return None
        return found.suspect if agreed[0] == found.reference else found.reference


def _same_mode(first: Arm, second: Arm) -> bool:
    """Whether two arms owe one another the same bits: trainers of ours, on one placement in one execution."""
    ours = "trial" not in (first.trainer, second.trainer)
    return ours and (first.placement, first.execution) == (second.placement, second.execution)


def _matching(found: Found, told: Sequence[Told]) -> tuple[list[Told], Arm]:
    """What the referee says of one arm of a difference and not of the other, and of which arm.

    A loss that is wrong is seen where the arm shows it first, which may be as late as its gradient or its report.
    """
    sides = [(found.suspect, found.reference), (found.reference, found.suspect)]
    for arm, other in sides:
        only = [item for item in told if arm in item.arms and other not in item.arms]
        late = [item for item in only if item.departure.stage.order >= found.difference.stage.order]
        if late:
            return late, arm
    return [], found.suspect


def _observation_of(item: Told) -> Observation:
    return Observation(
        divergence=divergence_of(item),
        cause=cause_of(item),
        signature=item.signature,
        wrong_arm=str(item.suspect),
    )


def _once(observations: Iterable[Observation]) -> list[Observation]:
    """Every fault of an arm once: beside a loop that is right, one of `fit` differs from two arms, on two axes.

    Where there is a choice, the difference is told from the side of the arm that is wrong.
    """
    kept: dict[tuple[str, str], Observation] = {}
    for item in observations:
        _, _, fault = item.signature.partition("/")
        key = (fault, item.wrong_arm or item.divergence.axis)
        known = kept.setdefault(key, item)
        if known.divergence.arms[0] != item.wrong_arm == item.divergence.arms[0]:
            kept[key] = item
    return list(kept.values())


def replace_trainer(arm: Arm, trainer: str) -> Arm:
    """The arm with another trainer."""
    return Arm(trainer, arm.placement, arm.execution)


def _options(prepared: PreparedArm) -> dict[str, Any]:
    config = getattr(prepared, "optimizer", None)
    if config is None:
        return {}
    return {key: value for key, value in config.get_config().items() if value}


def judge_case(
    case: Case,
    plan: Plan,
    trial: Callable[..., Any] | None = None,
    *,
    quick: bool = False,
    alternatives: bool = True,
) -> Verdict:
    """The verdict on a case.

    Args:
        case: the case.
        plan: the arms.
        trial: a user's loop; the plan names it `trial`.
        quick: see `Judge`.
        alternatives: see `Judge`.
    """
    try:
        return Judge(training(case, trial), plan, case, trial, quick=quick, alternatives=alternatives).verdict()
    finally:
        release()


def divergence(found: Found, subject: Training) -> Divergence:
    """A difference in the form of the contract."""
    difference = found.difference
    step = None if difference.step in (None, FINAL) else difference.step
    return Divergence(
        arms=(str(found.suspect), str(found.reference)),
        axis=found.axis,
        step=step,
        epoch=difference.epoch,
        stage=difference.stage,
        variable=difference.name,
        magnitude=difference.magnitude,
        allowed=difference.allowed,
        ulps=difference.ulps,
        ratio=difference.ratio,
        message=message(found, subject),
    )


def incomparable(difference: Difference) -> str:
    """What keeps two values from being so and so far apart."""
    seen, wanted = difference.seen, difference.wanted
    if seen is not None and wanted is not None and seen.shape != wanted.shape:
        return f"of shape {seen.shape} in the one, of shape {wanted.shape} in the other"
    return "finite in the one where it is infinite or no number in the other"


def message(found: Found, subject: Training) -> str:
    """Seen, wanted and where, in one line."""
    difference = found.difference
    where = f"[{found.suspect} against {found.reference}]"
    if difference.note:
        return f"{difference.note} {where}"
    if difference.step == FINAL:
        when = "after training"
    elif difference.step is not None:
        when = f"step {difference.step}"
    else:
        when = f"epoch {difference.epoch}"
    # A constant that reads as 1 says nothing that the amount does not.
    same = difference.ratio is None or f"{difference.ratio:.6g}" == "1"
    ratio = "" if same else f" = {difference.ratio:.6g} x the other's"
    ulps = "" if difference.ulps is None or difference.ulps > 1_000 else f", {difference.ulps} ulp"
    if not math.isfinite(difference.magnitude):
        return f"{difference.stage.value}[{when}] {difference.name}: {incomparable(difference)} {where}"
    allowed = "the same bits are due" if difference.allowed == 0 else f"allowed {difference.allowed:.2g}"
    return (
        f"{difference.stage.value}[{when}] {difference.name}{ratio}: off by {difference.magnitude:.4g}{ulps}"
        f" ({allowed}) {where}"
    )
