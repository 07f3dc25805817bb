"""Deviations in which rows make a batch."""

from __future__ import annotations

import numpy as np

from conformance.deviations.context import Context, Replay
from conformance.stage import Stage
from conformance.trace import Trace


def batches_of(trace: Trace) -> list[bytes]:
    """Every step's batch as bytes."""
    steps = sorted({key[0] for key in trace.values if key[1] is Stage.BATCH})
    return [
        b"|".join(trace.merged((step, Stage.BATCH, name)).tobytes() for name in trace.stage(step, Stage.BATCH))
        for step in steps
    ]


def sizes_of(trace: Trace) -> list[int]:
    """Every step's number of rows."""
    steps = sorted({key[0] for key in trace.values if key[1] is Stage.BATCH})
    return [sum(len(part) for part in next(iter(trace.stage(step, Stage.BATCH).values()))) for step in steps]


def not_split(context: Context) -> Replay | None:
    """Every replica holds the whole batch."""
    step = context.difference.step
    if context.difference.stage is not Stage.BATCH or step is None or context.suspect.replicas < 2:
        return None
    wanted = context.reference.stage(step, Stage.BATCH)
    for name, parts in context.suspect.stage(step, Stage.BATCH).items():
        whole = context.reference.merged((step, Stage.BATCH, name)) if name in wanted else None
        if whole is None or any(not np.array_equal(part, whole) for part in parts):
            return None
    return Replay(True, (f"step {step}: every replica holds all {len(whole) if whole is not None else 0} rows",))


def partial_dropped(context: Context) -> Replay | None:
    """The full batches alone, in order."""
    if context.difference.stage is not Stage.BATCH:
        return None
    sizes = sizes_of(context.reference)
    full = [batch for batch, size in zip(batches_of(context.reference), sizes, strict=True) if size == max(sizes)]
    if len(full) == len(sizes) or batches_of(context.suspect) != full:
        return None
    return Replay(True, (f"trains on the {len(full)} full batches of {len(sizes)}, in order",))


def order_differs(context: Context) -> Replay | None:
    """The same rows in another order."""
    if context.difference.stage is not Stage.BATCH or sizes_of(context.suspect) != sizes_of(context.reference):
        return None
    names = [key[2] for key in context.reference.values if key[:2] == (0, Stage.BATCH)]
    rows = []
    for trace in (context.suspect, context.reference):
        steps = sorted({key[0] for key in trace.values if key[1] is Stage.BATCH})
        columns = [np.concatenate([trace.merged((step, Stage.BATCH, name)) for step in steps]) for name in names]
        rows.append(sorted(b"|".join(c[i].tobytes() for c in columns) for i in range(len(columns[0]))))
    if rows[0] != rows[1]:
        return None
    return Replay(True, (f"the same {len(rows[0])} rows, whole and in another order",))


def batch_skipped(context: Context) -> Replay | None:
    """The batches in order, but for some that are left out."""
    if context.difference.stage is not Stage.BATCH or context.suspect.replicas < 2:
        return None
    wanted, seen = batches_of(context.reference), batches_of(context.suspect)
    steps = len(set(wanted))
    if not seen or steps < 2 or len(wanted) % steps:
        return None
    # A generator goes on where it is: what is skipped moves everything after it forward.
    endless = wanted[:steps] * (len(wanted) // steps + 2)
    for first in range(len(seen)):
        for count in (1, 2, 3):
            if endless[:first] + endless[first + count : len(seen) + count] == seen:
                return Replay(True, (f"trains on the batches in order, but for {count} left out before step {first}",))
    return None


def crosses_epochs(context: Context) -> Replay | None:
    """The batches in order, and more of them than the epochs have."""
    if context.difference.stage is not Stage.BATCH:
        return None
    wanted, seen = batches_of(context.reference), batches_of(context.suspect)
    epochs = 1 + max((epoch for epoch, _ in context.suspect.epoch_logs), default=0)
    if not wanted or len(wanted) % epochs:
        return None
    endless = wanted[: len(wanted) // epochs] * (len(seen) // len(wanted) + 2) * epochs
    if len(seen) <= len(wanted) or seen != endless[: len(seen)]:
        return None
    extra = f"{len(seen) - len(wanted)} or more" if context.suspect.steps > len(seen) else len(seen) - len(wanted)
    return Replay(True, (f"the batches in order, {extra} beyond the {len(wanted)} of {epochs} epoch(s)",))
