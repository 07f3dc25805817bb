"""One arm alone, held against the referee: where it first departs from the clauses, and by which deviations.

Stage by stage, over all steps. A stage that departs is explained before the next one is looked at: the deviation that
reproduces it, alone or with another, stands in for its clauses from there on, so a training that carries several is
told all of them, in the order in which they enter a step. A stage that nothing reproduces is `unexplained`, and what
follows from it alone is not told again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from conformance.build import HALF_DIGITS
from conformance.data import Array
from conformance.errors import UnsupportedError
from conformance.referee.accumulation_judgement import accumulates_by_hand, judge_accumulation
from conformance.referee.batch_judgement import judge_batches
from conformance.referee.comparing import Comparing, Off, Wanted, allowed_of
from conformance.referee.departure import Departure, Judgement, Named
from conformance.referee.evaluate import ALL_RULES, Evaluator, Values
from conformance.referee.explaining import Explaining
from conformance.referee.loss_rules import identify
from conformance.referee.reading import Reading
from conformance.referee.report_judgement import judge_reports
from conformance.referee.scene import LossOf, Rules
from conformance.referee.twin import Twin
from conformance.stage import FINAL, Stage
from conformance.standstill import how, stood_still
from conformance.tolerance import constant_ratio, distance
from conformance.trace import Trace
from conformance.training import Training

RUNS, MORE = 3, 13
"""Perturbed evaluations in the arm's precision, whose distance from the referee says what honest rounding is, and those
added before a departure that is near its allowance is believed."""
MANY_STEPS = 40
"""From so many forward passes on it pays to trace the model."""


def _slots(evaluator: Evaluator, step: int, rules: Rules) -> Values:
    return evaluator.update(step, rules)[0]


def _weights(evaluator: Evaluator, step: int, rules: Rules) -> Values:
    return evaluator.update(step, rules)[1]


STAGES: tuple[tuple[Stage, Wanted], ...] = (
    (Stage.OUTPUTS, lambda evaluator, step, rules: evaluator.outputs(step, rules)),
    (Stage.LOSS, lambda evaluator, step, rules: evaluator.loss(step, rules)),
    (Stage.LOCAL_GRADIENT, lambda evaluator, step, rules: evaluator.local_gradients(step, rules)),
    (Stage.GRADIENT, lambda evaluator, step, rules: evaluator.gradients(step, rules)),
    (Stage.UPDATE, _slots),
    (Stage.WEIGHTS, _weights),
    (Stage.STATE, lambda evaluator, step, rules: evaluator.states(step, rules)),
)


class Referee:
    """Judges the traces of one training.

    Args:
        training: the training; an arm of it has been prepared.
        thorough: measure every ratio with all perturbed evaluations, and not only those that one does not settle.
        alternatives: say of a cause which others reproduce the same.

    Raises:
        UnsupportedError: when its model cannot be made in float64.
    """

    def __init__(self, training: Training, *, thorough: bool = False, alternatives: bool = True) -> None:
        self.training, self.thorough, self.alternatives = training, thorough, alternatives
        draws = training.rounding
        try:
            self._twins = [Twin(training, "float64", draws), Twin(training, draws, draws)]
        except Exception as error:  # noqa: BLE001 - whatever a user's model raises in another precision
            self._twins = [self._of_float32(error), Twin(training, draws, draws)]
        self._losses = _losses(training)
        self._connected: frozenset[str] | None = None

    narrow = ""
    """Why the layers compute in float32, as an arm's do; empty where they compute in float64."""

    def _of_float32(self, error: Exception) -> Twin:
        """The model in float32 for a referee that computes all else in float64, where it cannot be made in that.

        A layer of a user's may have constants of float32 in it. What honest rounding is in its forward pass is measured
        as ever, by moving what it begins with; what it allows is then around what float32 gives.
        """
        if self.training.precision != "float32":
            raise UnsupportedError(f"the model cannot be made in float64: {error}") from error
        try:
            made = Twin(self.training, "float32", "float32", around="float64")
        except Exception as again:
            raise UnsupportedError(f"the model cannot be made anew: {again}") from again
        self.narrow = str(error)
        return made

    def judge(self, trace: Trace) -> Judgement:
        """Hold a trace against the clauses."""
        return _Case(self, trace).judge()

    @property
    def normalizes(self) -> bool:
        """Whether the model has layers with statistics of a batch, through which its rows see one another."""
        return bool(self._twins[0].coupled)

    def apart(self, traces: Sequence[Trace], step: int, stage: Stage, name: str, **otherwise: bool) -> float:
        """How far apart the clauses say that a quantity of two traces is, as the global batch sees it.

        Args:
            traces: the traces.
            step: the step.
            stage: the stage.
            name: the quantity.
            **otherwise: what both do otherwise than the clauses say, as `conformance.referee.forward_clauses.Mode`
                has it.

        Returns:
            The largest absolute difference; 0 where the clauses give no such quantity.
        """
        wanted = dict(STAGES).get(stage)
        if wanted is None:
            return 0.0
        key, whole = (step, stage, name), []
        for trace in traces:
            exact, _ = self.evaluators(trace)
            mode = {"called": lambda mode: replace(mode, **otherwise)} if otherwise else _synchronized(exact)
            found = wanted(exact, step, {**ALL_RULES, **mode})
            if not found or name not in found:
                return 0.0
            whole.append(Trace(trace.arm, trace.replicas, values={key: found[name]}).merged(key))
        return distance(*whole)

    def evaluators(self, trace: Trace) -> tuple[Evaluator, list[Evaluator]]:
        """The referee's evaluator of a trace, and `RUNS` + `MORE` in the arm's own precision."""
        if self._connected is None:
            first = Evaluator(Reading(self.training, trace), self._twins[0], self._losses)
            found = first.local_gradients(first.reading.steps[0])
            self._connected = frozenset(found)
        reading = Reading(self.training, trace, self._connected)
        if len(reading.steps) * reading.replicas >= MANY_STEPS:
            for twin in self._twins:
                twin.compile()
        # In half precision the arm's own roundings are the better part of what it lies off, so the first of these
        # starts where the arm did.
        half = self.training.rounding in HALF_DIGITS
        rngs = [np.random.default_rng(seed) if seed or not half else None for seed in range(RUNS + MORE)]
        return (
            Evaluator(reading, self._twins[0], self._losses),
            [Evaluator(reading, self._twins[1], self._losses, rng) for rng in rngs],
        )


def _losses(training: Training) -> list[LossOf]:
    given = training.parts.losses()
    weights = training.parts.loss_weights or (1.0,) * len(given)
    found = []
    for loss, weight, targets in zip(given, weights, training.data.y, strict=True):
        shape = tuple(targets.shape)
        known = identify(loss, shape, shape)
        reduction = known.reduction if known is not None else getattr(loss, "reduction", "sum_over_batch_size")
        named: dict[Any, Any] = {"mean": "sum_over_batch_size", "none": None}
        found.append(LossOf(loss, known, named.get(reduction, reduction), weight))
    return found


class _Case:
    """One trace on its way through the stages."""

    def __init__(self, referee: Referee, trace: Trace) -> None:
        self.trace = trace
        self.exact, rounded = referee.evaluators(trace)
        self.rounded = rounded[:RUNS]
        self.reading = self.exact.reading
        self.rules: dict[str, Any] = {**ALL_RULES, **_synchronized(self.exact)}
        self.judgement = Judgement(trace.arm)
        first = RUNS if referee.thorough else 1
        self.comparing = Comparing(trace, self.exact, self.rounded, rounded[RUNS:], first, self.judgement)
        self._off = self.comparing.off
        self._alternatives = referee.alternatives
        self._unexplained: set[Stage] = set()
        self._still = stood_still(trace)

    def judge(self) -> Judgement:
        stages = STAGES
        if accumulates_by_hand(self.reading):
            # Its steps are updates: what they have of batches and outputs is the first of several.
            self.reading.accumulated = True
            self.judgement.departures += judge_accumulation(self.exact, self.rounded, self.rules, allowed_of)
            self.judgement.compared += len(self.reading.steps)
            stages = tuple(item for item in STAGES if item[0] in (Stage.UPDATE, Stage.WEIGHTS))
        else:
            fed, count = judge_batches(self.reading)
            self.judgement.compared += count
            if fed is not None:
                self.judgement.departures.append(fed)
        self._beginning()
        if _synchronized(self.exact) and self.exact.twin.random:
            line = "outputs and states: not judged where replicas share statistics and draw random numbers of their own"
            self.judgement.skip(line, Stage.OUTPUTS, Stage.STATE)
        for stage, wanted in stages:
            steps = [step for step in self.reading.steps if self._judged(step, stage)]
            if not steps:
                continue
            try:
                self._stage(stage, wanted, steps)
            except UnsupportedError as error:
                self.judgement.skip(f"{stage.value}: {error}", stage)
        self._together()
        self._end()
        if self.trace.arm.trainer != "trial" or not self.reading.whole_losses:
            # What is reported of a step on trial, the harness reports, from what the step returned.
            reports, counts = judge_reports(self.exact, self.rules)
            self.judgement.compared += sum(counts.values())
            self.judgement.reported |= counts.keys()
            self.judgement.departures += reports
        self._standing_still()
        self._without_consequences()
        for item in self.judgement.departures:
            # What is judged elsewhere than by stages and steps leaves what departs alone.
            if not self.judgement.meter.has(item.step, item.stage):
                self.judgement.meter.note(item.step, item.stage, item.name, item.magnitude, item.allowed)
        return self.judgement

    def _standing_still(self) -> None:
        """Name what nothing explains of a step that leaves all weights as they are, where they should have moved."""
        departures = self.judgement.departures
        first = next((i for i, item in enumerate(departures) if not item.causes and item.stage in _MOVES), None)
        if self._still and first is not None:
            cause = Named("model_not_trained", True, how(self.trace))
            departures[first] = replace(departures[first], causes=(cause,))

    def _without_consequences(self) -> None:
        """Leave out what nothing explains where something was found that leaves no way of explaining it."""
        departures = self.judgement.departures
        names = {named.name for item in departures for named in item.causes}
        hidden = {stage for name, stages in _CONSEQUENCES.items() if name in names for stage in stages}
        self.judgement.departures = [item for item in departures if item.causes or item.stage not in hidden]

    def _stage(self, stage: Stage, wanted: Wanted, steps: Sequence[int]) -> None:
        off = self._off(stage, wanted, steps, self.rules, count=True)
        if not off:
            return
        if stage is Stage.LOSS and self._reported_otherwise(steps):
            self.judgement.meter.forget(stage, steps)
            return
        if stage is Stage.LOCAL_GRADIENT and self._made_up_for(steps):
            self.judgement.meter.forget(stage, steps)
            return
        causes, self.rules = self._explained(stage, wanted, steps, off)
        if stage is Stage.LOCAL_GRADIENT and not causes and self._made_up_for(steps, deviating=True):
            self.judgement.meter.forget(stage, steps)
            return
        if not causes and stage is Stage.LOCAL_GRADIENT and not self._off(stage, wanted, steps, self.rules):
            self.judgement.meter.forget(stage, steps)
            return
        if not causes and self._unexplained & _FOLLOWS_FROM.get(stage, frozenset()):
            return
        if not causes or any(cause.name == "numeric_precision" for cause in causes):
            self._unexplained.add(stage)
        self._depart(stage, off, causes)

    def _depart(self, stage: Stage, off: Sequence[Off], causes: tuple[Named, ...]) -> None:
        first = max((item for item in off if item.step == off[0].step), key=lambda item: item.excess)
        self.judgement.departures.append(
            Departure(
                stage,
                first.step,
                first.name,
                first.seen,
                first.wanted,
                first.magnitude,
                first.allowed,
                causes,
                self._beside(first) if stage is Stage.WEIGHTS else (),
            )
        )

    def _beside(self, off: Off) -> tuple[str, ...]:
        """What the records say of an update that is not the referee's: how far it went, and who else assigns."""
        told = []
        before = self.reading.weights(off.step, off.replica).get(off.name) if off.step != FINAL else None
        if before is not None:
            ratio = constant_ratio(off.seen - before, off.wanted - before.astype(off.wanted.dtype), off.allowed)
            told += [f"the step moves it {ratio:.6g} times as far as it should"] if ratio is not None else []
        if off.name in self.trace.by_hand and self.trace.applied:
            told.append("the loop assigns it outside of the optimizer's call as well")
        return tuple(told)

    def _beginning(self) -> None:
        """Whether the first step found the weights that the training was given."""
        for (stage, name), found in self.trace.first.items():
            given = self.trace.begun.get((0, stage, name), self.trace.start.get((stage, name)))
            if given is None or all(np.array_equal(a, b) for a, b in zip(found, given, strict=True)):
                continue
            if "seed_generator" in name:
                self._restarted(name, found[0], given[0])
                continue
            told = f"{name} is another one when the first step begins than the model was made with"
            apart = distance(found[0], given[0])
            cause = Named("initial_weights_differ", True, (told,))
            self.judgement.departures.append(
                Departure(Stage.WEIGHTS, 0, name, found[0], given[0], apart, 0.0, (cause,))
            )
            return

    def _restarted(self, name: str, found: Array, given: Array) -> None:
        told = f"{name} is another one when the first step begins than the model was made with"
        cause = Named("random_stream_differs", False, (told,))
        self.judgement.departures.append(
            Departure(Stage.STATE, 0, name, found, given, distance(found, given), 0.0, (cause,))
        )

    def _together(self) -> None:
        """On replicas, whether the rows of a batch see one another as on one device: through statistics they do not."""
        if self.reading.replicas < 2 or not self.exact.twin.coupled or self.exact.twin.random:
            return
        if _synchronized(self.exact) or any(item.stage is Stage.OUTPUTS for item in self.judgement.departures):
            return
        steps = [step for step in self.reading.steps if self._judged(step, Stage.OUTPUTS)]
        rules = {**self.rules, "called": lambda mode: replace(self.rules["called"](mode), together=True)}
        off = self._off(Stage.OUTPUTS, STAGES[0][1], steps, rules)
        if off:
            told = "each replica's rows normalized by their own statistics: reproduces the outputs of all steps"
            self._depart(Stage.OUTPUTS, off, (Named("replica_local_statistics", True, (told,), "BatchNormalization"),))

    def _end(self) -> None:
        """Whether the training ended with the weights it should have."""
        left = {key[2]: value for key, value in self.trace.values.items() if key[:2] == (FINAL, Stage.WEIGHTS)}
        steps = self.reading.steps
        if (
            not left
            or not steps
            or self.trace.moved_at_end
            or self.trace.steps > len(steps)
            or not self._judged(steps[-1], Stage.WEIGHTS)
        ):
            return
        try:
            exact = self.exact.final(self.rules)
        except UnsupportedError:
            return
        off = list(
            self.comparing.compared(FINAL, Stage.WEIGHTS, left, exact, [], count=True, meter=self.judgement.meter)
        )
        self.judgement.ended = True
        if not off:
            return
        causes: tuple[Named, ...] = ()
        kept = self.trace.stage(self.reading.steps[-1], Stage.WEIGHTS)
        if self.reading.optimizer_config.get("use_ema") and all(
            np.array_equal(a, b) for name in exact for a, b in zip(left[name], kept[name], strict=True)
        ):
            told = "the weights after training are those of the last step, not their moving averages"
            causes = (Named("ema_not_applied", True, (told,), "use_ema"),)
        self._depart(Stage.WEIGHTS, off, causes)

    def _reported_otherwise(self, steps: Sequence[int]) -> bool:
        """A user's step on replicas may return its replica's mean loss: a report, while its gradient is judged."""
        replicas = self.reading.replicas
        if self.trace.arm.trainer != "trial" or replicas < 2:
            return False
        for step in steps:
            seen = [float(part) for part in self.trace.stage(step, Stage.LOSS)["loss"]]
            due = [float(part) for part in self.exact.loss(step, self.rules)["loss"]]
            rows = self.reading.rows(step)
            own = [share * sum(rows) / count if count else 0.0 for share, count in zip(due, rows, strict=True)]
            whole = [sum(due)] * replicas
            if not any(np.allclose(seen, wanted, rtol=1e-4, atol=1e-7) for wanted in (own, whole)):
                return False
        return True

    def _made_up_for(self, steps: Sequence[int], *, deviating: bool = False) -> bool:
        """Whether a loop has done by hand, before `apply`, what is between a gradient and the update rule.

        Args:
            steps: the steps.
            deviating: whether it may have done so otherwise than the clauses say.
        """
        steps = [step for step in steps if self.reading.has(step, Stage.GRADIENT)]
        if self.trace.arm.trainer != "trial" or not steps:
            return False
        whole: Wanted = lambda evaluator, step, rules: evaluator.gradients(step, rules, computed=True)  # noqa: E731
        off = self._off(Stage.GRADIENT, whole, steps, self.rules)
        if off and not deviating:
            return False
        if off:
            causes, rules = self._explained(Stage.GRADIENT, whole, steps, off)
            if not causes or not all(cause.exact for cause in causes):
                return False
            self.rules = rules
            self._depart(Stage.GRADIENT, off, causes)
        self._by_hand = True
        return True

    _by_hand = False

    def _judged(self, step: int, stage: Stage) -> bool:
        reading = self.reading
        if not reading.has(step, Stage.BATCH):
            return False
        if stage is Stage.LOSS:
            return reading.has(step, Stage.LOSS) and reading.whole_losses
        if stage is Stage.GRADIENT:
            return reading.has(step, Stage.LOCAL_GRADIENT) and not self._by_hand
        if stage is Stage.UPDATE:
            return reading.has(step, Stage.UPDATE) and not reading.by_hand
        if _synchronized(self.exact) and stage in _OF_ALL_ROWS:
            # Rows of all replicas go through the model at once then, which draws as one device does; and what a
            # replica's own share gives of a gradient is not to be told from what all rows give.
            return stage is not Stage.LOCAL_GRADIENT and not self.exact.twin.random
        return reading.has(step, stage)

    # Explaining.

    def _explained(
        self, stage: Stage, wanted: Wanted, steps: Sequence[int], off: Sequence[Off]
    ) -> tuple[tuple[Named, ...], dict[str, Any]]:
        """The deviations that reproduce a stage, and the rules with them in place."""
        plain = {**ALL_RULES, **_synchronized(self.exact)}
        if stage is Stage.LOCAL_GRADIENT and not self._off(stage, wanted, steps, plain):
            # What the loss deviated in is in what was reported of it alone.
            return (), plain
        search = Explaining(self.comparing, stage, wanted, steps, self.rules, self._alternatives, pairs=not self._still)
        return search.explain(off, self._name)

    def _name(self, stage: Stage, name: str) -> str:
        told = {n.name for item in self.judgement.departures if item.stage is Stage.LOSS for n in item.causes}
        reported = self.reading.whole_losses and any(self.reading.has(step, Stage.LOSS) for step in self.reading.steps)
        if stage is Stage.LOCAL_GRADIENT and name == "regularization_omitted" and reported and name not in told:
            return "regularization_outside_tape"
        return name


_OF_ALL_ROWS = frozenset({Stage.OUTPUTS, Stage.LOCAL_GRADIENT, Stage.STATE})
"""The stages whose forward pass is that of all rows where replicas share their statistics."""

_MOVES = frozenset({Stage.LOCAL_GRADIENT, Stage.GRADIENT, Stage.UPDATE, Stage.WEIGHTS})
"""The stages at which it shows that weights are not moved."""

_CONSEQUENCES = {
    # Where nothing moves, every link of the update is another one.
    "model_not_trained": _MOVES,
    # Numbers that were drawn elsewhere cannot be drawn again.
    "random_stream_differs": {Stage.OUTPUTS, Stage.LOSS, Stage.LOCAL_GRADIENT, Stage.STATE, Stage.LOGS},
    # Metrics may be those of the other call.
    "model_called_twice": {Stage.LOGS},
    # Evaluation moves statistics and random states, between the steps where nobody looks.
    "evaluation_in_training_mode": {Stage.OUTPUTS, Stage.LOSS, Stage.LOCAL_GRADIENT, Stage.STATE},
}
"""By cause the stages at which what nothing explains is its consequence."""

_FOLLOWS_FROM = {
    Stage.LOCAL_GRADIENT: frozenset({Stage.OUTPUTS, Stage.LOSS}),
    Stage.WEIGHTS: frozenset({Stage.UPDATE}),
    Stage.STATE: frozenset({Stage.OUTPUTS}),
}
"""Stages that share a computation with earlier ones: where nothing explains those, these say nothing new."""


def _synchronized(evaluator: Evaluator) -> dict[str, Any]:
    """The mode of a model whose replicas share their statistics."""
    shared = any(getattr(layer, "synchronized", False) for layer in evaluator.twin.coupled)
    if not shared or evaluator.reading.replicas < 2:
        return {}
    return {"called": lambda mode: replace(mode, together=True)}
