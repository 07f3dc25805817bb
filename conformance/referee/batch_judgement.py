"""The batches an arm trained on, held against chapter 1.

Rows are compared as bytes: what was fed is exact, and a deviation from it is another sequence of the same rows, or it
is no deviation that has a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from conformance.data import Array, Arrays
from conformance.referee.batch_clauses import class_weight_of, split
from conformance.referee.departure import Departure, Named
from conformance.referee.reading import Reading
from conformance.stage import Stage

Row = bytes
Batch = list[Row]
"""The rows of one global batch."""


class Batches:
    """What was fed and what was due, step by step, as rows of bytes.

    Args:
        reading: the trace.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.steps = [step for step in reading.steps if reading.has(step, Stage.BATCH)]
        self.parts = self._parts()
        self.seen = {part: [self._fed(step, part) for step in self.steps] for part in self.parts}
        self.due = {part: [_rows(self._wanted(batch, part)) for batch in reading.due] for part in self.parts}

    def _parts(self) -> list[str]:
        """The parts of a batch that were recorded; a loop's own loss may hide targets and weights."""
        names = {key[2].partition("[")[0] for key in self.reading.trace.values if key[1] is Stage.BATCH}
        return [part for part in ("x", "y", "sample_weight") if part in names]

    def _fed(self, step: int, part: str) -> Batch:
        return _rows([np.concatenate(values) for values in self.reading.fed(step, part)])

    def _wanted(self, batch: Arrays, part: str) -> Sequence[Array]:
        if part == "x":
            return batch.x
        if part == "y":
            return batch.y
        weights = batch.sample_weight
        classes = self.reading.training.class_weight
        if classes and self.reading.trace.arm.trainer != "trial":
            weight = class_weight_of(batch.y[0], classes)
            return (weight,) if weights is None else tuple(item * weight for item in weights)
        return weights or ()

    def whole(self, which: dict[str, list[Batch]]) -> list[Batch]:
        """Every batch with all its recorded parts in each row."""
        steps = range(min((len(batches) for batches in which.values()), default=0))
        return [
            [b"|".join(parts) for parts in zip(*(which[part][step] for part in self.parts), strict=False)]
            for step in steps
        ]


def _rows(arrays: Sequence[Array]) -> Batch:
    if not arrays:
        return []
    return [b"|".join(np.ascontiguousarray(array[i]).tobytes() for array in arrays) for i in range(len(arrays[0]))]


def judge_batches(reading: Reading) -> tuple[Departure | None, int]:
    """The departure of what was fed from what was due, or None; and how many batches were compared."""
    batches = Batches(reading)
    if not batches.parts:
        return None, 0
    seen, due = batches.whole(batches.seen), batches.whole(batches.due)
    if seen == due:
        return _split(reading, batches), len(due)
    # Weights that are due and were not seen are the loss's affair where the rows are the same.
    same = [one == other for one, other in zip(seen, due, strict=False)]
    step = same.index(False) if False in same else len(same)
    causes = tuple(_causes(batches, seen, due))
    sizes = [np.array(len(items[step]) if step < len(items) else 0, np.float32) for items in (seen, due)]
    return Departure(Stage.BATCH, step, "rows", sizes[0], sizes[1], np.inf, 0.0, causes[:1]), len(due)


def _split(reading: Reading, batches: Batches) -> Departure | None:
    """Whether each global batch was split as evenly as whole rows allow."""
    for step in batches.steps:
        held = reading.rows(step)
        if held != split(sum(held), reading.replicas):
            wanted = np.array(split(sum(held), reading.replicas), np.float32)
            return Departure(Stage.BATCH, step, "rows of a replica", np.array(held, np.float32), wanted, np.inf, 0.0)
    return None


def _causes(batches: Batches, seen: list[Batch], due: list[Batch]) -> Iterator[Named]:
    for name, looks in _LOOKS.items():
        told = looks(batches, seen, due)
        if told:
            yield Named(name, True, (told,))


def _not_split(batches: Batches, seen: list[Batch], due: list[Batch]) -> str:
    count = batches.reading.replicas
    if count < 2 or len(seen) != len(due) or any(s != d * count for s, d in zip(seen, due, strict=True)):
        return ""
    return f"every replica holds all rows of the batch, at {len(seen)} of {len(seen)} steps"


def _dropped(batches: Batches, seen: list[Batch], due: list[Batch]) -> str:
    full = [batch for batch in due if len(batch) == batches.reading.batch_size]
    if len(full) == len(due) or seen != full:
        return ""
    return f"trains on the {len(full)} full batches of {len(due)}, in order"


def _other_size(batches: Batches, seen: list[Batch], due: list[Batch]) -> str:
    size, replicas = batches.reading.batch_size, batches.reading.replicas
    epochs = batches.reading.training.epochs
    for other in (size * replicas, -(-size // replicas), size // replicas):
        rows = [row for batch in due for row in batch]
        rows = rows[: len(rows) // epochs]
        if other in (0, size):
            continue
        batched = [rows[start : start + other] for start in range(0, len(rows), other)] * epochs
        # Of steps too many the first are known.
        if seen and seen == batched[: len(due) if len(batched) > len(due) else None]:
            return f"trains on batches of {other} rows in the place of {size}"
    return ""


def _crossing(batches: Batches, seen: list[Batch], due: list[Batch]) -> str:
    size, epochs = batches.reading.batch_size, batches.reading.training.epochs
    rows = [row for batch in due for row in batch]
    endless = [rows[start : start + size] for start in range(0, len(rows), size)]
    if seen == endless or (seen and seen == [b for b in endless if len(b) == size]):
        return f"batches of {size} rows over the {epochs} epochs as one: {len(seen)} steps in the place of {len(due)}"
    epoch = due[: len(due) // epochs]
    longer = epoch * (len(seen) // max(len(epoch), 1) + 1)
    if len(seen) > len(due) and seen == longer[: len(seen)]:
        return f"the batches in order, {len(seen) - len(due)} beyond the {len(due)} of {epochs} epoch(s)"
    rows = rows[: len(rows) // epochs]
    full = len(rows) // size
    if len(seen) == full * epochs and len(seen) % len(epoch) and seen == due[: len(seen)]:
        return f"the batches in order, {full} an epoch in the place of {len(epoch)}: the next one goes on with the rest"
    endless = [[rows[i % len(rows)] for i in range(start, start + size)] for start in range(0, len(seen) * size, size)]
    if seen and seen == endless:
        return f"batches of {size} rows without an end, {len(seen)} of them in the place of {len(due)}"
    return ""


def _skipping(batches: Batches, seen: list[Batch], due: list[Batch]) -> str:
    epoch = due[: len(due) // batches.reading.training.epochs]
    if not seen or len(epoch) < 2:
        return ""
    # A generator goes on where it is: what is skipped moves everything after it forward.
    endless = epoch * (len(due) // len(epoch) + 2)
    if seen == endless[: len(seen)]:
        return ""
    for first in range(len(seen)):
        for count in (1, 2, 3):
            if endless[:first] + endless[first + count : len(seen) + count] == seen:
                return f"trains on the batches in order, but for {count} left out before step {first}"
    return ""


def _misaligned(batches: Batches, seen: list[Batch], due: list[Batch]) -> str:
    if "y" not in batches.parts:
        return ""
    flat = {
        which: {part: [row for batch in rows[part] for row in batch] for part in ("x", "y")}
        for which, rows in (("seen", batches.seen), ("due", batches.due))
    }
    # Targets that are moved by a row may leave one of them out and have another twice.
    if sorted(flat["seen"]["x"]) != sorted(flat["due"]["x"]) or not set(flat["seen"]["y"]) <= set(flat["due"]["y"]):
        return ""
    pairs = [sorted(zip(flat[which]["x"], flat[which]["y"], strict=True)) for which in ("seen", "due")]
    return "" if pairs[0] == pairs[1] else "the same inputs, paired with other targets of the data"


def _reordered(batches: Batches, seen: list[Batch], due: list[Batch]) -> str:
    if [len(batch) for batch in seen] != [len(batch) for batch in due]:
        return ""
    rows = [sorted(row for batch in which for row in batch) for which in (seen, due)]
    return f"the same {len(rows[0])} rows, whole and in another order" if rows[0] == rows[1] else ""


_LOOKS: dict[str, Callable[[Batches, list[Batch], list[Batch]], str]] = {
    "replica_data_not_split": _not_split,
    "partial_batch_dropped": _dropped,
    "replica_batch_size": _other_size,
    "batches_cross_epochs": _crossing,
    "data_order_differs": _reordered,
    "inputs_and_targets_misaligned": _misaligned,
    "batch_skipped": _skipping,
}
"""By the name of a cause the look that tells whether it reproduces the sequence of batches, and how."""
