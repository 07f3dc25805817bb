"""What is asked of the arms about a difference, before anything is said of it.

Each question has an answer that is computed: the referee takes a step both ways, an arm is run once more without its
callbacks, without its draws or with another seed, the reference loop gives its vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from conformance.arm import Arm
from conformance.attribution import Told
from conformance.compare import Comparison
from conformance.placement_layers import STREAM, cause_of_layers
from conformance.plan import Plan
from conformance.prepare import PreparedArm
from conformance.referee.dispute_deviations import DISPUTE_SENTENCES
from conformance.referee.draws import drawn_as, draws
from conformance.running import Running
from conformance.square import Found
from conformance.stage import FINAL, Stage
from conformance.tolerance import distance
from conformance.trainers.forms import STEP, loop_of


class Inquiry(Running):
    """Runs one training in the arms of a plan, and answers what is asked of two that differ."""

    def without_callbacks(self, found: Found) -> bool:
        """Whether a difference is between `fit` with callbacks and a whole loop that is given none.

        The referee judges each step from what it began with, and so knows of neither what callbacks set in between.
        """
        trainers = {found.suspect.trainer, found.reference.trainer}
        return self.leaves_callbacks and found.difference.raised is None and trainers == {"trial", "fit"}

    def kept(self, arm: Arm) -> bool:
        """Whether an arm ended with the weights that its last step left."""
        trace = self._traces[arm]
        left = trace.stage(trace.steps - 1, Stage.WEIGHTS)
        return all(np.array_equal(trace.merged((FINAL, Stage.WEIGHTS, name)), parts[0]) for name, parts in left.items())

    def of_layers(self, found: Found) -> str | None:
        """The cause by which two arms of a user's differ that each did right by itself, on other placements.

        Whoever asks about a loop or parts of their own is told no divergence where replicas draw other numbers, as they
        have to. What the search draws, it judges by other cases.
        """
        if (self.case is not None and self.trial is None) or found.suspect.placement == found.reference.placement:
            return None
        if all(self.judgement(arm) is None for arm in (found.suspect, found.reference)):
            return STREAM if self.silenced(found) is None else None
        if self.referee is None or not self.both_conform(found):
            return None

        def apart(**otherwise: bool) -> float:
            return self.apart_by_definition(found, **otherwise)

        return cause_of_layers(apart, found.difference.allowed, normalizes=self.referee.normalizes)

    def silenced(self, found: Found) -> str | None:
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

    def settled(self, found: Found, told: Sequence[Told]) -> bool:
        """Whether the referee has judged all there is to a difference from a user's loop, and says nothing of it.

        A loop owes `fit` no bits: it may add up in another order, and report what it likes on its replicas.
        """
        if "trial" not in (found.suspect.trainer, found.reference.trainer) or found.difference.raised is not None:
            return False
        judged = [self.judgement(arm) for arm in (found.suspect, found.reference)]
        if any(item is None or item.skipped or not item.compared for item in judged) or self.unheard(found):
            return False
        if found.suspect.placement != found.reference.placement:
            return self.apart_by_definition(found) <= found.difference.allowed and not matching(found, told)[0]
        return not matching(found, told)[0]

    def unheard(self, found: Found) -> bool:
        """Whether a whole loop differs from another arm in what the referee has no opinion of.

        A metric that no clause computes, and weights that callbacks of `fit` or somebody in their place left after the
        last step, are held against the other arm's and nothing else. What a step on trial reports, the harness reports,
        of what has been judged.
        """
        if self.subject.trial is None:
            return False
        if self.carried_otherwise(found):
            return True
        if loop_of(self.subject.trial).form == STEP:
            return False
        judged = [self.judgement(arm) for arm in (found.suspect, found.reference)]
        if found.difference.step == FINAL:
            return not all(item is not None and item.ended for item in judged)
        if found.difference.stage is not Stage.LOGS:
            return False
        return not any(item is not None and found.difference.name in item.reported for item in judged)

    def carried_otherwise(self, found: Found) -> tuple[str, ...]:
        """What recurrent layers carry on to the step at which two arms differ, where one alone changed it in between.

        The referee takes a step as it began, and who may reset such a state between steps is for `fit` to say.
        """
        step = found.difference.step
        if step is None or step == FINAL:
            return ()
        moved = [set(self._traces[arm].moved_between(step)) for arm in (found.suspect, found.reference)]
        return tuple(sorted(moved[0] ^ moved[1]))

    def keras_own(self, item: Told) -> bool:
        """Whether something is Keras's affair and no news to who asks about parts and loops of their own."""
        trial = self.subject.trial is not None
        if self.case is not None and not trial:
            return False
        disputed = item.named is not None and item.named.name in DISPUTE_SENTENCES
        return disputed or (trial and item.suspect.trainer != "trial" and item.of_reports)

    def drawn(self, found: Found) -> str:
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

    def arbitrated(self, found: Found) -> Arm | None:
        """The wrong one of two trainers by the vote of the reference loop, where the two are fit and a user's loop."""
        if {found.suspect.trainer, found.reference.trainer} != {"fit", "trial"} or self.subject.parts.compile:
            return None
        arbiter = replace_trainer(found.suspect, "loop")
        # What differs later, as `fit` may in what it reports, is another matter.
        agreed = [arm for arm in (found.suspect, found.reference) if agree_up_to(found, self.compare(arm, arbiter))]
        # What raises is not right for that the reference loop raises too.
        if len(agreed) != 1 or self._traces[agreed[0]].error is not None:
            return None
        return found.suspect if agreed[0] == found.reference else found.reference


def agree_up_to(found: Found, comparison: Comparison | None) -> bool:
    """Whether two arms agree at least up to where two others differ."""
    if comparison is None:
        return False
    return comparison.first is None or comparison.first.place[:2] > found.difference.place[:2]


def matching(found: Found, told: Sequence[Told]) -> tuple[list[Told], Arm]:
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


def replace_trainer(arm: Arm, trainer: str) -> Arm:
    """The arm with another trainer."""
    return Arm(trainer, arm.placement, arm.execution)
