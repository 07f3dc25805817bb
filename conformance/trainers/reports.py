"""What a whole loop returns, as what it reports: `fit`'s `History`, made of whatever people return.

A list with one number an epoch is reported as it is. One with a number a step is reported as `fit` reports steps, as
the mean over the epoch's rows so far, for that is what it is held against.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from conformance.data import Arrays
from conformance.errors import UnsupportedError
from conformance.training import Logbook, Setup

RETURNS = "return one loss an epoch or a step, a dictionary of such lists by the names that fit reports, or None"


def note(
    setup: Setup, loop: str, data: Arrays, returned: Any, ran: int, logbook: Logbook, *, stopped: bool = False
) -> None:
    """Note what a loop returned.

    Args:
        setup: the arm.
        loop: the loop's name, for messages.
        data: the rows it trained on.
        returned: a list, an array or a tensor of losses; a dictionary of them by name; a `History`; or None.
        ran: how many steps were recorded.
        logbook: takes the notes.
        stopped: whether a callback has ended the training, so that no more epochs are due than were begun.

    Raises:
        UnsupportedError: when it is nothing of that, or has another length.
    """
    training = setup.training
    epochs, steps = training.epochs, training.steps
    if stopped:
        epochs, steps = math.ceil(ran / training.steps_per_epoch), ran
    for key, values in _named(getattr(returned, "history", returned)).items():
        name = setup.recorder.log_name(key)
        numbers = _numbers(loop, name, values)
        if len(numbers) == epochs * _each(values) > epochs and len(numbers) not in (steps, ran):
            for epoch, item in enumerate(values):
                logbook.epoch(epoch, {name: item})
        elif len(numbers) == epochs:
            for epoch, number in enumerate(numbers):
                logbook.epoch(epoch, {name: number})
        elif len(numbers) == steps:
            # Under replicas fit reports the mean of what the replicas saw, which no loop is asked to.
            if setup.strategy.num_replicas_in_sync == 1:
                _steps(name, numbers, data, training.batch_size, logbook)
        elif len(numbers) != ran:
            # One a step of a loop that dropped some is no fault of the report: the steps tell.
            raise UnsupportedError(
                f"{loop} returned {len(numbers)} of {name} for {epochs} epochs of"
                f" {training.steps_per_epoch} steps; {RETURNS}"
            )


def _named(returned: Any) -> Mapping[str, Any]:
    if returned is None:
        return {}
    return returned if isinstance(returned, Mapping) else {"loss": returned}


def _numbers(loop: str, name: str, values: Any) -> list[float]:
    try:
        items = list(values) if isinstance(values, list | tuple) else [values]
        return [float(number) for item in items for number in np.atleast_1d(np.asarray(item, np.float64))]
    except (TypeError, ValueError, NotImplementedError) as error:
        kind = type(values).__name__
        raise UnsupportedError(f"{loop} returned {name} as {kind}, which holds no numbers; {RETURNS}") from error


def _each(values: Any) -> int:
    """How many numbers each of several items holds, as a metric has of several classes; 1 where they are not alike."""
    sizes = {np.size(item) for item in values} if isinstance(values, list | tuple) else set[int]()
    return sizes.pop() if len(sizes) == 1 else 1


def _steps(name: str, numbers: list[float], data: Arrays, batch_size: int, logbook: Logbook) -> None:
    import keras

    mean = keras.metrics.Mean()
    starts = range(0, data.rows, batch_size)
    for step, number in enumerate(numbers):
        start = starts[step % len(starts)]
        if start == 0:
            mean.reset_state()
        mean.update_state(number, sample_weight=min(batch_size, data.rows - start))
        logbook.step(step, {name: mean.result()})
