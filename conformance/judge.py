"""The judgement of one training: run its arms, compare them, name what differs.

The harness doubts itself first. A difference across modes is believed only after the allowance was measured on many
more perturbed runs, and every difference only after both arms were run again and showed it again; what does not
repeat is `flaky`, not a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from msgspec.structs import replace as replace_struct

from conformance.attribution import REFEREE, Told, cause_of, divergence_of
from conformance.case import Case
from conformance.causes import CAUSES
from conformance.deviations import ROUNDING_ULPS, Context
from conformance.diagnose import diagnose, rounded_otherwise, signature
from conformance.exception import everywhere
from conformance.inquiry import Inquiry, agree_up_to, matching
from conformance.optimizer_config import config_of
from conformance.placement_layers import STREAM, of_statistics
from conformance.plan import Plan
from conformance.prepare import PreparedArm, release
from conformance.running import same_mode
from conformance.said import OWN_OBJECTIVE, UNSCALED, Said, adding, not_called, observation_of, without_consequences
from conformance.square import Found
from conformance.stage import FINAL, Stage
from conformance.standstill import unwatched
from conformance.telling import divergence, message
from conformance.trainers.fit import has_own_step
from conformance.trainers.forms import loop_of
from conformance.training import training
from conformance.verdict import CONFORMS, DIVERGES, RAISES, UNSUPPORTED, Cause, Observation, Verdict


class Judge(Inquiry):
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
        if all(trace.error for trace in self._traces.values()):
            return self._raising()
        said, differences, told = Said(), self.differences(), self.told()
        # What a difference of two arms is laid to is told with that difference, whatever axis its own arms make.
        laid = {key for found in differences for key in self._say(found, told, said)}
        for item in told:
            if item.key not in laid and not said.has(item.signature):
                self._say_of_one(item, said)
        return self._concluded(said)

    def _say(self, found: Found, told: Sequence[Told], said: Said) -> set[Any]:
        """Say of a difference what there is to say; gives the keys of what the referee says that it is laid to."""
        if self.without_callbacks(found):
            if self._believed(found):
                said.observations += self._of_callbacks(found, told)
            else:
                said.flaky.append(message(found, self.subject))
            return set()
        cause = self.of_layers(found)
        if cause == STREAM:
            said.remarks.append(f"{STREAM}, which is no divergence: {message(found, self.subject)}")
            return set()
        if cause is not None:
            said.observations.append(of_statistics(divergence(found, self.subject), str(found.suspect)))
            return set()
        if self.settled(found, told):
            # The steps of a loop that accumulates by hand are others.
            alike = self._traces[found.suspect].steps == self._traces[found.reference].steps
            if alike and found.difference.stage.order >= Stage.UPDATE.order:
                said.rounding.append(message(found, self.subject))
        elif not self._believed(found):
            said.flaky.append(message(found, self.subject))
        elif made := self._observed(found, told):
            line = self._told_silent.get(id(found))
            said.observations += [adding(item, (line,)) for item in made] if line else made
        else:
            said.rounding.append(message(found, self.subject))
        return {item.key for item in matching(found, told)[0] if item.named is not None}

    def _say_of_one(self, item: Told, said: Said) -> None:
        """Say what the referee has found in one arm, and no difference of two was laid to."""
        if self.keras_own(item):
            said.remarks.append(f"{divergence_of(item).message}: {cause_of(item).explanation}")
        elif not self._quick and not self.told_again(item):
            said.flaky.append(divergence_of(item).message)
        else:
            said.observations.append(observation_of(item))

    def _believed(self, found: Found) -> bool:
        return self._quick or self.repeats(found)

    def _concluded(self, said: Said) -> Verdict:
        told_once = said.ordered(of_a_loop=self.subject.trial is not None)
        ordered = without_consequences([self._advised(item) for item in told_once])
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
            flaky=tuple(said.flaky),
            rounding=tuple(said.rounding),
            remarks=(*said.remarks, *self._unscaled()),
            comparisons=self.margins(),
            costs=self.costs(),
        )

    def _unscaled(self) -> tuple[str, ...]:
        """That `compile` put a loss scale around the optimizer of `fit`, which a user's loop is not given.

        Where gradients are large enough for float16 nothing differs but a rounding, so no comparison says it.
        """
        import keras

        scaling = keras.optimizers.LossScaleOptimizer
        arms = {arm.trainer: ready for arm, ready in self._prepared.items() if self.subject.parts.compile is None}
        if "trial" not in arms or "fit" not in arms or isinstance(arms["trial"].optimizer, scaling):
            return ()
        if not isinstance(getattr(arms["fit"].model, "optimizer", None), scaling):
            return ()
        return (UNSCALED,)

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

    def _of_callbacks(self, found: Found, told: Sequence[Told]) -> list[Observation]:
        """What is said of such a difference: the loop is held against `fit` without the callbacks, too."""
        suspect, reference = found.suspect, found.reference
        trial, fit = (suspect, reference) if suspect.trainer == "trial" else (reference, suspect)
        without = PreparedArm(fit, replace(self.subject, callbacks=None)).run()
        comparison = self._compared(self._traces[trial], without, same_bits=False)
        if comparison.first is None:
            line = f"it trains as fit does without callbacks: {comparison.compared} quantities agree"
            return [not_called(divergence(found, self.subject), trial, found, line, exact=True)]
        if any(item.named is not None for item in matching(found, told)[0]):
            return self._observed(found, told)
        ended, taken = self._traces[fit], self._traces[trial].steps
        if ended.stopped and ended.steps != taken:
            line = f"a callback of fit ends the training after {ended.steps} steps, and the loop takes {taken}"
            return [not_called(divergence(found, self.subject), trial, found, line, exact=False)]
        if found.difference.step == FINAL and ended.moved_at_end and self.kept(trial):
            line = "a callback of fit leaves other weights than its last step did, and the loop leaves those of its own"
            return [not_called(divergence(found, self.subject), trial, found, line, exact=False)]
        observation = self._observation(found)
        line = "fit has callbacks and the loop has none: what it does in their place is not what they do"
        evidence = (line, *observation.cause.evidence)
        return [replace_struct(observation, cause=replace_struct(observation.cause, evidence=evidence))]

    def _observed(self, found: Found, told: Sequence[Told]) -> list[Observation]:
        """What is said of a difference; nothing where rounding alone explains it."""
        items, wrong = ([], found.suspect) if found.difference.raised is not None else matching(found, told)
        named = [(item, item.named) for item in items if item.named is not None]
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
        if observation.cause.name == "unexplained" and items:
            return [adding(observation, items[0].departure.beside)]
        carried = self.carried_otherwise(found)
        if carried and observation.cause.name == "unexplained":
            return [adding(observation, (f"one alone changed {carried[0]} between the steps, as by reset_state()",))]
        if observation.cause.name != "unexplained" or self.unheard(found) or not self.both_conform(found):
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
            return [adding(observation, (line,))]
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
        cause, signed = diagnose(context)
        drawn = self.drawn(found) if cause.name == "unexplained" else ""
        if drawn:
            entry = CAUSES[STREAM]
            cause = Cause(name=entry.name, explanation=entry.sentence, advice=entry.advice, evidence=(drawn,))
            signed = signature(found.axis, found.difference.stage, entry.name, "")
        wrong = found.wrong or self.arbitrated(found)
        if wrong is None and cause.exact and found.difference.raised is None:
            # The deviation was replayed on what the suspect did.
            wrong = found.suspect
        return Observation(
            divergence=divergence(found, self.subject),
            cause=cause,
            signature=signed,
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
        return agree_up_to(found, other.compare(*arms))


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
