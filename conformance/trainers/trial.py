"""The user's own loop, unedited.

A step of any subset of `model`, `optimizer`, `loss_fn`, `x`, `y`, `sample_weight` is called once a batch by the same
driver as the reference loop, so whatever differs is the step's. What it does is read off its optimizer, its model's
calls and its return value.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

from conformance.errors import UnsupportedError, UsageError
from conformance.trainers.loop import as_loss, drive, loss_function
from conformance.training import Run, Setup

STEP_PARAMETERS = ("model", "optimizer", "loss_fn", "x", "y", "sample_weight")


def check_signature(step: Callable[..., Any]) -> tuple[str, ...]:
    """The parameters a step is called with.

    Raises:
        UsageError: when it is not callable, or its parameters are not those of a step.
    """
    if not callable(step):
        raise UsageError(f"{step!r} is not a function; give a train_step({', '.join(STEP_PARAMETERS)})")
    parameters = inspect.signature(step).parameters
    required = [name for name, p in parameters.items() if p.default is p.empty]
    unknown = [name for name in required if name not in STEP_PARAMETERS]
    if unknown or "x" not in parameters:
        raise UsageError(
            f"{getattr(step, '__name__', step)}({', '.join(parameters)}) is not a training step: its parameters"
            f" should be among {', '.join(STEP_PARAMETERS)}, with x"
        )
    return tuple(name for name in STEP_PARAMETERS if name in parameters)


def prepare(setup: Setup) -> Run:
    """Give the function that trains with the user's step."""
    import tensorflow as tf

    trial = setup.training.trial
    assert trial is not None
    names = check_signature(trial)
    if len(setup.losses) == 1:
        (loss,) = setup.losses
        # A name means the reduced loss, as in `compile`; what the user wrote stays what the user wrote.
        loss_fn: Any = as_loss(loss) if isinstance(loss, str) else loss
    else:
        total = loss_function(setup.losses, setup.training.parts.loss_weights)

        def loss_fn(y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
            return total(y_true, y_pred, sample_weight)

    # Replicas take turns in the middle of a step, each in its thread.
    replica = threading.local()
    call = setup.model.call

    def watched_call(*args: Any, **kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        if getattr(replica, "outputs", None) is None:
            replica.outputs = result
        return result

    setup.model.call = watched_call

    def step(x: Any, y: Any, sample_weight: Any) -> Any:
        replica.outputs = None
        given = {"model": setup.model, "optimizer": setup.optimizer, "loss_fn": loss_fn}
        given |= {"x": x, "y": y, "sample_weight": sample_weight}
        result = trial(**{name: given[name] for name in names})
        loss = result[0] if isinstance(result, tuple | list) and result else result
        loss = tf.convert_to_tensor(loss) if loss is not None else None
        return loss, replica.outputs, []

    train = drive(setup, step)

    def run(data: Any, logbook: Any) -> None:
        train(data, logbook)
        if not setup.recorder.applied:
            raise UnsupportedError(
                f"{getattr(trial, '__name__', trial)} never called the optimizer it was given, so its updates cannot"
                " be watched; take `optimizer` as a parameter and call optimizer.apply(gradients, variables)"
            )

    return run
