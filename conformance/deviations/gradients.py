"""Deviations from a replica's gradient to the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from conformance.data import Array
from conformance.deviations.context import Context, Replay
from conformance.optimizers import CLIPPING
from conformance.stage import Stage
from conformance.standstill import how, stood_still
from conformance.tolerance import distance

Gradients = dict[str, Array]
"""Gradients by variable."""


def _reduced(
    context: Context,
    local: Callable[[Gradients], Gradients],
    reduce: Callable[[list[Gradients], int], Gradients],
) -> Replay | None:
    """Whether the gradients the update rule received are, at every step, what a reduction makes of the local ones.

    Args:
        context: what is looked at.
        local: what is done to each replica's gradients before.
        reduce: (every replica's gradients, a replica's number) to what that replica's update rule receives.
    """
    suspect = context.suspect
    if suspect.replicas < 2 or context.difference.stage is not Stage.GRADIENT:
        return None
    if "gradient_accumulation_steps" in context.options:
        return None
    steps = sorted({key[0] for key in suspect.values if key[1] is Stage.GRADIENT})
    for step in steps:
        recorded, reduced = suspect.stage(step, Stage.LOCAL_GRADIENT), suspect.stage(step, Stage.GRADIENT)
        parts = [local({name: values[i] for name, values in recorded.items()}) for i in range(suspect.replicas)]
        for replica in range(suspect.replicas):
            replayed = reduce(parts, replica)
            for name, values in reduced.items():
                if name not in replayed:
                    return None
                # Parts may cancel, so it is their size that says what rounding can do to their sum.
                scale = max(float(np.abs(part[name]).max(initial=0.0)) for part in parts)
                if distance(replayed[name], values[replica]) > 1e-5 * scale * suspect.replicas + 1e-12:
                    return None
    return Replay(True, (f"reproduces the gradient of {len(steps)} of {len(steps)} steps from the local gradients",))


def _added(parts: list[Gradients]) -> Gradients:
    return {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}


def clipped(gradients: Gradients, options: Mapping[str, Any]) -> Gradients:
    """Gradients clipped by the optimizer's one clipping option: by value, by each one's norm or by the joint norm."""
    if options.get("clipvalue"):
        limit = options["clipvalue"]
        return {name: np.clip(value, -limit, limit) for name, value in gradients.items()}
    if options.get("clipnorm"):
        limit = options["clipnorm"]
        return {n: v * (limit / max(limit, float(np.linalg.norm(v)))) for n, v in gradients.items()}
    limit = options["global_clipnorm"]
    joint = float(np.sqrt(sum(float((value.astype(np.float64) ** 2).sum()) for value in gradients.values())))
    return {name: value * (limit / max(limit, joint)) for name, value in gradients.items()}


def clip_order(context: Context) -> Replay | None:
    """What the update received is the sum of clipped gradients."""
    kinds = [name for name in CLIPPING if context.options.get(name)]
    if not kinds:
        return None
    replay = _reduced(context, lambda part: clipped(part, context.options), lambda parts, _: _added(parts))
    return None if replay is None else Replay(replay.exact, replay.evidence, kinds[0])


def not_reduced(context: Context) -> Replay | None:
    """What a replica's update received is its own gradient."""
    return _reduced(context, dict, lambda parts, replica: parts[replica])


def reduced_twice(context: Context) -> Replay | None:
    """What the update received is as many times the sum as there are replicas."""
    return _reduced(context, dict, lambda parts, _: {n: len(parts) * v for n, v in _added(parts).items()})


def not_trained(context: Context) -> Replay | None:
    """No weight is ever another one than the training was given, and the other arm's weights move."""
    if not stood_still(context.suspect) or stood_still(context.reference):
        return None
    return Replay(True, how(context.suspect))


def frozen_updated(context: Context) -> Replay | None:
    """A weight without a gradient moves, and moves in one of the two arms alone."""
    found = context.difference
    if found.stage is not Stage.WEIGHTS or found.step is None:
        return None
    if any(key[1] is Stage.LOCAL_GRADIENT and key[2] == found.name for key in context.reference.values):
        return None
    kept = [v[0] for k, v in context.reference.values.items() if k[1] is Stage.WEIGHTS and k[2] == found.name]
    if any(not np.array_equal(kept[0], value) for value in kept):
        return None
    return Replay(True, (f"{found.name} is not trainable and changes at step {found.step}",))
