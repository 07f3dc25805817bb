"""Deviations in the replicas' shares of a loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from conformance.deviations.context import Context, Replay
from conformance.stage import Stage
from conformance.tolerance import distance


def _shares(context: Context, factor: Callable[[int, int, int], float]) -> Replay | None:
    """Whether the replicas' shares, each times `factor(its rows, all rows, replicas)`, add up to the reference's."""
    found, step = context.difference, context.difference.step
    if context.suspect.replicas < 2 or step is None or found.stage not in (Stage.LOSS, Stage.LOCAL_GRADIENT):
        return None
    rows = context.rows(step)
    total = sum(rows)
    if not total:
        return None
    factors = [factor(count, total, len(rows)) for count in rows]
    checked = 0
    for stage in (Stage.LOSS, Stage.LOCAL_GRADIENT):
        for name, parts in context.suspect.stage(step, stage).items():
            key = (step, stage, name)
            if key not in context.reference.values:
                return None
            replayed = sum(f * part.astype(np.float64) for f, part in zip(factors, parts, strict=True))
            if not context.matches(key, np.asarray(replayed), context.reference.merged(key)):
                return None
            checked += 1
    if not checked:
        return None
    told = ", ".join(f"{count} x {value:.4g}" for count, value in zip(rows, factors, strict=True))
    line = f"step {step}: the replicas' shares times (rows x factor: {told}) add up to {context.reference.arm}'s"
    return Replay(step == context.suspect.steps - 1, (f"{line} in {checked} of {checked} quantities",))


def mean_of_means(context: Context) -> Replay | None:
    """The replicas' shares are parts of a mean of their means."""
    rows = context.rows(context.difference.step or 0)
    if len(set(rows)) < 2:
        return None
    return _shares(context, lambda count, total, replicas: count * replicas / total)


def not_scaled(context: Context) -> Replay | None:
    """The replicas' shares are not divided by their number."""
    if context.reference.replicas == context.suspect.replicas:
        return _unscaled_beside(context)
    return _shares(context, lambda count, total, replicas: count / total)


def _unscaled_beside(context: Context) -> Replay | None:
    """The same, beside an arm with as many replicas that does divide: data loss d, regularization r, N replicas.

    One share is d + r and the other d / N + r, so d = (one - other) N / (N - 1), and r = other - d / N has to come out
    the same on every replica, for it does not depend on the rows. With no regularization r is 0 everywhere.
    """
    found, step, count = context.difference, context.difference.step, context.suspect.replicas
    if count < 2 or step is None or found.stage not in (Stage.LOSS, Stage.LOCAL_GRADIENT):
        return None
    checked = 0
    for stage in (Stage.LOSS, Stage.LOCAL_GRADIENT):
        for name, ones in context.suspect.stage(step, stage).items():
            others = context.reference.values.get((step, stage, name))
            if others is None:
                return None
            wide = [(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(ones, others, strict=True)]
            penalties = [b - (a - b) / (count - 1) for a, b in wide]
            scale = max(float(np.abs(a).max(initial=0.0)) for a, _ in wide)
            if any(distance(penalties[0], other) > 1e-5 * scale for other in penalties[1:]):
                return None
            checked += scale > 0
    if not checked:
        return None
    line = f"step {step}: every replica's share less the regularization is {count} times the other arm's"
    return Replay(step == context.suspect.steps - 1, (line,))


def scaled_twice(context: Context) -> Replay | None:
    """The replicas' shares are divided by their number twice."""
    return _shares(context, lambda count, total, replicas: count * replicas**2 / total)


def summed(context: Context) -> Replay | None:
    """The loss is as many times the other as the batch has rows."""
    found, step = context.difference, context.difference.step
    if found.stage is not Stage.LOSS or step is None:
        return None
    rows = sum(context.rows(step))
    key = (step, Stage.LOSS, "loss")
    wanted = context.reference.merged(key).astype(np.float64)
    if rows < 2 or not context.matches(key, rows * wanted, context.suspect.merged(key)):
        return None
    exact = step == context.suspect.steps - 1
    return Replay(exact, (f"step {step}: the loss is {rows} times the other's, and the batch has {rows} rows",))
