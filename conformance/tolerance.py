"""How far apart two correct arms may be, where the same bits are not due.

The key idea is that the case itself says it. The reference arm is run again with everything it starts from moved by
one ulp (rows, weights, statistics, slots, learning rate), the smallest difference that two correct roundings can make,
several times; how far its quantities then spread, step by
step and variable by variable, is how much rounding matters there. A bias in front of a BatchNormalization, whose
gradient is rounding noise that Adam turns into real steps, spreads widely and is judged loosely; everything else in
the same case stays sharp.

The spread is multiplied by `SAFETY` and added to a floor of `FLOOR` units in the last place of the quantity's largest
element, for a perturbation of the inputs need not reach every rounding inside.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from conformance.build import perturbed
from conformance.data import Array, Arrays
from conformance.prepare import PreparedArm
from conformance.stage import Stage
from conformance.trace import Trace

SAFETY = 16.0
FLOOR = 16.0
FIRST, MORE = 3, 16
"""Perturbed runs to begin with, and those added before a divergence is believed."""

Key = tuple[int, Stage, str]


class Allowance:
    """What rounding explains, for each quantity of a case.

    Args:
        reference: the prepared arm whose spread is measured.
        trace: its unperturbed trace.
    """

    def __init__(self, reference: PreparedArm, trace: Trace) -> None:
        self._reference, self._trace = reference, trace
        self._spread: dict[Key, float] = {}
        self._log_spread: dict[tuple[str, int, str], float] = {}
        self._rng = np.random.default_rng(0)
        self.runs = 0

    def measure(self, runs: int) -> None:
        """Measure the spread over that many runs in all; runs made before count."""
        while self.runs < runs:
            self.runs += 1
            moved = self._reference.run(self._moved_rows(), moved=self._rng)
            if moved.error is not None:
                continue
            for key in self._trace.values:
                if key in moved.values:
                    self._widen(self._spread, key, distance(self._trace.merged(key), moved.merged(key)))
            for kind, logs, others in (
                ("step", self._trace.logs, moved.logs),
                ("epoch", self._trace.epoch_logs, moved.epoch_logs),
            ):
                for (when, name), value in logs.items():
                    if (when, name) in others:
                        self._widen(self._log_spread, (kind, when, name), abs(value - others[when, name]))

    def _moved_rows(self) -> Arrays:
        rows, precision = self._reference.training.data, self._reference.training.rounding
        # Targets and sample weights stay: labels are exact, and a moved one-hot row is no longer a label.
        return replace(rows, x=tuple(perturbed(array, self._rng, precision) for array in rows.x))

    @staticmethod
    def _widen(spread: dict[Any, float], key: Any, seen: float) -> None:
        if np.isfinite(seen):
            spread[key] = max(spread.get(key, 0.0), seen)

    def of(self, key: Key, value: Array) -> float:
        """The largest difference allowed for a quantity whose reference value is given."""
        return SAFETY * self._spread.get(key, 0.0) + FLOOR * ulp(value)

    def of_log(self, kind: str, when: int, name: str, value: float) -> float:
        """The largest difference allowed for something reported after a `step` or an `epoch`."""
        return SAFETY * self._log_spread.get((kind, when, name), 0.0) + FLOOR * ulp(np.float32(value))


def ulp(value: Array | np.float32) -> float:
    """One unit in the last place of the largest finite element; 0 for what is no float."""
    array = np.asarray(value)
    if array.dtype.kind != "f" or not array.size:
        return 0.0
    finite = np.abs(array[np.isfinite(array)])
    return float(np.spacing(finite.max())) if finite.size else 0.0


def distance(first: Array, second: Array) -> float:
    """The largest absolute difference; infinite where shapes differ or only one is NaN or infinite.

    Args:
        first: any array.
        second: one of the same shape, or it is infinitely far.
    """
    if first.shape != second.shape:
        return float("inf")
    if not first.size:
        return 0.0
    a, b = first.astype(np.float64), second.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(a - b))
    return float("inf") if np.isnan(apart).any() else float(apart.max())


def constant_ratio(seen: Array, wanted: Array, allowed: float) -> float | None:
    """The constant c other than 1 with seen = c x wanted, within the allowance and a part in a million; or None."""
    if seen.shape != wanted.shape or not seen.size or seen.dtype.kind != "f":
        return None
    a, b = seen.astype(np.float64), wanted.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    total = float((b * b).sum())
    if total == 0.0:
        return None
    ratio = float((a * b).sum()) / total
    residual = np.abs(a - ratio * b).max()
    scale = max(float(np.abs(a).max()), float(np.abs(b).max()))
    if residual > max(1e-6 * scale, 2 * allowed) or abs(ratio - 1) * scale <= max(4 * residual, 2 * allowed):
        return None
    return ratio
