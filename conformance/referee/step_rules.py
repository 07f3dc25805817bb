"""Chapter 6: one step of an optimizer, every clause in its place and every clause replaceable.

The order is Keras's `apply`, as its docstrings and comments tell it: unscale, accumulate, clip, decay, update, average
(and write the averages), constrain, count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from conformance.errors import UnsupportedError
from conformance.referee.apply_rules import (
    Accumulated,
    LossScale,
    Rules,
    accumulated,
    averaged,
    clipped,
    clipped_by_global_norm,
    clipped_by_norm,
    clipped_by_value,
    clipped_in_parts,
    combined,
    counted,
    decayed,
    finalized,
    loss_scaled,
    overwritten,
    routed,
    unscaled,
)
from conformance.referee.base_rules import Array, UpdateStep
from conformance.referee.clause import clause
from conformance.referee.constraint_rules import Constraint, constrained, max_norm, min_max_norm, non_neg, unit_norm
from conformance.referee.own_schedule_rules import own_schedule, rule_of
from conformance.referee.schedule_rules import SCHEDULE_RULES
from conformance.referee.state_rules import StepOutcome, StepState
from conformance.referee.update_rules import UPDATE_RULES
from conformance.referee.wrapper_rules import WRAPPERS, loss_scale_parts, multi_parts

__all__ = [
    "RULES",
    "WRAPPERS",
    "Accumulated",
    "Constraint",
    "LossScale",
    "Rules",
    "StepOutcome",
    "StepState",
    "accumulated",
    "averaged",
    "called_once",
    "clipped",
    "clipped_by_global_norm",
    "clipped_by_norm",
    "clipped_by_value",
    "combined",
    "constrained",
    "counted",
    "decayed",
    "final_variables",
    "finalized",
    "learning_rate_of",
    "loss_scaled",
    "max_norm",
    "min_max_norm",
    "non_neg",
    "optimizer_step",
    "overwritten",
    "routed",
    "unit_norm",
    "unscaled",
]

_CLAUSES: tuple[Callable[..., Any], ...] = (
    unscaled,
    accumulated,
    clipped,
    clipped_by_value,
    clipped_by_norm,
    clipped_by_global_norm,
    combined,
    decayed,
    averaged,
    overwritten,
    constrained,
    max_norm,
    non_neg,
    unit_norm,
    min_max_norm,
    counted,
    finalized,
    loss_scaled,
    routed,
    *UPDATE_RULES.values(),
    *SCHEDULE_RULES.values(),
    own_schedule,
)

RULES: dict[str, Callable[..., Any]] = {rule.__name__: rule for rule in _CLAUSES}
"""Every clause a step is made of, by function name. A caller replaces one: `{**RULES, "decayed": my_decay}`."""


@clause("6.1", source="https://keras.io/api/optimizers/, apply, and the comments of its source")
def optimizer_step(
    state: StepState, rules: Rules = RULES, *, received: Mapping[str, Array] | None = None
) -> StepOutcome:
    """A step of an optimizer unscales, accumulates and clips the gradients, decays the weights, updates them by its
    rule, takes and writes their moving averages, constrains them and counts itself, in this order.

    Args:
        state: what it starts from.
        rules: the clauses, by name; see `RULES`.
        received: the gradients as the update rule received them, where those are known: nothing is then unscaled,
            accumulated or clipped, and the step updates.

    Raises:
        UnsupportedError: when the optimizer or a constraint is none of Keras's.
    """
    with np.errstate(all="ignore"):
        if state.class_name == "LossScaleOptimizer":
            return _loss_scaled_step(state, rules, received)
        if state.class_name == "MultiOptimizer":
            return _multi_step(state, rules, received)
        return _step(state, rules, received)


def _loss_scaled_step(state: StepState, rules: Rules, received: Mapping[str, Array] | None) -> StepOutcome:
    own, (part,) = loss_scale_parts(state, rules)
    scale, counter = (state.slots[own[name]] for name in ("dynamic_scale", "step_counter"))
    made = rules["loss_scaled"](state.gradients, scale, counter, state.config["dynamic_growth_steps"])
    slots = {**state.slots, own["dynamic_scale"]: made.scale, own["step_counter"]: made.counter}
    if not made.finite:
        return StepOutcome(dict(state.variables), slots, None)
    gradients = rules["unscaled"](state.gradients, float(scale))
    done = optimizer_step(replace(part.state, gradients=gradients), rules, received=received)
    slots.update({part.names[name]: value for name, value in done.slots.items()})
    return StepOutcome(done.variables, slots, done.received)


def _multi_step(state: StepState, rules: Rules, received: Mapping[str, Array] | None) -> StepOutcome:
    own, parts = multi_parts(state, rules)
    variables, slots, told = dict(state.variables), dict(state.slots), dict[str, Array]()
    updated = False
    for part in parts:
        theirs = None if received is None else {p: g for p, g in received.items() if p in part.state.variables}
        if not part.state.variables:
            continue
        done = optimizer_step(part.state, rules, received=theirs)
        variables.update(done.variables)
        slots.update({part.names[name]: value for name, value in done.slots.items()})
        told.update(done.received or {})
        updated = updated or done.received is not None
    slots[own["iteration"]] = rules["counted"](slots[own["iteration"]])
    return StepOutcome(variables, slots, told if updated else None)


def _step(state: StepState, rules: Rules, received: Mapping[str, Array] | None) -> StepOutcome:
    if state.class_name not in UPDATE_RULES:
        raise UnsupportedError(f"{state.class_name} is no optimizer of keras.optimizers")
    config, iterations = state.config, int(state.slots["iteration"])
    every = config.get("gradient_accumulation_steps") or 1
    slots = dict(state.slots)
    if received is None:
        received = _received(state, rules, slots, every)
    elif every > 1:
        slots.update({key: np.zeros_like(slots[key]) for key in state.keys("gradient_accumulator").values()})
    variables, updates = dict(state.variables), received is not None
    if received is not None:
        rate = learning_rate_of(state, rules)
        own = {path: variables[path] for path in received}
        variables.update(rules["decayed"](own, config, rate, state.decay_excluded))
        rule = rules[UPDATE_RULES[state.class_name].__name__]
        # Scaling by a norm of all of them sums each, whoever does it.
        slices = {} if config.get("global_clipnorm") else rules["combined"](state.slices)
        done = rule(UpdateStep(received, variables, slots, rate, iterations // every, config, slices))
        variables.update(done.variables)
        slots.update(done.slots)
    if config.get("use_ema"):
        keys = state.keys("average")
        averages = {path: slots[key] for path, key in keys.items()}
        averages = rules["averaged"](averages, variables, config, iterations, updates)
        variables.update(rules["overwritten"](variables, averages, config, iterations, updates))
        slots.update({keys[path]: average for path, average in averages.items()})
    touched = {path: variables[path] for path in (state.gradients if received is None else received)}
    variables.update(rules["constrained"](touched, state.constraints, updates, rules))
    slots["iteration"] = rules["counted"](slots["iteration"])
    return StepOutcome(variables, slots, None if received is None else dict(received))


def _received(state: StepState, rules: Rules, slots: dict[str, Array], every: int) -> dict[str, Array] | None:
    """The gradients for the update rule, if it has any; writes the accumulators."""
    gradients, scale = dict(state.gradients), state.config.get("loss_scale_factor")
    if scale is not None:
        gradients = rules["unscaled"](gradients, scale)
    if every > 1:
        keys = state.keys("gradient_accumulator")
        held = {path: slots[key] for path, key in keys.items()}
        made = rules["accumulated"](gradients, held, every, int(slots["iteration"]))
        slots.update({keys[path]: value for path, value in made.held.items()})
        if made.received is None:
            return None
        gradients = made.received
    # What was accumulated has been summed.
    slices = rules["combined"](state.slices) if every == 1 else {}
    if slices:
        return clipped_in_parts(gradients, slices, state.config)
    clipped_gradients: dict[str, Array] = rules["clipped"](gradients, state.config, rules)
    return clipped_gradients


@clause("6.27", source="https://keras.io/api/optimizers/, apply, iterations")
def called_once(state: StepState, rules: Rules = RULES, received: Mapping[str, Array] | None = None) -> StepOutcome:
    """A step of the training is one step of the optimizer, which is given the gradients of all weights at once."""
    return optimizer_step(state, rules, received=received)


def learning_rate_of(state: StepState, rules: Rules = RULES) -> float:
    """The learning rate of a step: the given one, the optimizer's variable, or what its schedule says.

    Raises:
        UnsupportedError: when none of them says it.
    """
    iterations = int(state.slots["iteration"])
    if callable(state.learning_rate):
        return float(state.learning_rate(iterations))
    if state.learning_rate is not None:
        return state.learning_rate
    if "learning_rate" in state.slots:
        return float(state.slots["learning_rate"])
    schedule = state.config["learning_rate"]
    known = rule_of(schedule)
    if known is None:
        name = schedule.get("class_name") if isinstance(schedule, Mapping) else None
        raise UnsupportedError(f"{name or schedule} is no schedule of keras.optimizers.schedules; give learning_rate=")
    rule, config = known
    dtype = next((np.asarray(value).dtype for value in state.variables.values()), np.dtype(np.float64))
    return float(rules[rule.__name__](iterations, config, dtype))


def final_variables(state: StepState, rules: Rules = RULES) -> dict[str, Array]:
    """The weights once training is over: `finalize_variable_values`, which `fit` calls and a loop has to."""
    if state.class_name in WRAPPERS:
        _, parts = WRAPPERS[state.class_name](state, rules)
        return {**state.variables, **{p: w for part in parts for p, w in final_variables(part.state, rules).items()}}
    if not state.config.get("use_ema"):
        return dict(state.variables)
    averages = {path: state.slots[key] for path, key in state.keys("average").items()}
    return dict(rules["finalized"](state.variables, averages))
