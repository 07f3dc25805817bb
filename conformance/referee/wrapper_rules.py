"""Optimizers around others, taken apart: LossScaleOptimizer and MultiOptimizer.

The key idea is that the inner optimizers' variables follow the outer one's own, and each optimizer's begin with its
counter of iterations; so names that were numbered to tell them apart find their optimizer by their place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from conformance.errors import UnsupportedError
from conformance.referee.apply_rules import Rules
from conformance.referee.base_rules import distinct
from conformance.referee.state_rules import StepState


@dataclass(frozen=True)
class Part:
    """One of the optimizers inside another.

    Attributes:
        state: what its step starts from, with its slots called as if it were alone.
        names: what its slots are called in the trace of the outer one.
    """

    state: StepState
    names: Mapping[str, str]


Parts = tuple[Mapping[str, str], list[Part]]
"""The outer optimizer's own names of slots, with their names in the trace, and the optimizers inside."""


def segments(slots: Mapping[str, Any]) -> list[dict[str, str]]:
    """By optimizer, the outer one first, its slots' names as if it were alone, with their names in the trace."""
    plain = [re.sub(r"\[\d+\]$", "", name) for name in slots]
    starts = [index for index, name in enumerate(plain) if name == "iteration"]
    named = list(slots)
    return [
        dict(zip(distinct(plain[start:end]), named[start:end], strict=True))
        for start, end in zip(starts, [*starts[1:], len(named)], strict=True)
    ]


def loss_scale_parts(state: StepState, rules: Rules) -> Parts:
    """The optimizer that LossScaleOptimizer scales the loss for."""
    own, inner = segments(state.slots)
    return own, [Part(_inner(state, state.config["inner_optimizer"], inner), inner)]


def multi_parts(state: StepState, rules: Rules) -> Parts:
    """The optimizers of a MultiOptimizer, each with its variables; one without variables has none, and is as it was.

    Raises:
        UnsupportedError: when the optimizers are chosen by a function, which no config tells.
    """
    chosen = state.config["optimizer_map"]
    if chosen.get("class_name") != "OptimizerMap":
        raise UnsupportedError(
            "a MultiOptimizer that chooses by a function cannot be followed; give it an OptimizerMap"
        )
    patterns, default = chosen["config"]["optimizer_map"], chosen["config"]["default_optimizer"]
    # One optimizer may stand under several keys; its name tells it apart, for optimizers are numbered.
    optimizers = {entry["config"]["name"]: entry for entry in (*patterns.values(), default)}
    own, *inner = segments(state.slots)
    if len(inner) != len(optimizers):
        raise UnsupportedError(f"{len(optimizers)} optimizers of a MultiOptimizer have variables of {len(inner)}")
    places: dict[str, list[str]] = {name: [] for name in optimizers}
    for path in state.variables:
        key = rules["routed"](path, patterns)
        places[(default if key is None else patterns[key])["config"]["name"]].append(path)
    parts = []
    for (name, entry), names in zip(optimizers.items(), inner, strict=True):
        paths = places[name]
        held = replace(
            state,
            gradients={path: value for path, value in state.gradients.items() if path in paths},
            variables={path: value for path, value in state.variables.items() if path in paths},
            learning_rate=None,
        )
        parts.append(Part(_inner(held, entry, names), names))
    return own, parts


def _inner(state: StepState, entry: Mapping[str, Any], names: Mapping[str, str]) -> StepState:
    slots = {name: state.slots[traced] for name, traced in names.items()}
    return replace(state, class_name=entry["class_name"], config=entry["config"], slots=slots)


WRAPPERS: dict[str, Callable[[StepState, Rules], Parts]] = {
    "LossScaleOptimizer": loss_scale_parts,
    "MultiOptimizer": multi_parts,
}
"""How an optimizer around others is taken apart, by class name."""
