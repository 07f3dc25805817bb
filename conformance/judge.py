"""The judgement of one training: run its arms, compare them, name what differs.

The harness doubts itself first. A difference across modes is believed only after the allowance was measured on many
more perturbed runs, and every difference only after both arms were run again and showed it again; what does not
repeat is `flaky`, not a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from msgspec.structs import replace as replace_struct

from conformance.arm import Arm
from conformance.attribution import REFEREE, Told, cause_of, divergence_of
from conformance.case import Case
from conformance.causes import CAUSES
from conformance.deviations import ROUNDING_ULPS, Context
from conformance.diagnose import diagnose, rounded_otherwise, signature
from conformance.diagnose import signature as named
from conformance.exception import everywhere
from conformance.optimizer_config import config_of
from conformance.placement_layers import STREAM, cause_of_layers, of_statistics
from conformance.plan import Plan
from conformance.prepare import PreparedArm, release
from conformance.referee.dispute_deviations import DISPUTE_SENTENCES
from conformance.referee.draws import drawn_as, draws
from conformance.running import Running, same_mode
from conformance.square import Found
from conformance.stage import FINAL, Stage
from conformance.standstill import unwatched
from conformance.telling import divergence, message
from conformance.tolerance import distance
from conformance.trainers.fit import has_own_step
from conformance.trainers.forms import STEP, loop_of
from conformance.training import training
from conformance.verdict import (
    CONFORMS,
    DIVERGES,
    RAISES,
    UNSUPPORTED,
    Cause,
    Divergence,
    Observation,
    Verdict,
)

OWN_OBJECTIVE = (
    "Where the model's own `train_step` means to train by another loss than the one that is given, leave `loss=` out;"
    " or keep it, where the step calls `self.compute_loss`, and give `optimizer={'optimizer': optimizer}`. A loop is"
    " then held against that `train_step`, and without a loop it is held against itself, on other devices and in other"
    " executions: `conformance.check(model=build_model, optimizer=optimizer, data=(x, y), replicas=(1, 2))`. Where it"
    " means to train as fit does, read the evidence: the first wrong stage is where to look."
)
"""What to do where nothing explains what a `train_step` of the model's own does."""


class Judge(Running):
    """Judges one training: what of the differences of its arms is a divergence, whose, and why."""

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
            return Verdict(case=self.case, verdict=UNSUPPORTED, arms=self.reports(), reason=reason)
        errors = [trace.error for trace in self._traces.values()]
        if all(errors):
            return self._raising()
        differences = self.differences()
        told = self.told()
        observations: list[Observation] = []
        flaky: list[str] = []
        rounding: list[str] = []
        remarks: list[str] = []
        laid: set[Any] = set()
        for found in differences:
            if self._without_callbacks(found):
                if not self._quick and not self.repeats(found):
                    flaky.append(message(found, self.subject))
                else:
                    observations += self._of_callbacks(found, told)
                continue
            cause = self._of_layers(found)
            if cause == STREAM:
                remarks.append(f"{STREAM}, which is no divergence: {message(found, self.subject)}")
                continue
            if cause is not None:
                observations.append(of_statistics(divergence(found, self.subject), str(found.suspect)))
                continue
            # What a difference of two arms was laid to is told with that difference, whatever axis its own arms make.
            laid |= {item.key for item in _matching(found, told)[0] if item.named is not None}
            if self._settled(found, told):
                # The steps of a loop that accumulates by hand are others.
                alike = self._traces[found.suspect].steps == self._traces[found.reference].steps
                if alike and found.difference.stage.order >= Stage.UPDATE.order:
                    rounding.append(message(found, self.subject))
                continue
            if not self._quick and not self.repeats(found):
                flaky.append(message(found, self.subject))
                continue
            made = self._observed(found, told)
            if made:
                line = self._told_silent.get(id(found))
                observations += [_adding(item, (line,)) for item in made] if line else made
            else:
                rounding.append(message(found, self.subject))
        for item in told:
            if item.key in laid or item.signature in {known.signature for known in observations}:
                continue
            if self._keras_own(item):
                remarks.append(f"{divergence_of(item).message}: {cause_of(item).explanation}")
                continue
            if not self._quick and not self.told_again(item):
                flaky.append(divergence_of(item).message)
                continue
            observations.append(_observation_of(item))
        unique: dict[str, Observation] = {}
        for observation in observations:
            unique.setdefault(observation.signature, observation)
        told_once = list(unique.values()) if self.subject.trial is None else _once(unique.values())
        ordered = _without_consequences(
            [self._advised(item) for item in sorted(told_once, key=lambda item: item.divergence.stage.order)]
        )
        if not ordered and any(unwatched(trace) for arm, trace in self._traces.items() if arm.trainer == "trial"):
            return Verdict(case=self.case, verdict=UNSUPPORTED, arms=self.reports(), reason=self._silent())
        return Verdict(
            case=self.case,
            # What could not be run is never passed as conforming.
            verdict=DIVERGES if ordered else UNSUPPORTED if self._aborted else CONFORMS,
            reason=None if ordered else self._aborted,
            arms=self.reports(),
            observations=tuple(ordered),
            compared=sum(item.compared for item in self._comparisons.values()) + sum(j.compared for j in self.known),
            not_compared=tuple(
                sorted(
                    {line for item in self._comparisons.values() for line in item.skipped}
                    | {f"{j.arm}: {line}" for j in self.known for line in j.skipped}
                    | set(self._unjudged)
                )
            ),
            flaky=tuple(flaky),
            rounding=tuple(rounding),
            remarks=tuple(remarks),
            comparisons=self.margins(),
            costs=self.costs(),
        )

    def _advised(self, item: Observation) -> Observation:
        """An observation that nothing explains, of a model whose own `train_step` may mean to train otherwise.

        Where arms on one placement differ from it or from the clauses then, nobody can say that one of them is wrong.
        """
        own = any(arm.trainer == "fit" and has_own_step(ready.model) for arm, ready in self._prepared.items())
        if not own or self.case is not None or self.subject.parts.compile is not None:
            return item
        if item.cause.name != "unexplained" or item.divergence.axis not in ("trainer", REFEREE):
            return item
        return replace_struct(item, cause=replace_struct(item.cause, advice=OWN_OBJECTIVE), wrong_arm=None)

    def _raising(self) -> Verdict:
        """The verdict where every arm that can be run raises."""
        found = everywhere(self._traces, self.case)
        verdict = Verdict(
            case=self.case,
            verdict=RAISES,
            arms=self.reports(),
            observations=() if found is None else (found,),
            reason=str(next(iter(self._traces.values())).error),
        )
        if found is None or self._quick or self.raises_again():
            return verdict
        return replace_struct(verdict, observations=(), flaky=(found.divergence.message,))

    def _silent(self) -> str:
        """Why a loop that does nothing is not passed where `fit` moves nothing either."""
        assert self.subject.trial is not None
        return (
            f"{loop_of(self.subject.trial).name} never called the optimizer it was given and changed no weight, and fit"
            " changes none either, so nothing tells whether it trains; give an optimizer that moves the weights"
        )

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
        comparison = self._compared(self._traces[trial], without, same_bits=False)
        if comparison.first is None:
            line = f"it trains as fit does without callbacks: {comparison.compared} quantities agree"
            return [_not_called(divergence(found, self.subject), trial, found, line, exact=True)]
        if any(item.named is not None for item in _matching(found, told)[0]):
            return self._observed(found, told)
        ended, taken = self._traces[fit], self._traces[trial].steps
        if ended.stopped and ended.steps != taken:
            line = f"a callback of fit ends the training after {ended.steps} steps, and the loop takes {taken}"
            return [_not_called(divergence(found, self.subject), trial, found, line, exact=False)]
        if found.difference.step == FINAL and ended.moved_at_end and self._kept(trial):
            line = "a callback of fit leaves other weights than its last step did, and the loop leaves those of its own"
            return [_not_called(divergence(found, self.subject), trial, found, line, exact=False)]
        observation = self._observation(found)
        line = "fit has callbacks and the loop has none: what it does in their place is not what they do"
        evidence = (line, *observation.cause.evidence)
        return [replace_struct(observation, cause=replace_struct(observation.cause, evidence=evidence))]

    def _kept(self, arm: Arm) -> bool:
        """Whether an arm ended with the weights that its last step left."""
        trace = self._traces[arm]
        left = trace.stage(trace.steps - 1, Stage.WEIGHTS)
        return all(np.array_equal(trace.merged((FINAL, Stage.WEIGHTS, name)), parts[0]) for name, parts in left.items())

    def _of_layers(self, found: Found) -> str | None:
        """The cause by which two arms of a user's differ that each did right by itself, on other placements.

        Whoever asks about a loop or parts of their own is told no divergence where replicas draw other numbers, as they
        have to. What the search draws, it judges by other cases.
        """
        if (self.case is not None and self.trial is None) or found.suspect.placement == found.reference.placement:
            return None
        if all(self.judgement(arm) is None for arm in (found.suspect, found.reference)):
            return STREAM if self._silenced(found) is None else None
        if self.referee is None or not self.both_conform(found):
            return None

        def apart(**otherwise: bool) -> float:
            return self.apart_by_definition(found, **otherwise)

        return cause_of_layers(apart, found.difference.allowed, normalizes=self.referee.normalizes)

    def _silenced(self, found: Found) -> str | None:
        """Where two arms on other placements, which the referee does not judge, differ if random layers draw nothing.

        Returns:
            None where nothing else is between them; a line otherwise, which is empty where nothing draws.
        """
        arms = (found.suspect, found.reference)
        if found.difference.raised is not None or not any(draws(self._prepared[arm].model) for arm in arms):
            return ""
        if id(found) not in self._told_silent:
            plan = Plan((found.suspect.trainer,), tuple(arm.placement for arm in arms[::-1]), self.plan.executions)
            with drawn_as("float32", silent=True):
                comparison = Running(self.subject, plan, quick=True).compare(*arms)
            first = None if comparison is None else comparison.first
            line = None if comparison is not None and first is None else ""
            if first is not None:
                line = f"with random layers that draw nothing they differ as well, first in {first.stage.value}"
                line += "" if first.step is None else f", step {first.step}"
            self._told_silent[id(found)] = line
        return self._told_silent[id(found)]

    def _settled(self, found: Found, told: Sequence[Told]) -> bool:
        """Whether the referee has judged all there is to a difference from a user's loop, and says nothing of it.

        A loop owes `fit` no bits: it may add up in another order, and report what it likes on its replicas.
        """
        if "trial" not in (found.suspect.trainer, found.reference.trainer) or found.difference.raised is not None:
            return False
        judged = [self.judgement(arm) for arm in (found.suspect, found.reference)]
        if any(item is None or item.skipped or not item.compared for item in judged) or self._unheard(found):
            return False
        if found.suspect.placement != found.reference.placement:
            return self.apart_by_definition(found) <= found.difference.allowed and not _matching(found, told)[0]
        return not _matching(found, told)[0]

    def _unheard(self, found: Found) -> bool:
        """Whether a whole loop differs from another arm in what the referee has no opinion of.

        A metric that no clause computes, and weights that callbacks of `fit` or somebody in their place left after the
        last step, are held against the other arm's and nothing else. What a step on trial reports, the harness reports,
        of what has been judged.
        """
        if self.subject.trial is None:
            return False
        if self._carried_otherwise(found):
            return True
        if loop_of(self.subject.trial).form == STEP:
            return False
        judged = [self.judgement(arm) for arm in (found.suspect, found.reference)]
        if found.difference.step == FINAL:
            return not all(item is not None and item.ended for item in judged)
        if found.difference.stage is not Stage.LOGS:
            return False
        return not any(item is not None and found.difference.name in item.reported for item in judged)

    def _carried_otherwise(self, found: Found) -> tuple[str, ...]:
        """What recurrent layers carry on to the step at which two arms differ, where one alone changed it in between.

        The referee takes a step as it began, and who may reset such a state between steps is for `fit` to say.
        """
        step = found.difference.step
        if step is None or step == FINAL:
            return ()
        moved = [set(self._traces[arm].moved_between(step)) for arm in (found.suspect, found.reference)]
        return tuple(sorted(moved[0] ^ moved[1]))

    def _keras_own(self, item: Told) -> bool:
        """Whether something is Keras's affair and no news to who asks about parts and loops of their own."""
        trial = self.subject.trial is not None
        if self.case is not None and not trial:
            return False
        disputed = item.named is not None and item.named.name in DISPUTE_SENTENCES
        return disputed or (trial and item.suspect.trainer != "trial" and item.of_reports)

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
        if observation.cause.name == "unexplained" and matching:
            return [_adding(observation, matching[0].departure.beside)]
        carried = self._carried_otherwise(found)
        if carried and observation.cause.name == "unexplained":
            return [_adding(observation, (f"one alone changed {carried[0]} between the steps, as by reset_state()",))]
        if observation.cause.name != "unexplained" or self._unheard(found) or not self.both_conform(found):
            return [observation]
        if not same_mode(found.suspect, found.reference):
            apart = self.apart_by_definition(found)
            if apart <= found.difference.allowed:
                # Two arms in different modes each took every step as the referee does: then rounding grew.
                return []
            line = (
                f"both take that step as the referee does, and by the clauses too they are {apart:.4g} apart: a layer"
                " or a loss looks at all rows of a batch, of which each replica has its own alone"
            )
            return [_adding(observation, (line,))]
        ulps = found.difference.ulps
        if ulps is None or ulps > ROUNDING_ULPS:
            return [observation]
        cause, signed = rounded_otherwise(found.axis, found.difference)
        return [replace_struct(observation, cause=cause, signature=signed)]

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
        drawn = self._drawn(found) if cause.name == "unexplained" else ""
        if drawn:
            entry = CAUSES[STREAM]
            cause = Cause(name=entry.name, explanation=entry.sentence, advice=entry.advice, evidence=(drawn,))
            signature = named(found.axis, found.difference.stage, entry.name, "")
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

    def _drawn(self, found: Found) -> str:
        """What says that a step of a model with its own optimizers draws numbers, which then are others in every arm.

        The referee knows of no step but Keras's; so the arm is held against itself with another seed.
        """
        step, stage, name = found.difference.step, found.difference.stage, found.difference.name
        if self.subject.parts.compile is None or step is None or found.difference.raised is not None:
            return ""
        other = PreparedArm(found.reference, replace(self.subject, seed=self.subject.seed + 1)).run()
        key, held = (step, stage, name), self._traces[found.reference]
        if key not in other.values or key not in held.values:
            return ""
        apart = distance(other.merged(key), held.merged(key))
        if apart <= found.difference.allowed:
            return ""
        return f"with another seed, {found.reference} is {apart:.4g} off itself there: its step draws numbers"

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
        if {found.suspect.trainer, found.reference.trainer} != {"fit", "trial"} or self.subject.parts.compile:
            return None
        arbiter = replace_trainer(found.suspect, "loop")
        # What differs later, as `fit` may in what it reports, is another matter.
        agreed = [
            arm
            for arm in (found.suspect, found.reference)
            if (comparison := self.compare(arm, arbiter)) is not None
            and (comparison.first is None or comparison.first.place[:2] > found.difference.place[:2])
        ]
        # What raises is not right for that the reference loop raises too.
        if len(agreed) != 1 or self._traces[agreed[0]].error is not None:
            return None
        return found.suspect if agreed[0] == found.reference else found.reference


def _not_called(told: Divergence, trial: Arm, found: Found, line: str, *, exact: bool) -> Observation:
    """That a loop does not do what the callbacks of `fit` do."""
    entry = CAUSES["callbacks_not_called"]
    return Observation(
        divergence=told,
        cause=Cause(name=entry.name, explanation=entry.sentence, advice=entry.advice, exact=exact, evidence=(line,)),
        signature=signature(found.axis, found.difference.stage, entry.name, ""),
        wrong_arm=str(trial),
    )


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


def _adding(observation: Observation, lines: Sequence[str]) -> Observation:
    """An observation with more evidence."""
    evidence = (*observation.cause.evidence, *lines)
    return replace_struct(observation, cause=replace_struct(observation.cause, evidence=evidence))


def _observation_of(item: Told) -> Observation:
    return Observation(
        divergence=divergence_of(item),
        cause=cause_of(item),
        signature=item.signature,
        wrong_arm=str(item.suspect),
    )


def _without_consequences(ordered: Sequence[Observation]) -> list[Observation]:
    """Of what a `train_step` of the model's own may mean to do otherwise, the first stage alone."""
    meant = [item for item in ordered if item.cause.advice == OWN_OBJECTIVE]
    return [item for item in ordered if item not in meant[1:]]


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
    optimizer = getattr(prepared, "optimizer", None)
    if optimizer is None:
        return {}
    return {key: value for key, value in config_of(optimizer).items() if value}


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
