"""Deviations from chapters 2, 5, 6 and 8: modes, gradients, the optimizer's step, and the states it leaves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from conformance.data import Array
from conformance.referee.apply_rules import CLIPPING_RULES, accumulated, clipped, decayed, like
from conformance.referee.base_rules import UpdateStep
from conformance.referee.constraint_rules import Constraint, constrained
from conformance.referee.deviation import Deviation, Variant
from conformance.referee.evaluate import ALL_RULES, Evaluator
from conformance.referee.gradient_clauses import Gradients, summed_over_replicas
from conformance.referee.scene import Rules
from conformance.referee.schedule_rules import SCHEDULE_RULES
from conformance.referee.state_rules import StepOutcome, StepState
from conformance.referee.step_rules import optimizer_step
from conformance.referee.update_rules import COUNTING, UPDATE_RULES
from conformance.stage import Stage


def _mode(**changes: Any) -> dict[str, Callable[..., Any]]:
    return {"called": lambda mode: replace(mode, **changes)}


def _inference(evaluator: Evaluator) -> Iterator[Variant]:
    if evaluator.twin.random or evaluator.twin.coupled:
        yield Variant(_mode(training=False), "the outputs are those of inference mode")


def _twice(evaluator: Evaluator) -> Iterator[Variant]:
    if evaluator.twin.random or evaluator.twin.coupled:
        yield Variant(_mode(times=2), "statistics and random states move twice a step")


def _after_update(evaluator: Evaluator) -> Iterator[Variant]:
    yield Variant(_mode(start="after"), "the loss is that of the weights after the step")
    if evaluator.twin.random or evaluator.twin.coupled:
        yield Variant(_mode(start="after", training=False), "the loss is that of inference mode after the step")


def _kept_alone(name: str, before: Mapping[str, Array], after: Mapping[str, Array]) -> dict[str, Array]:
    return {path: before[path] if path.endswith(name) else after[path] for path in after}


def _statistics_kept(evaluator: Evaluator) -> Iterator[Variant]:
    def kept(before: Mapping[str, Array], after: Mapping[str, Array]) -> dict[str, Array]:
        return {name: after[name] if "seed_generator" in name else before[name] for name in after}

    if evaluator.twin.coupled:
        yield Variant({"states_left": kept}, "the moving statistics stay what they were")
        for statistic in ("moving_mean", "moving_variance"):
            alone = partial(_kept_alone, statistic)
            yield Variant({"states_left": alone}, f"the {statistic.replace('_', ' ')} stays what it was")
        every = evaluator.reading.training.steps_per_epoch
        yield Variant(_mode(anew_every=every), "the moving statistics start anew with every epoch")


def _of_no_rows(evaluator: Evaluator) -> Iterator[Variant]:
    if not evaluator.twin.coupled or not evaluator.leaves_out_a_replica:
        return

    def undefined(gradients: Gradients, scales: Collection[str]) -> Gradients:
        return {name: np.full_like(value, np.nan) if name in scales else value for name, value in gradients.items()}

    states = {"statistics_of_no_rows": lambda before, after: dict(after)}
    told = "a replica without rows takes the mean of nothing, NaN, into its moving statistics"
    yield Variant({**states, "gradient_of_no_rows": undefined}, f"{told} and the gradient of gamma", _NO_ROWS)
    yield Variant(states, told, _NO_ROWS)


_NO_ROWS = "no_rows"


def _stream_kept(evaluator: Evaluator) -> Iterator[Variant]:
    def kept(before: Mapping[str, Array], after: Mapping[str, Array]) -> dict[str, Array]:
        return {name: before[name] if "seed_generator" in name else after[name] for name in after}

    if evaluator.twin.random:
        yield Variant({"states_left": kept}, "the random states do not move")
        every = evaluator.reading.training.steps_per_epoch
        yield Variant(_mode(anew_every=every, anew="seed_generator"), "the random states start anew with every epoch")
        yield Variant(_mode(anew_every=1, anew="seed_generator"), "the random states start anew with every step")


# From the local gradients to what the update rule receives.


def _unscaled(evaluator: Evaluator) -> Iterator[Variant]:
    config = evaluator.reading.optimizer_config
    if config.get("loss_scale_factor") or evaluator.reading.optimizer_class == "LossScaleOptimizer":
        yield Variant({"loss_scale": lambda *_: 1.0}, "the gradients are those of a loss that was not scaled")


def _not_reduced(evaluator: Evaluator) -> Iterator[Variant]:
    if evaluator.reading.replicas > 1:
        yield Variant({"summed_over_replicas": lambda parts, replica: dict(parts[replica])}, "each replica has its own")
        yield Variant({"summed_over_replicas": lambda parts, replica: dict(parts[0])}, "all have the first one's")
        yield Variant({"summed_over_replicas": _mean}, "their mean in the place of their sum")


def _mean(parts: list[Gradients], replica: int) -> Gradients:
    return {name: value / len(parts) for name, value in summed_over_replicas(parts, replica).items()}


def _reduced_twice(evaluator: Evaluator) -> Iterator[Variant]:
    def twice(parts: list[Gradients], replica: int) -> Gradients:
        return {name: value * len(parts) for name, value in summed_over_replicas(parts, replica).items()}

    if evaluator.reading.replicas > 1:
        yield Variant({"summed_over_replicas": twice}, "the sum, summed over the replicas once more")


def _clipping(evaluator: Evaluator) -> str | None:
    config = evaluator.reading.optimizer_config
    return next((name for name in CLIPPING_RULES if config.get(name)), None)


def _clip_order(evaluator: Evaluator) -> Iterator[Variant]:
    kind, config = _clipping(evaluator), evaluator.reading.optimizer_config
    if kind is None:
        return

    def first(parts: list[Gradients], replica: int) -> Gradients:
        return summed_over_replicas([clipped(part, config, ALL_RULES) for part in parts], replica)

    def unclipped(gradients: Gradients, *_: Any) -> Gradients:
        return dict(gradients)

    rule = UPDATE_RULES.get(evaluator.reading.optimizer_class)
    if rule is not None:

        def of_moves(step: UpdateStep) -> Any:
            made, rate = rule(step), step.learning_rate
            moves = {n: (made.variables[n] - step.variables[n]) / like(made.variables[n], rate) for n in step.gradients}
            left = clipped(moves, config, ALL_RULES)
            moved = {n: step.variables[n] + left[n] * like(left[n], rate) for n in left}
            return replace(made, variables={**made.variables, **moved})

        told = "what the update rule makes of them is clipped, a unit of learning rate"
        yield Variant({rule.__name__: of_moves}, told, kind)
    if evaluator.reading.replicas > 1:
        told = "each replica's gradients clipped, and then summed"
        yield Variant({"summed_over_replicas": first, "clipped": unclipped}, told, kind)
    if config.get("gradient_accumulation_steps"):

        def one_by_one(gradients: Gradients, held: Gradients, steps: int, iterations: int) -> Any:
            return accumulated(clipped(gradients, config, ALL_RULES), held, steps, iterations)

        yield Variant({"accumulated": one_by_one, "clipped": unclipped}, "clipped before they are accumulated", kind)
    yield Variant({"clipped": unclipped}, "the update rule is given the gradients unclipped", kind)


def _clip_kind(evaluator: Evaluator) -> Iterator[Variant]:
    kind = _clipping(evaluator)
    if kind is None:
        return
    limit = evaluator.reading.optimizer_config[kind]
    for other, rule in CLIPPING_RULES.items():
        if other != kind:

            def otherwise(gradients: Gradients, *_: Any, rule: str = rule) -> Gradients:
                return dict(ALL_RULES[rule](gradients, limit))

            yield Variant({"clipped": otherwise}, f"{other}={limit:g} in the place of {kind}={limit:g}", kind)

    def elementwise(gradients: Gradients, *_: Any) -> Gradients:
        """What some write for a norm: every gradient normalized to the limit, small ones too."""
        return {n: g * like(g, limit) / max(np.sqrt((g * g).sum()), like(g, 1e-30)) for n, g in gradients.items()}

    if kind == "clipnorm":
        yield Variant({"clipped": elementwise}, "every gradient scaled to the norm, smaller ones too", kind)


def _accumulates(evaluator: Evaluator) -> int:
    return int(evaluator.reading.optimizer_config.get("gradient_accumulation_steps") or 1)


def _not_averaged(evaluator: Evaluator) -> Iterator[Variant]:
    def added_up(gradients: Gradients, held: Gradients, steps: int, iterations: int) -> Any:
        made = accumulated(gradients, held, steps, iterations)
        if made.received is None:
            return made
        return replace(made, received={name: value * like(value, steps) for name, value in made.received.items()})

    if _accumulates(evaluator) > 1:
        yield Variant({"accumulated": added_up}, "the sum of the accumulated gradients in the place of their mean")


def _tail(evaluator: Evaluator) -> Iterator[Variant]:
    training = evaluator.reading.training
    if _accumulates(evaluator) < 2:
        return

    def last_alone(gradients: Gradients, held: Gradients, steps: int, iterations: int) -> Any:
        made = accumulated(gradients, held, steps, iterations)
        if made.received is None:
            return made
        parts = {name: value / like(value, steps) for name, value in gradients.items()}
        return replace(made, received=parts)

    yield Variant({"accumulated": last_alone}, "an update has the last gradient of its group alone")

    def at_the_end(gradients: Gradients, held: Gradients, steps: int, iterations: int) -> Any:
        if (iterations + 1) % training.steps_per_epoch:
            return accumulated(gradients, held, steps, iterations)
        sums = {name: value + held[name] for name, value in gradients.items()}
        means = {name: value / like(value, steps) for name, value in sums.items()}
        return replace(accumulated(gradients, held, 1, 0), received=means)

    yield Variant({"accumulated": at_the_end}, "an incomplete group at the end of an epoch updates too")


# From what the update rule receives to slots and weights.


def _rate(evaluator: Evaluator) -> Any:
    return evaluator.reading.optimizer_config.get("learning_rate")


def _rate_off(evaluator: Evaluator) -> Iterator[Variant]:
    for by, told in ((1, "the rate of the step after"), (-1, "the rate of the step before")):
        yield from _rates(evaluator, partial(_shifted, by), told)
    name = evaluator.reading.optimizer_class
    # What is called twice counts twice, and that is seen.
    once = evaluator.reading.trace.handed_a_step < 2
    if once and (isinstance(_rate(evaluator), Mapping) or name in COUNTING):
        for which, told in ((_every, "every step"), (_first, "the first step")):
            yield Variant({"carried": partial(_counted_before, which)}, f"the step is counted before {told} is made")
    if name not in COUNTING:
        return
    for by in (1, -1):

        def shifted(step: UpdateStep, by: int = by) -> Any:
            return UPDATE_RULES[name](replace(step, iterations=max(step.iterations + by, 0)))

        yield Variant({UPDATE_RULES[name].__name__: shifted}, "the step is counted before it is made")


def _every(step: int) -> bool:
    return True


def _first(step: int) -> bool:
    return step == 0


def _counted_before(
    which: Callable[[int], bool], slots: dict[str, Array], start: dict[str, Array], step: int
) -> dict[str, Array]:
    if not which(step):
        return slots
    return {n: value + like(value, 1) if n == "iteration" else value for n, value in slots.items()}


def _shifted(by: int, step: int) -> int:
    return max(step + by, 0)


def _rate_frozen(evaluator: Evaluator) -> Iterator[Variant]:
    yield from _rates(evaluator, lambda step: 0, "the rate of the first step, at every step")
    epoch = evaluator.reading.training.steps_per_epoch
    yield from _rates(evaluator, lambda step: step // epoch * epoch, "the rate of the epoch's first step")


def _rates(evaluator: Evaluator, at: Callable[[int], int], told: str) -> Iterator[Variant]:
    schedule = _rate(evaluator)
    if not isinstance(schedule, Mapping) or schedule.get("class_name") not in SCHEDULE_RULES:
        return
    rule = SCHEDULE_RULES[schedule["class_name"]]

    def otherwise(step: int, config: Mapping[str, Any], dtype: Any = np.float64) -> Any:
        return rule(at(step), config, dtype)

    yield Variant({rule.__name__: otherwise}, told)


def _decay(evaluator: Evaluator) -> Iterator[Variant]:
    config, kind = evaluator.reading.optimizer_config, evaluator.reading.optimizer_class
    if not config.get("weight_decay") or kind not in UPDATE_RULES:
        return
    decay = config["weight_decay"]
    rule = UPDATE_RULES[kind]

    def none(variables: Gradients, *_: Any) -> Gradients:
        return dict(variables)

    def without_rate(variables: Gradients, config: Any, rate: float, excluded: Collection[str] = ()) -> Gradients:
        return decayed(variables, config, 1.0, excluded)

    def coupled(factor: float) -> Callable[[UpdateStep], Any]:
        def step_with(step: UpdateStep) -> Any:
            penalized = {name: g + step.variables[name] * like(g, decay * factor) for name, g in step.gradients.items()}
            return rule(replace(step, gradients=penalized))

        return step_with

    def afterwards(step: UpdateStep) -> Any:
        made = rule(step)
        moved = {n: made.variables[n] for n in step.gradients}
        left = decayed(moved, step.config, step.learning_rate, ())
        return replace(made, variables={**made.variables, **left})

    def matrices_only(variables: Gradients, config: Any, rate: float, excluded: Collection[str] = ()) -> Gradients:
        vectors = {name for name, value in variables.items() if np.ndim(value) < 2}
        return decayed(variables, config, rate, {*excluded, *vectors})

    yield Variant({"decayed": none}, "weights are not decayed")
    yield Variant({"decayed": without_rate}, "the decay is not multiplied with the learning rate")
    for factor, told in ((1.0, "decay times the weight"), (2.0, "twice the decay times the weight")):
        yield Variant({"decayed": none, rule.__name__: coupled(factor)}, f"{told} is added to the gradient")
    yield Variant({"decayed": none, rule.__name__: afterwards}, "weights are decayed after the update")
    yield Variant({"decayed": matrices_only}, "biases and other vectors are not decayed")
    for factor in (0.5, 2.0):

        def scaled(
            variables: Gradients, config: Any, rate: float, excluded: Collection[str] = (), factor: float = factor
        ) -> Gradients:
            return decayed(variables, config, rate * factor, excluded)

        yield Variant({"decayed": scaled}, f"the decay is {factor:g} times what it should be")


def _decay_in_gradient(evaluator: Evaluator) -> Iterator[Variant]:
    decay = evaluator.reading.optimizer_config.get("weight_decay")
    if not decay:
        return
    for factor, told in ((1.0, "decay times the weight"), (2.0, "twice the decay times the weight")):

        def with_decay(gradients: Gradients, variables: Gradients, factor: float = factor) -> Gradients:
            return {n: g + variables[n] * like(g, decay * factor) for n, g in gradients.items()}

        yield Variant({"handed_over": with_decay}, f"{told} is added to the gradient")


def _constraints(evaluator: Evaluator) -> Iterator[Variant]:
    if evaluator.twin.constraints:
        left = {"constrained": lambda variables, *_: dict(variables)}
        yield Variant(left, "weights are not projected")
        given = {n: Constraint(type(c).__name__, c.get_config()) for n, c in evaluator.twin.constraints.items()}

        def before(variables: Gradients, config: Any, rate: float, excluded: Collection[str] = ()) -> Gradients:
            return decayed(constrained(variables, given, True, ALL_RULES), config, rate, excluded)

        yield Variant({**left, "decayed": before}, "weights are projected before their update, not after it")


def _averages(evaluator: Evaluator) -> Iterator[Variant]:
    config = evaluator.reading.optimizer_config
    if not config.get("use_ema"):
        return
    yield Variant({"overwritten": lambda variables, *_: dict(variables)}, "the averages are not written", "use_ema")
    yield Variant({"averaged": lambda averages, *_: dict(averages)}, "the averages are not taken", "use_ema")


def _called_twice(evaluator: Evaluator) -> Iterator[Variant]:
    trace = evaluator.reading.trace
    times = trace.handed_a_step
    groups = trace.handed * times if len(trace.handed) == 1 else trace.handed
    if times < 2 or len(groups) != times:
        return

    def one_by_one(state: StepState, rules: Rules, received: Mapping[str, Array] | None = None) -> StepOutcome:
        told: dict[str, Array] = {}
        for group in groups:
            part = replace(
                state,
                gradients={name: value for name, value in state.gradients.items() if name in group},
                variables={name: value for name, value in state.variables.items() if name in group},
            )
            theirs = None if received is None else {name: value for name, value in received.items() if name in group}
            done = optimizer_step(part, rules, received=theirs)
            state = replace(state, variables={**state.variables, **done.variables}, slots=done.slots)
            told.update(done.received or {})
        return StepOutcome(dict(state.variables), dict(state.slots), told)

    what = "the same weights each time" if len(trace.handed) == 1 else "a part of the weights each time"
    yield Variant({"called_once": one_by_one}, f"the optimizer is called {times} times a step, with {what}")


def _slots_reset(evaluator: Evaluator) -> Iterator[Variant]:
    kept = ("iteration", "learning_rate")
    every = evaluator.reading.training.steps_per_epoch

    def at(which: Callable[[int], bool], *, all_of_them: bool) -> Callable[..., dict[str, Array]]:
        def reset(slots: dict[str, Array], start: dict[str, Array], step: int) -> dict[str, Array]:
            if not which(step):
                return slots
            return {n: slots[n] if n in kept and not all_of_them else value for n, value in start.items()}

        return reset

    def count(which: Callable[[int], bool]) -> Callable[..., dict[str, Array]]:
        def reset(slots: dict[str, Array], start: dict[str, Array], step: int) -> dict[str, Array]:
            counts = {name: value for name, value in start.items() if name.startswith("iteration")}
            return {**slots, **counts} if which(step) else slots

        return reset

    def kind(ending: str, slots: dict[str, Array], start: dict[str, Array], step: int) -> dict[str, Array]:
        return {name: start[name] if name.endswith(ending) else value for name, value in slots.items()}

    endings = {name.rpartition("_")[2] for name in evaluator.reading.slots(0, 0) if name not in kept}
    for ending in sorted(endings) if len(endings) > 1 else []:
        yield Variant({"carried": partial(kind, f"_{ending}")}, f"the slots called {ending} start anew with every step")
    yield Variant({"carried": count(lambda step: step % every == 0)}, "iterations are counted anew in every epoch")
    for which, told in ((lambda step: True, "step"), (lambda step: step % every == 0, "epoch")):
        yield Variant({"carried": at(which, all_of_them=False)}, f"slots start anew with every {told}")
        yield Variant({"carried": at(which, all_of_them=True)}, f"slots and iterations start anew with every {told}")


GRADIENT_DEVIATIONS: tuple[Deviation, ...] = (
    Deviation("loss_scaling_missing", (Stage.LOCAL_GRADIENT,), _unscaled),
    Deviation("clip_order", (Stage.GRADIENT, Stage.WEIGHTS), _clip_order, today=True),
    Deviation("clip_kind", (Stage.GRADIENT,), _clip_kind),
    Deviation("weight_decay", (Stage.GRADIENT,), _decay_in_gradient),
    Deviation("replica_gradients_not_reduced", (Stage.GRADIENT,), _not_reduced),
    Deviation("replica_gradients_reduced_twice", (Stage.GRADIENT,), _reduced_twice),
    Deviation("accumulation_not_averaged", (Stage.GRADIENT,), _not_averaged),
    Deviation("accumulation_tail", (Stage.GRADIENT,), _tail),
)
"""What may become of the gradients otherwise."""

_LEFT = (Stage.UPDATE, Stage.WEIGHTS)

UPDATE_DEVIATIONS: tuple[Deviation, ...] = (
    Deviation("weight_decay", _LEFT, _decay),
    Deviation("constraint_not_applied", (Stage.WEIGHTS,), _constraints),
    Deviation("ema_not_applied", _LEFT, _averages),
    Deviation("optimizer_called_twice", (Stage.GRADIENT, *_LEFT), _called_twice),
    Deviation("learning_rate_off_by_one", _LEFT, _rate_off),
    Deviation("learning_rate_frozen", _LEFT, _rate_frozen),
    Deviation("optimizer_state_reset", (Stage.GRADIENT, *_LEFT), _slots_reset),
)
"""What the optimizer's step may do otherwise."""

FORWARD_DEVIATIONS: tuple[Deviation, ...] = (
    Deviation("training_flag_false", (Stage.OUTPUTS,), _inference),
    Deviation("model_called_twice", (Stage.OUTPUTS, Stage.LOCAL_GRADIENT, Stage.STATE), _twice),
    Deviation("replica_local_statistics", (Stage.LOCAL_GRADIENT, Stage.STATE), _of_no_rows, today=True),
    Deviation("batchnorm_statistics_not_updated", (Stage.STATE,), _statistics_kept),
    Deviation("random_stream_differs", (Stage.OUTPUTS, Stage.STATE), _stream_kept),
    Deviation("loss_reported_after_update", (Stage.LOSS,), _after_update),
)
"""How the model may be called otherwise, and what may become of its states."""
