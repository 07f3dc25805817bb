"""Deviations from chapters 6 and 7: what the optimizer's step makes of the gradients, and when."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from conformance.data import Array
from conformance.referee.apply_rules import decayed, like
from conformance.referee.base_rules import UpdateStep
from conformance.referee.constraint_rules import Constraint, constrained
from conformance.referee.deviation import Deviation, Variant
from conformance.referee.evaluate import ALL_RULES, Evaluator
from conformance.referee.gradient_clauses import Gradients
from conformance.referee.own_schedule_rules import rule_of
from conformance.referee.scene import Rules
from conformance.referee.state_rules import StepOutcome, StepState
from conformance.referee.step_rules import optimizer_step
from conformance.referee.update_rules import COUNTING, UPDATE_RULES
from conformance.stage import Stage


def _rate(evaluator: Evaluator) -> Any:
    return evaluator.reading.optimizer_config.get("learning_rate")


def _rate_off(evaluator: Evaluator) -> Iterator[Variant]:
    for by, told in ((1, "the rate of the step after"), (-1, "the rate of the step before")):
        yield from _rates(evaluator, partial(_shifted, by), told)
    name = evaluator.reading.optimizer_class
    # What is called twice counts twice, and that is seen.
    once = evaluator.reading.trace.handed_a_step < 2
    if once and (rule_of(_rate(evaluator)) is not None or name in COUNTING):
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
    known = rule_of(_rate(evaluator))
    if known is None:
        return
    rule, _ = known

    def otherwise(step: int, config: Mapping[str, Any], dtype: Any = np.float64) -> Any:
        return rule(at(step), config, dtype)

    yield Variant({rule.__name__: otherwise}, told)


def _decay(evaluator: Evaluator) -> Iterator[Variant]:
    config, kind = evaluator.reading.optimizer_config, evaluator.reading.optimizer_class
    if not config.get("weight_decay") or kind not in UPDATE_RULES:
        return
    decay, spared = config["weight_decay"], evaluator.reading.decay_excluded
    rule = UPDATE_RULES[kind]

    def none(variables: Gradients, *_: Any) -> Gradients:
        return dict(variables)

    def without_rate(variables: Gradients, config: Any, rate: float, excluded: Collection[str] = ()) -> Gradients:
        return decayed(variables, config, 1.0, excluded)

    def coupled(factor: float) -> Callable[[UpdateStep], Any]:
        def step_with(step: UpdateStep) -> Any:
            penalized = {
                name: g if name in spared else g + step.variables[name] * like(g, decay * factor)
                for name, g in step.gradients.items()
            }
            return rule(replace(step, gradients=penalized))

        return step_with

    def afterwards(step: UpdateStep) -> Any:
        made = rule(step)
        moved = {n: made.variables[n] for n in step.gradients}
        left = decayed(moved, step.config, step.learning_rate, spared)
        return replace(made, variables={**made.variables, **left})

    def matrices_only(variables: Gradients, config: Any, rate: float, excluded: Collection[str] = ()) -> Gradients:
        vectors = {name for name, value in variables.items() if np.ndim(value) < 2}
        return decayed(variables, config, rate, {*excluded, *vectors})

    yield Variant({"decayed": none}, "weights are not decayed")
    yield Variant({"decayed": without_rate}, "the decay is not multiplied with the learning rate")
    for factor, told in ((1.0, "decay times the weight"), (2.0, "twice the decay times the weight")):
        yield Variant({"decayed": none, rule.__name__: coupled(factor)}, f"{told} is added to the gradient")
    yield Variant({"decayed": none, rule.__name__: afterwards}, "weights are decayed after the update")
    if spared:

        def everything(variables: Gradients, config: Any, rate: float, excluded: Collection[str] = ()) -> Gradients:
            return decayed(variables, config, rate)

        yield Variant({"decayed": everything}, "what is excluded from the decay is decayed, too")
    yield Variant({"decayed": matrices_only}, "biases and other vectors are not decayed")
    for factor in (0.5, 2.0):

        def scaled(
            variables: Gradients, config: Any, rate: float, excluded: Collection[str] = (), factor: float = factor
        ) -> Gradients:
            return decayed(variables, config, rate * factor, excluded)

        yield Variant({"decayed": scaled}, f"the decay is {factor:g} times what it should be")


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
