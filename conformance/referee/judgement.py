"""One arm alone, held against the referee: where it first departs from the clauses, and by which deviations.

Stage by stage, over all steps. A stage that departs is explained before the next one is looked at: the deviation that
reproduces it, alone or with another, stands in for its clauses from there on, so a training that carries several is
told all of them, in the order in which they enter a step. A stage that nothing reproduces is `unexplained`, and what
follows from it alone is not told again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from conformance.build import HALF_DIGITS
from conformance.data import Array
from conformance.errors import UnsupportedError
from conformance.margin import Meter
from conformance.referee.accumulation_judgement import accumulates_by_hand, judge_accumulation
from conformance.referee.batch_judgement import judge_batches
from conformance.referee.departure import Departure, Judgement, Named, Ratio
from conformance.referee.deviation import Deviation, Variant
from conformance.referee.dispute_deviations import DISPUTE_DEVIATIONS
from conformance.referee.evaluate import ALL_RULES, Evaluator, Values
from conformance.referee.loss_deviations import LOSS_DEVIATIONS, REPLICA_LOSS_DEVIATIONS
from conformance.referee.loss_rules import identify
from conformance.referee.reading import Reading
from conformance.referee.report_judgement import judge_reports
from conformance.referee.scene import LossOf, Rules
from conformance.referee.step_deviations import FORWARD_DEVIATIONS, GRADIENT_DEVIATIONS, UPDATE_DEVIATIONS
from conformance.referee.twin import Twin
from conformance.stage import Stage
from conformance.tolerance import distance, ulp
from conformance.trace import FINAL, Trace
from conformance.training import Training

SAFETY = 16.0
HALF_SAFETY = 4.0
"""What is computed in half precision is evaluated with the arm's own roundings (measured: the arm's very bits in graph
and eager), and sums inside of an operation are float32: little is left that the evaluations do not show."""
FLOOR = 8.0
RUNS, MORE = 3, 13
"""Perturbed evaluations in the arm's precision, whose distance from the referee says what honest rounding is, and those
added before a departure that is near its allowance is believed."""
SAMPLED = 5
"""At first, every so many steps' allowance is measured."""
MANY_STEPS = 40
"""From so many forward passes on it pays to trace the model."""
SLIGHT, NOTHING = 1e-4, 1e-6
"""Parts of the largest quantity of a stage: what is slight beside it, and what is nothing but what rounding leaves."""
CLEAR = 100.0
"""A departure so many times what is allowed is no matter of how well the allowance was measured."""

DEVIATIONS: tuple[Deviation, ...] = (
    *FORWARD_DEVIATIONS,
    *DISPUTE_DEVIATIONS,
    *REPLICA_LOSS_DEVIATIONS,
    *LOSS_DEVIATIONS,
    *GRADIENT_DEVIATIONS,
    *UPDATE_DEVIATIONS,
)

Place = tuple[int, str, int]
"""(step, name, replica)."""


@dataclass(frozen=True)
class _Off:
    """One quantity beyond its allowance."""

    step: int
    name: str
    seen: Array
    wanted: Array
    magnitude: float
    allowed: float

    scale: float = 0.0

    @property
    def excess(self) -> float:
        return self.magnitude / self.allowed if self.allowed else np.inf

    @property
    def clear(self) -> bool:
        """Whether it is no matter of how well the allowance was measured."""
        return self.excess >= CLEAR and self.magnitude >= SLIGHT * self.scale


Wanted = Callable[[Evaluator, int, Rules], Values | None]
"""What a stage should have given at a step."""


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

    Raises:
        UnsupportedError: when its model cannot be made in float64.
    """

    def __init__(self, training: Training, *, thorough: bool = False) -> None:
        self.training, self.thorough = training, thorough
        draws = training.precision
        try:
            self._twins = [Twin(training, "float64", draws), Twin(training, draws, draws)]
        except Exception as error:  # whatever a user's model raises in another precision
            raise UnsupportedError(f"the model cannot be made in float64: {error}") from error
        self._losses = _losses(training)
        self._connected: frozenset[str] | None = None

    def judge(self, trace: Trace) -> Judgement:
        """Hold a trace against the clauses."""
        return _Case(self, trace).judge()

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
        half = self.training.precision in HALF_DIGITS
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
        self.rounded, self._more = rounded[:RUNS], rounded[RUNS:]
        self._first = len(self.rounded) if referee.thorough else 1
        self.reading = self.exact.reading
        self.rules: dict[str, Any] = {**ALL_RULES, **_synchronized(self.exact)}
        self.judgement = Judgement(trace.arm)
        self._unexplained: set[Stage] = set()
        self._relative: dict[tuple[str, int], float] = {}

    def judge(self) -> Judgement:
        stages = STAGES
        if accumulates_by_hand(self.reading):
            # Its steps are updates: what they have of batches and outputs is the first of several.
            self.reading.accumulated = True
            self.judgement.departures += judge_accumulation(self.exact, self.rounded, self.rules, _allowed)
            self.judgement.compared += len(self.reading.steps)
            stages = tuple(item for item in STAGES if item[0] in (Stage.UPDATE, Stage.WEIGHTS))
        else:
            fed, count = judge_batches(self.reading)
            self.judgement.compared += count
            if fed is not None:
                self.judgement.departures.append(fed)
        self._beginning()
        for stage, wanted in stages:
            steps = [step for step in self.reading.steps if self._judged(step, stage)]
            if not steps:
                continue
            try:
                self._stage(stage, wanted, steps)
            except UnsupportedError as error:
                self.judgement.skipped.append(f"{stage.value}: {error}")
        self._together()
        self._end()
        if self.trace.arm.trainer != "trial" or not self.reading.whole_losses:
            # What is reported of a step on trial, the harness reports, from what the step returned.
            reports, count = judge_reports(self.exact, self.rules)
            self.judgement.compared += count
            self.judgement.departures += reports
        self._without_consequences()
        for item in self.judgement.departures:
            # What is judged elsewhere than by stages and steps leaves what departs alone.
            if not self.judgement.meter.has(item.step, item.stage):
                self.judgement.meter.note(item.step, item.stage, item.name, item.magnitude, item.allowed)
        return self.judgement

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

    def _depart(self, stage: Stage, off: Sequence[_Off], causes: tuple[Named, ...]) -> None:
        first = max((item for item in off if item.step == off[0].step), key=lambda item: item.excess)
        self.judgement.departures.append(
            Departure(stage, first.step, first.name, first.seen, first.wanted, first.magnitude, first.allowed, causes)
        )

    def _beginning(self) -> None:
        """Whether the first step found the weights that the training was given."""
        for (stage, name), found in self.trace.first.items():
            given = self.trace.start.get((stage, name))
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
        if not left or not steps or self.trace.steps > len(steps) or not self._judged(steps[-1], Stage.WEIGHTS):
            return
        try:
            exact = self.exact.final(self.rules)
        except UnsupportedError:
            return
        off = list(self._compared(FINAL, Stage.WEIGHTS, left, exact, [], count=True, meter=self.judgement.meter))
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
        if stage is Stage.LOCAL_GRADIENT and _synchronized(self.exact) and reading.replicas > 1:
            return False
        return reading.has(step, stage)

    # Comparing.

    def _off(
        self, stage: Stage, wanted: Wanted, steps: Sequence[int], rules: Rules, *, count: bool = False
    ) -> list[_Off]:
        """What is beyond its allowance, in order."""
        # One rounded evaluation allows less than several: what it lets pass, they would too. And what one step allows
        # says nearly what the next ones do.
        quick = self._measured(
            stage,
            wanted,
            steps,
            rules,
            self.rounded[: self._first],
            count=count,
            every=1 if self._first > 1 else SAMPLED,
        )
        suspected = sorted({item.step for item in quick})
        off = quick and self._measured(stage, wanted, suspected, rules, self.rounded, again=count)
        if off and not any(item.clear for item in off):
            # Near the allowance a departure is believed only after that was measured thoroughly.
            suspected = sorted({item.step for item in off})
            return self._measured(stage, wanted, suspected, rules, [*self.rounded, *self._more], again=count)
        return off

    def _measured(
        self,
        stage: Stage,
        wanted: Wanted,
        steps: Sequence[int],
        rules: Rules,
        evaluators: Sequence[Evaluator],
        *,
        count: bool = False,
        again: bool = False,
        every: int = 1,
    ) -> list[_Off]:
        """What is beyond its allowance, which is measured at every so many steps and carried over to the others."""
        found: list[_Off] = []
        meter = self.judgement.meter if count or again else None
        if meter is not None and again:
            meter.forget(stage, steps)
        self._relative.clear()
        for index, step in enumerate(steps):
            exact = wanted(self.exact, step, rules)
            rounded = [wanted(evaluator, step, rules) for evaluator in evaluators] if index % every == 0 else []
            recorded = self._recorded(step, stage)
            if exact is None:
                if recorded and stage is Stage.GRADIENT:
                    name, seen = next(iter(recorded.items()))
                    found.append(_Off(step, name, seen[0], np.zeros_like(seen[0]), np.inf, 0.0))
                    if meter is not None:
                        meter.note(step, stage, name, np.inf, 0.0)
                continue
            if stage is Stage.GRADIENT and not recorded:
                name, due = next(iter(exact.items()))
                found.append(_Off(step, name, np.zeros_like(due[0]), due[0], np.inf, 0.0))
                if meter is not None:
                    meter.note(step, stage, name, np.inf, 0.0)
                continue
            known = [item for item in rounded if item is not None]
            found += self._compared(step, stage, recorded, exact, known, count=count, meter=meter)
        return found

    def _recorded(self, step: int, stage: Stage) -> Values:
        if stage is Stage.LOCAL_GRADIENT:
            return self.reading.local_gradients(step)
        if stage is Stage.GRADIENT:
            return self.reading.received(step)
        if stage is Stage.UPDATE:
            return self.reading.slots_left(step)
        return self.trace.stage(step, stage)

    def _compared(
        self,
        step: int,
        stage: Stage,
        recorded: Values,
        exact: Values,
        rounded: list[Values],
        *,
        count: bool,
        meter: Meter | None,
    ) -> Iterator[_Off]:
        known = [part for name in recorded if name in exact for part in exact[name] if part.dtype.kind == "f"]
        # Gradients are comparable with one another; a moving mean and a weight are not.
        alike = stage in (Stage.LOCAL_GRADIENT, Stage.GRADIENT)
        largest = [np.nanmax(np.abs(part), initial=0.0) for part in known] if alike else []
        scale = float(max(largest, default=0.0))
        for name, seen in recorded.items():
            if name not in exact:
                line = f"{stage.value} {name}: no clause gives it"
                if count and line not in self.judgement.skipped:
                    self.judgement.skipped.append(line)
                continue
            for replica, (value, due) in enumerate(zip(seen, exact[name], strict=True)):
                found, others = _within_range(value, due, [other[name][replica] for other in rounded])
                allowed = _allowed(self._spread(name, replica, due, others), due, self._safety(stage))
                if np.abs(due).max(initial=0.0) <= NOTHING * scale:
                    # A sum that cancels is as exact as its parts, which nobody has seen.
                    allowed = max(allowed, FLOOR * float(np.spacing(np.float32(scale))))
                if due.dtype.kind != "f":
                    allowed = 0.0
                apart = distance(found, due)
                if count:
                    self.judgement.compared += 1
                if meter is not None:
                    meter.note(step, stage, name, apart, allowed)
                if apart > allowed:
                    yield _Off(step, name, found, due, apart, allowed, scale)
                elif count and allowed:
                    self.judgement.ratios.setdefault(stage, []).append(Ratio(apart / allowed, step, name))

    def _spread(self, name: str, replica: int, due: Array, others: Sequence[Array]) -> float:
        """How far rounded evaluations lie from the exact one: as measured, or as at the step where that was done."""
        scale = float(np.abs(due.astype(np.float64)).max(initial=0.0))
        if not others:
            return self._relative.get((name, replica), 0.0) * scale
        spread = max(distance(other, due) for other in others)
        known = self._relative.get((name, replica), 0.0)
        self._relative[name, replica] = max(known, spread / scale if scale and np.isfinite(spread) else 0.0)
        return spread

    def _safety(self, stage: Stage) -> float:
        half = self.reading.training.precision in HALF_DIGITS
        return HALF_SAFETY if half and stage in (Stage.OUTPUTS, Stage.LOCAL_GRADIENT) else SAFETY

    # Explaining.

    def _explained(
        self, stage: Stage, wanted: Wanted, steps: Sequence[int], off: list[_Off]
    ) -> tuple[tuple[Named, ...], dict[str, Any]]:
        """The deviations that reproduce a stage, and the rules with them in place."""
        first = off[0].step
        plain = {**ALL_RULES, **_synchronized(self.exact)}
        if stage is Stage.LOCAL_GRADIENT and not self._off(stage, wanted, steps, plain):
            # What the loss deviated in is in what was reported of it alone.
            return (), plain
        stages = {stage} if not (self.reading.by_hand and stage is Stage.WEIGHTS) else _BY_HAND
        candidates = [
            (deviation, variant)
            for deviation in sorted(DEVIATIONS, key=lambda item: not item.today)
            if stages.intersection(deviation.stages)
            for variant in deviation.variants(self.exact)
        ]
        partly: list[tuple[tuple[Deviation, Variant], ...]] = []
        for size in (1, 2):
            for chosen in itertools.combinations(candidates, size):
                if len({deviation.name for deviation, _ in chosen}) < size or _collide(chosen):
                    continue
                rules = {**self.rules, **{k: v for _, variant in chosen for k, v in variant.rules.items()}}
                if self._off(stage, wanted, [first], rules):
                    continue
                if not self._off(stage, wanted, steps, rules):
                    return self._named(stage, chosen, len(steps), exact=True), rules
                partly.append(chosen)
            if partly:
                break
        if not partly:
            return self._special(stage, off), self.rules
        rules = {**self.rules, **{k: v for _, variant in partly[0] for k, v in variant.rules.items()}}
        return self._named(stage, partly[0], 1, exact=False), rules

    def _special(self, stage: Stage, off: Sequence[_Off]) -> tuple[Named, ...]:
        """What is told by the values themselves."""
        if stage is Stage.WEIGHTS and all(item.name not in self.exact.twin.trainable for item in off):
            told = f"{off[0].name} is not trainable and changes at step {off[0].step}"
            return (Named("frozen_weights_updated", True, (told,)),)
        coarse = _coarse(off) if stage in _SHARPLY_ROUNDED else ""
        if coarse:
            what = stage.value.replace("_", " ")
            return (Named("numeric_precision", True, (f"every {what} that is off is a number of {coarse}",)),)
        return ()

    def _named(
        self, stage: Stage, chosen: Sequence[tuple[Deviation, Variant]], steps: int, *, exact: bool
    ) -> tuple[Named, ...]:
        every = f"reproduces the {stage.value.replace('_', ' ')} of {steps} of {steps} steps"
        some = f"reproduces the {stage.value.replace('_', ' ')} of the first step that departs, not of all"
        return tuple(
            Named(
                self._name(stage, deviation.name),
                exact,
                ((f"{variant.told}: " if variant.told else "") + (every if exact else some),),
                variant.feature,
            )
            for deviation, variant in chosen
        )

    def _name(self, stage: Stage, name: str) -> str:
        told = {n.name for item in self.judgement.departures if item.stage is Stage.LOSS for n in item.causes}
        reported = self.reading.whole_losses and any(self.reading.has(step, Stage.LOSS) for step in self.reading.steps)
        if stage is Stage.LOCAL_GRADIENT and name == "regularization_omitted" and reported and name not in told:
            return "regularization_outside_tape"
        return name


def _allowed(spread: float, value: Array, safety: float = SAFETY) -> float:
    """What rounding explains of a quantity, from the spread of its perturbed evaluations."""
    return safety * (spread if np.isfinite(spread) else 0.0) + FLOOR * ulp(value.astype(np.float32))


def _within_range(seen: Array, due: Array, rounded: Sequence[Array]) -> tuple[Array, list[Array]]:
    """A recorded array and rounded evaluations of it, without what overflows in the arm's precision.

    Half precisions end at 65504, which a scaled loss reaches as a matter of course. An element that is finite, but not
    in an evaluation in the arm's precision, may be as little so in the arm.
    """
    if due.dtype.kind != "f" or seen.shape != due.shape:
        return seen, list(rounded)
    lost = [~np.isfinite(other) & np.isfinite(due) for other in rounded]
    if not any(part.any() for part in lost):
        return seen, list(rounded)
    overflown = np.logical_or.reduce(lost) & ~np.isfinite(seen)
    kept = [np.where(part, due, other) for part, other in zip(lost, rounded, strict=True)]
    return np.where(overflown, due, seen), kept


_SHARPLY_ROUNDED = {Stage.LOSS, Stage.LOCAL_GRADIENT, Stage.UPDATE, Stage.WEIGHTS}
"""The stages whose numbers are seldom short by chance, as counts and states are."""

_BY_HAND = {Stage.LOCAL_GRADIENT, Stage.GRADIENT, Stage.UPDATE, Stage.WEIGHTS}
"""The stages at which a weight that was moved by hand can first show what was done before it."""

_CONSEQUENCES = {
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


def _coarse(off: Sequence[_Off]) -> str:
    """The half precision in which all of these losses could have been computed, or nothing."""
    import tensorflow as tf

    for dtype, steps in ((tf.float16, 2.0**-11), (tf.bfloat16, 2.0**-8)):
        kept = [np.asarray(tf.cast(tf.cast(item.seen, dtype), tf.float32)) for item in off]
        near = all(item.magnitude <= 16 * steps * np.abs(item.wanted).max(initial=0.0) for item in off)
        if near and all(np.array_equal(a, item.seen) for a, item in zip(kept, off, strict=True)):
            return str(dtype.name)
    return ""


def _collide(chosen: Sequence[tuple[Deviation, Variant]]) -> bool:
    """Whether two of the variants replace the same clause."""
    names = [name for _, variant in chosen for name in variant.rules]
    return len(set(names)) < len(names)
