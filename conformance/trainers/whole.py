"""The user's whole loop, called once: nothing of ours drives it, so everything is read off what it calls.

A step ends where the optimizer's `apply` does, in whatever graph that is, or, where weights are updated in another way,
before the next forward pass. Its batch and outputs are those of the model's call under a tape, its targets, sample
weights and loss those of the given loss. A loop that makes several backward passes before one update has the first one
recorded, the gradients it hands on, and the number of passes; passes over parts of its batch are recorded as one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from conformance.data import Arrays, epoch_dataset
from conformance.errors import UnsupportedError
from conformance.trainers import reports
from conformance.trainers.calling import call_parameters, watched_callbacks
from conformance.trainers.forms import ARRAYS, Loop
from conformance.trainers.given_loss import watched_loss
from conformance.trainers.timed import timed
from conformance.trainers.touched import unmoved, watching
from conformance.training import Logbook, Run, Setup


def prepare(setup: Setup, loop: Loop) -> Run:
    """Give the function that calls the user's loop.

    Raises:
        UnsupportedError: when the loop cannot be run like this.
    """
    if setup.execution == "xla":
        raise UnsupportedError(f"xla: {loop.name} is called as it is, and compiles itself or not; leave xla out")
    replicas = setup.strategy.num_replicas_in_sync
    if replicas > 1 and "strategy" not in loop.parameters:
        raise UnsupportedError(
            f"mirrored:{replicas}: {loop.name} cannot distribute without a strategy; take `strategy` as a parameter"
        )
    recorder = setup.recorder
    recorder.in_step = True
    recorder.watch_optimizer()
    recorder.watch_calls(batch=True)
    loss_fn = watched_loss(setup)

    def run(data: Arrays, logbook: Logbook) -> None:
        durations: list[float] = []
        before, returned = recorder.weights(), None
        callbacks = watched_callbacks(setup) if "callbacks" in loop.parameters else []
        for callback in callbacks:
            callback.set_model(setup.model)
            callback.set_params(call_parameters(setup))
        if callbacks:
            setup.model.stop_training = False
        with watching(setup, loop), setup.scope(), functions_run(eagerly=setup.execution == "eager"):
            given = {**_parts(setup), **_data(setup, loop, data, durations)}
            returned = loop.call({"loss_fn": loss_fn, "callbacks": callbacks, **given})
        recorder.settle(last=True)
        stopped = bool(callbacks and setup.model.stop_training)
        if stopped:
            recorder.stopped_early()
        if not recorder.ended():
            # It trains nothing, and is told that, or what it trains nobody saw.
            if unmoved(before, recorder.weights()):
                return
            raise UnsupportedError(
                f"{loop.name} trains and never calls the model it was given under a tf.GradientTape, so its steps"
                " cannot be told apart; call model(x, training=True) there, or give a train_step(model, optimizer,"
                " loss_fn, x, y) instead"
            )
        if len(durations) == recorder.ended():
            # Whoever also counts the batches, or makes others of them, takes no step for each.
            logbook.durations = durations
        reports.note(setup, loop.name, data, returned, recorder.ended(), logbook, stopped=stopped)

    return run


@contextlib.contextmanager
def functions_run(*, eagerly: bool) -> Iterator[None]:
    """Run every `tf.function` eagerly, or leave it as it is, and put back what was set."""
    import tensorflow as tf

    was = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(eagerly or was)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(was)


def _parts(setup: Setup) -> dict[str, Any]:
    training = setup.training
    validation = training.validation
    return {
        "model": setup.model,
        "optimizer": setup.optimizer,
        "strategy": setup.strategy,
        "epochs": training.epochs,
        "batch_size": training.batch_size,
        "class_weight": None if training.class_weight is None else dict(training.class_weight),
        "validation_data": None if validation is None else validation.given(),
    }


def _data(setup: Setup, loop: Loop, data: Arrays, durations: list[float]) -> dict[str, Any]:
    training = setup.training
    if loop.form != ARRAYS:
        return {"dataset": timed(epoch_dataset(data, training.batch_size, training.feed), durations)}
    if "class_weight" not in loop.parameters:
        data = data.class_weighted(training.class_weight)
    x, y, sample_weight = (*data.structure(), None)[:3]
    return {"x": x, "y": y, "sample_weight": sample_weight}
