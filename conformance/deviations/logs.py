"""Deviations in what is reported of a step and of an epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from conformance.compare import Difference
from conformance.data import Array
from conformance.deviations.batches import sizes_of
from conformance.deviations.changed_cases import vanishes_evenly
from conformance.deviations.context import Context, Replay
from conformance.stage import Stage

ROUNDING_ULPS = 8
"""A report so few units in the last place apart is the same mean, added up another way."""


def _reported_loss(context: Context, mean: Callable[[Array, Array], float]) -> Replay | None:
    """Whether every loss that the suspect reports under that name is `mean` of (the epoch's losses so far, rows)."""
    found, suspect = context.difference, context.suspect
    if found.stage is not Stage.LOGS or not found.name.endswith("loss"):
        return None
    epochs = 1 + max((epoch for epoch, _ in suspect.epoch_logs), default=0)
    sizes = np.array(sizes_of(suspect), dtype=np.float64)
    steps = len(sizes) // epochs
    losses = _step_losses(context, found.name, sizes, steps)
    if losses is None or not steps or _is_rounding(found):
        return None
    reported = {(step, True): value for (step, name), value in suspect.logs.items() if name == found.name}
    reported |= {
        ((epoch + 1) * steps - 1, False): value
        for (epoch, name), value in suspect.epoch_logs.items()
        if name == found.name
    }
    for (step, _), value in reported.items():
        part = slice(step - step % steps, step + 1)
        replayed = mean(losses[part], sizes[part])
        if abs(replayed - value) > 1e-5 * max(abs(value), abs(replayed)):
            return None
    feature = "" if found.name == "loss" else "output_loss"
    return Replay(True, (f"reproduces {len(reported)} of {len(reported)} reports of {found.name}",), feature)


def _is_rounding(found: Difference) -> bool:
    return found.ulps is not None and found.ulps <= ROUNDING_ULPS


def rounded(context: Context) -> Replay | None:
    """A report is off by a few units in the last place, and nothing before it is."""
    found = context.difference
    if found.stage is not Stage.LOGS or not _is_rounding(found):
        return None
    feature = "output_loss" if found.name.endswith("_loss") else ""
    return Replay(True, (f"{found.ulps} units in the last place, in what is reported alone",), feature)


def _step_losses(context: Context, name: str, sizes: Array, steps: int) -> Array | None:
    """The loss of every batch: as recorded, or, of one output, taken back out of the running means of the other arm."""
    if name == "loss":
        keys = [(step, Stage.LOSS, "loss") for step in range(len(sizes))]
        if any(key not in context.suspect.values for key in keys):
            return None
        return np.array([float(context.suspect.merged(key)) for key in keys])
    running = [context.reference.logs.get((step, name)) for step in range(len(sizes))]
    if not running or None in running:
        return None
    losses: list[float] = []
    for step, mean in enumerate(running):
        first = step - step % steps
        before = sum(losses[i] * sizes[i] for i in range(first, step))
        losses.append((float(mean or 0.0) * sizes[first : step + 1].sum() - before) / sizes[step])
    return np.array(losses)


def reported_by_replicas(context: Context) -> Replay | None:
    """Whether every reported loss is the mean over the replicas of each one's running mean, weighted by its rows."""
    found, suspect = context.difference, context.suspect
    if found.stage is not Stage.LOGS or found.name != "loss" or suspect.replicas < 2:
        return None
    epochs = 1 + max((epoch for epoch, _ in suspect.epoch_logs), default=0)
    steps = suspect.steps // epochs
    if not steps:
        return None
    shares = [suspect.values.get((step, Stage.LOSS, "loss")) for step in range(suspect.steps)]
    rows = [context.rows(step) for step in range(suspect.steps)]
    if any(share is None or not count for share, count in zip(shares, rows, strict=True)):
        return None
    losses = suspect.replicas * np.array([[float(value) for value in share or ()] for share in shares])
    counts = np.array(rows, dtype=np.float64)
    checked = 0
    for (step, name), value in suspect.logs.items():
        part = slice(step - step % steps, step + 1)
        held = counts[part].sum(axis=0)
        own = np.divide((losses[part] * counts[part]).sum(axis=0), held, where=held > 0, out=np.zeros_like(held))
        if name == "loss" and abs(float(own.mean()) - value) > 1e-5 * max(abs(value), 1e-6):
            return None
        checked += name == "loss"
    for (epoch, name), value in suspect.epoch_logs.items():
        part = slice(epoch * steps, (epoch + 1) * steps)
        whole = float((losses[part] * counts[part]).sum() / counts[part].sum())
        if name == "loss" and abs(whole - value) > 1e-5 * max(abs(value), 1e-6):
            return None
        checked += name == "loss"
    return Replay(True, (f"reproduces {checked} of {checked} reports of the loss",)) if checked else None


def reported_unevenly(context: Context) -> Replay | None:
    """Reports of uneven replicas agree once every batch splits evenly."""
    if context.difference.stage is not Stage.LOGS or context.suspect.replicas < 2 or context.axis == "trainer":
        return None
    return vanishes_evenly(context)


def unweighted(context: Context) -> Replay | None:
    """Every report is the plain mean over the epoch's batches so far."""
    return _reported_loss(context, lambda losses, sizes: float(losses.mean()))


def last_batch(context: Context) -> Replay | None:
    """Every report is the loss of one batch."""
    return _reported_loss(context, lambda losses, sizes: float(losses[-1]))
