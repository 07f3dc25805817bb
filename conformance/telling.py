"""How a difference of two arms is told: seen, wanted and where."""

from __future__ import annotations

import math

from conformance.compare import Difference
from conformance.square import Found
from conformance.stage import FINAL
from conformance.training import Training
from conformance.verdict import (
    Divergence,
)


def divergence(found: Found, subject: Training) -> Divergence:
    """A difference in the form of the contract."""
    difference = found.difference
    step = None if difference.step in (None, FINAL) else difference.step
    return Divergence(
        arms=(str(found.suspect), str(found.reference)),
        axis=found.axis,
        step=step,
        epoch=difference.epoch,
        stage=difference.stage,
        variable=difference.name,
        magnitude=difference.magnitude,
        allowed=difference.allowed,
        ulps=difference.ulps,
        ratio=difference.ratio,
        message=message(found, subject),
    )


def message(found: Found, subject: Training) -> str:
    """Seen, wanted and where, in one line."""
    difference = found.difference
    where = f"[{found.suspect} against {found.reference}]"
    if difference.note:
        return f"{difference.note} {where}"
    if difference.step == FINAL:
        when = "after training"
    elif difference.step is not None:
        when = f"step {difference.step}"
    else:
        when = f"epoch {difference.epoch}"
    # A constant that reads as 1 says nothing that the amount does not.
    same = difference.ratio is None or f"{difference.ratio:.6g}" == "1"
    ratio = "" if same else f" = {difference.ratio:.6g} x the other's"
    ulps = "" if difference.ulps is None or difference.ulps > 1_000 else f", {difference.ulps} ulp"
    if not math.isfinite(difference.magnitude):
        return f"{difference.stage.value}[{when}] {difference.name}: {incomparable(difference)} {where}"
    allowed = "the same bits are due" if difference.allowed == 0 else f"allowed {difference.allowed:.2g}"
    return (
        f"{difference.stage.value}[{when}] {difference.name}{ratio}: off by {difference.magnitude:.4g}{ulps}"
        f" ({allowed}) {where}"
    )


def incomparable(difference: Difference) -> str:
    """What keeps two values from being so and so far apart."""
    seen, wanted = difference.seen, difference.wanted
    if seen is not None and wanted is not None and seen.shape != wanted.shape:
        return f"of shape {seen.shape} in the one, of shape {wanted.shape} in the other"
    return "finite in the one where it is infinite or no number in the other"
