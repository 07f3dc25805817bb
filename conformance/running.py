"""The arms of one training: run once each, held against one another and against the referee, and run again.

The harness doubts itself first. A difference across modes is believed only after the allowance was measured on many
more perturbed runs, and every difference only after both arms were run again and showed it again.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace as replace_struct

from conformance.arm import Arm
from conformance.attribution import REFEREE, Told, attributed
from conformance.case import Case
from conformance.compare import Comparison, compare
from conformance.costs import Costs
from conformance.errors import AbortedError, UnsupportedError
from conformance.margin import Margins
from conformance.plan import Plan
from conformance.prepare import PreparedArm
from conformance.raised import shortened
from conformance.referee.departure import Judgement
from conformance.referee.judgement import Referee
from conformance.square import Found, executions, square
from conformance.stage import FINAL, Stage
from conformance.tolerance import FIRST, MORE, Allowance
from conformance.trace import Trace
from conformance.trainers.forms import STEP, loop_of
from conformance.training import Training
from conformance.verdict import (
    UNJUDGED,
    ArmReport,
)

_OWN_STEP = "the model trains with optimizers of its own, and only its train_step says what a step of it is; "
_OWN_LOSS = "no loss was given, and only the train_step of the model says what a step of it is; "
_AGAINST_ITSELF = "fit is held against itself, on other devices and in other executions"
_AGAINST_FIT = "the loop is held against fit with that"

NARROW = "layers in float64: the referee computes them in float32, for the model cannot be made in float64"
"""How the line begins by which it is said that the referee shares the arms' precision in the layers."""

CLEAR = 100.0
"""A difference so many times what is allowed is no matter of how well the allowance was measured."""


class Running:
    """Runs one training in the arms of a plan. An arm is prepared when it is first asked for.

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
        self._told_silent: dict[int, str | None] = {}
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
                self._in_place_of_callbacks(self._traces[arm])
            except UnsupportedError as error:
                self._unsupported[arm] = str(error)
                if isinstance(error, AbortedError):
                    self._aborted = str(error)
                return None
        return self._traces[arm]

    @property
    def leaves_callbacks(self) -> bool:
        """Whether there are callbacks, and a whole loop on trial that is not given them."""
        if self.subject.callbacks is None or self.subject.trial is None:
            return False
        loop = loop_of(self.subject.trial)
        return loop.form != STEP and "callbacks" not in loop.parameters

    def _in_place_of_callbacks(self, trace: Trace) -> None:
        """Allow a whole loop without callbacks what those of `fit` have done: to end early, to restore weights.

        Whether it has done so as they did, a comparison of the two says; the referee knows of neither.
        """
        fit = replace_struct(trace.arm, trainer="fit")
        if trace.arm.trainer != "trial" or trace.error is not None:
            return
        if not self.leaves_callbacks or fit not in self.plan.arms:
            return
        of_fit = self.trace(fit)
        if of_fit is not None:
            trace.stopped |= of_fit.stopped
            trace.moved_at_end |= of_fit.moved_at_end

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
            against = _AGAINST_ITSELF if self.subject.trial is None else _AGAINST_FIT
            own = _OWN_LOSS if self.subject.parts.single else _OWN_STEP
            self._unjudged.append(f"{UNJUDGED}: {own}{against}")
            return None
        try:
            made = Referee(self.subject, alternatives=self._alternatives)
        except UnsupportedError as error:
            self._unjudged.append(f"{UNJUDGED}: {shortened(str(error))}")
            return None
        if made.narrow:
            self._unjudged.append(f"{NARROW}: {shortened(made.narrow)}")
        return made

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
        comparison = self._compared(first, second, same_mode(suspect, reference))
        self._comparisons[suspect, reference] = comparison
        return comparison

    def _compared(self, first: Trace, second: Trace, same_bits: bool) -> Comparison:
        if same_bits:
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

    # Running again.

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
        first = self._compared(again[0], again[1], same_mode(found.suspect, found.reference)).first
        return first is not None and first.place == found.difference.place

    def told_again(self, item: Told) -> bool:
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

    def raises_again(self) -> bool:
        """Prepare and run the first arm anew; whether it raises the same kind of exception."""
        arm, trace = next(iter(self._traces.items()))
        try:
            again = PreparedArm(arm, self.subject).run().error
        except AbortedError:
            return True
        return again is not None and trace.error is not None and again.kind == trace.error.kind

    # What the referee makes of two arms.

    def apart_by_definition(self, found: Found, **otherwise: bool) -> float:
        """How far two arms are apart by the clauses themselves at a step that both began alike; 0 where they did not.

        Of two arms on different placements each may be right by itself: what looks at all rows of a batch has others
        to look at on a replica. Nothing can have grown between them by then.

        Args:
            found: the difference of the two.
            **otherwise: what the model does otherwise in both, see `Referee.apart`.
        """
        difference = found.difference
        step, stage = difference.step, difference.stage
        if self.referee is None or step is None or step == FINAL or difference.raised is not None:
            return 0.0
        traces = [self._traces[arm] for arm in (found.suspect, found.reference)]
        befores = [trace.before(step, Stage.WEIGHTS) for trace in traces]
        if step > 0 and any(not np.array_equal(befores[0][name][0], befores[1][name][0]) for name in befores[0]):
            return 0.0
        return self.referee.apart(traces, step, stage, difference.name, **otherwise)

    def both_conform(self, found: Found) -> bool:
        """Whether two arms each took every step as the referee does, as far as to where they differ.

        Every step is judged from what was recorded before it, so that what departs behind that stage, as an update does
        that Keras makes otherwise than the clauses, says nothing of how the two came to differ there.
        """
        if found.difference.raised is not None:
            return False
        judged = [self.judgement(arm) for arm in (found.suspect, found.reference)]
        stage = found.difference.stage
        return all(item is not None and item.compared and item.conforms_to(stage) for item in judged)

    # What there is to report.

    @property
    def worst(self) -> float:
        """The largest seen / allowed among what was within its allowance."""
        return max((item.worst for item in self._comparisons.values()), default=0.0)

    @property
    def known(self) -> list[Judgement]:
        """What the referee said of the arms that it could judge."""
        return [judgement for judgement in self._judgements.values() if judgement is not None]

    def costs(self) -> tuple[Costs, ...]:
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

    def reports(self) -> tuple[ArmReport, ...]:
        """What became of every arm."""
        reports = []
        for arm in dict.fromkeys((*self.plan.arms, *self._traces)):
            if arm in self._unsupported:
                reports.append(ArmReport(arm=str(arm), status="unsupported", reason=self._unsupported[arm]))
            elif arm in self._traces:
                trace = self._traces[arm]
                status = "raised" if trace.error else "ran"
                reports.append(ArmReport(arm=str(arm), status=status, seconds=trace.seconds, raised=trace.error))
        return tuple(reports)

    def margins(self) -> tuple[Margins, ...]:
        """What every comparison saw, those of two arms first."""
        pairs = {(str(a), str(b)): item.margins for (a, b), item in self._comparisons.items()}
        alone = {(str(arm), REFEREE): item.meter.margins() for arm, item in self._judgements.items() if item}
        return tuple(msgspec.structs.replace(item, arms=arms) for arms, item in {**pairs, **alone}.items() if item.rows)


def same_mode(first: Arm, second: Arm) -> bool:
    """Whether two arms owe one another the same bits: trainers of ours, on one placement in one execution."""
    ours = "trial" not in (first.trainer, second.trainer)
    return ours and (first.placement, first.execution) == (second.placement, second.execution)
