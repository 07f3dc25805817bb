"""The trainers: one entry each, from an arm's objects to a function that trains."""

from __future__ import annotations

from collections.abc import Callable

from conformance.trainers import fit, loop, on_batch, trial
from conformance.training import Run, Setup

Prepare = Callable[[Setup], Run]
"""Compiles and watches an arm's objects and gives the function that trains."""

TRAINERS: dict[str, Prepare] = {
    "fit": fit.prepare,
    "loop": loop.prepare,
    "train_on_batch": on_batch.prepare,
    "trial": trial.prepare,
}
