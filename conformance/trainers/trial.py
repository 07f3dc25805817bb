"""The user's own loop, unedited, in any of its forms.

A step of any subset of `model`, `optimizer`, `loss_fn`, `x`, `y`, `sample_weight` is called once a batch by the same
driver as the reference loop, so whatever differs is the step's. What it does is read off its optimizer, its model's
calls and its return value: a loss, `(loss, ...)`, a dictionary with `loss`, or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.data import Arrays
from conformance.errors import UnsupportedError
from conformance.trainers import whole
from conformance.trainers.calling import compile_for_callbacks
from conformance.trainers.fit import compile_with_own
from conformance.trainers.forms import STEP, Loop, loop_of
from conformance.trainers.given_loss import given_loss
from conformance.trainers.loop import drive
from conformance.trainers.touched import watching
from conformance.training import Logbook, Run, Setup

PYTHON_ONLY = ("fit", "evaluate", "predict", "train_on_batch", "test_on_batch", "predict_on_batch")
"""What a model does in Python alone: in a graph or on a replica, Keras fails in ways that name none of them."""


def prepare(setup: Setup) -> Run:
    """Give the function that trains with the user's loop."""
    trial = setup.training.trial
    assert trial is not None
    loop = loop_of(trial)
    if setup.training.parts.compile is not None:
        held = compile_with_own(setup, setup.training.parts.compile)
        return _prepare_step(setup, loop, setup.model.optimizer if setup.training.parts.single else held)
    compile_for_callbacks(setup)
    if not setup.optimizer.built:
        # A compiled step of a user's is one function for all arms, and TensorFlow lets a function make variables in its
        # first call alone; across replicas it lets none.
        with setup.scope():
            setup.optimizer.build(setup.model.trainable_variables)
            setup.recorder.update_frozen(setup.training.parts.optimizer())
    setup.recorder.watch_assignments()
    return _prepare_step(setup, loop, setup.optimizer) if loop.form == STEP else whole.prepare(setup, loop)


def _prepare_step(setup: Setup, loop: Loop, optimizer: Any) -> Run:
    import tensorflow as tf

    recorder, weights = setup.recorder, setup.training.class_weight
    if setup.strategy.num_replicas_in_sync > 1:
        # TensorFlow applies no optimizer in a function inside of a replica's; the driver compiles the whole step.
        loop = Loop(getattr(loop.function, "python_function", loop.function), loop.form, loop.parameters)
    given = {
        "model": setup.model,
        "optimizer": optimizer,
        "loss_fn": given_loss(setup),
        "class_weight": None if weights is None else dict(weights),
    }
    # As sample weights for a step that takes those; any other knows of the classes by itself, or is found out.
    class_weighted = "sample_weight" in loop.parameters and "class_weight" not in loop.parameters
    _guard(setup, loop)
    if not recorder.opaque:
        recorder.watch_calls(untaped=True)

    def step(x: Any, y: Any, sample_weight: Any) -> Any:
        rows = tf.shape(tf.nest.flatten(x)[0])[0]
        returned = loop.call(given | {"x": x, "y": y, "sample_weight": sample_weight})
        if recorder.opaque:
            return None, None, []
        loss = _loss(returned)
        return loss, recorder.recorded_outputs(rows), []

    train = drive(setup, step, trial=True, class_weighted=class_weighted)

    def run(data: Arrays, logbook: Logbook) -> None:
        with watching(setup, loop), whole.functions_run(eagerly=setup.execution == "eager"):
            train(data, logbook)

    return run


def _loss(returned: Any) -> Any:
    import tensorflow as tf

    if isinstance(returned, Mapping):
        returned = returned.get("loss")
    elif isinstance(returned, tuple | list):
        returned = returned[0] if returned else None
    return None if returned is None else tf.convert_to_tensor(returned)


def _guard(setup: Setup, loop: Loop) -> None:
    """Say at once what a step cannot call where it is."""
    import tensorflow as tf

    def guarded(name: str) -> Any:
        method = getattr(setup.model, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if not tf.executing_eagerly() or setup.strategy.num_replicas_in_sync > 1:
                raise UnsupportedError(
                    f"{loop.name} calls model.{name}, which runs in Python alone, not in a compiled or distributed"
                    " step; ask for executions=('eager',) on one device, or give a train(...) instead"
                )
            return method(*args, **kwargs)

        return call

    for name in PYTHON_ONLY:
        setattr(setup.model, name, guarded(name))
