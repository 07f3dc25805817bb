"""The custom loop of the TensorFlow guide: `GradientTape`, `strategy.run` and the Keras optimizer.

`train_step` is what a careful user writes, and meant to be read as such. Under a strategy every replica computes its
share of the global loss: Keras's loss objects divide by the number of replicas by themselves, everything else (a
function that returns a scalar, the regularization losses) the loop divides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.data import Arrays
from conformance.errors import UnsupportedError
from conformance.trainers.calling import Calling, compile_for_callbacks
from conformance.trainers.driving import compile_step, distributed
from conformance.trainers.evaluation import evaluation
from conformance.trainers.losses import LossFunction, loss_function, with_penalties
from conformance.trainers.shares import with_shares
from conformance.trainers.tally import Tally
from conformance.training import Logbook, Run, Setup


def train_step(model: Any, optimizer: Any, loss_fn: LossFunction, x: Any, y: Any, sample_weight: Any) -> Any:
    """One step on this replica's part of the batch.

    Args:
        model: the model.
        optimizer: the optimizer.
        loss_fn: (targets, outputs, sample weights) to this replica's share of the loss.
        x: inputs, (rows of this replica, ...).
        y: targets.
        sample_weight: a weight a row, or None.

    Returns:
        This replica's share of the loss, and the outputs.
    """
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = model(x, training=True)
        loss = with_penalties(model, loss_fn(y, outputs, sample_weight))
        # Against gradients that vanish in float16; an optimizer that scales no loss gives it back.
        scaled = optimizer.scale_loss(loss)
    gradients = tape.gradient(scaled, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)
    return loss, outputs


def prepare(setup: Setup) -> Run:
    """Give the function that trains with `train_step`."""
    compile_for_callbacks(setup)
    if setup.strategy.num_replicas_in_sync > 1 and not setup.optimizer.built:
        # As fit does: TensorFlow cannot make slots inside of a graph that is traced across replicas, and fails with
        # "You must feed a value for placeholder tensor" on the first step.
        with setup.scope():
            setup.optimizer.build(setup.model.trainable_variables)

    losses = with_shares(setup)

    def step(x: Any, y: Any, sample_weight: Any) -> Any:
        # A list of this call's own: replicas take turns in the middle of a step, each in its thread.
        parts: list[Any] = []
        loss_fn = loss_function(
            losses, setup.training.parts.loss_weights, parts.extend, names=setup.training.data.y_names
        )
        return (*train_step(setup.model, setup.optimizer, loss_fn, x, y, sample_weight), parts)

    return drive(setup, step)


def drive(
    setup: Setup, step: Callable[[Any, Any, Any], Any], *, trial: bool = False, class_weighted: bool = True
) -> Run:
    """The loop around a step: epochs, batches, the strategy, the reports.

    Args:
        setup: the arm's objects.
        step: (x, y, sample_weight) to (loss, outputs, the outputs' losses); each may be None or empty.
        trial: the step is a user's: it may be written for AutoGraph, and what it does not do is not done for it.
        class_weighted: whether class weights are given to the step as sample weights.
    """
    import tensorflow as tf

    if setup.execution == "xla" and setup.strategy.num_replicas_in_sync > 1:
        raise UnsupportedError("xla under MirroredStrategy: TensorFlow does not compile a step across replicas")
    training, recorder = setup.training, setup.recorder
    recorder.watch_optimizer()
    tally = Tally(setup, output_losses=not trial)
    # Nobody evaluates in a step on trial, but for callbacks that look at it.
    evaluates = training.validation is not None and (not trial or training.callbacks is not None)
    evaluate = evaluation(setup, tally) if evaluates else None

    def replica_step(batch: Any) -> None:
        x, y, sample_weight = (*batch, None)[:3]
        # What a step of a user's makes of classes is its own affair, so their weights are no part of its batch.
        recorder.batch(x, y, None if trial and training.class_weight is not None else sample_weight)
        loss, outputs, parts = step(x, y, sample_weight)
        if outputs is not None:
            if not trial:
                recorder.outputs(outputs)
            tally.outputs(y, outputs)
        if loss is not None:
            recorder.loss(loss)
            tally.loss(loss, parts, tf.shape(tf.nest.flatten(x)[0])[0])

    def global_step(batch: Any) -> None:
        if trial and setup.strategy.num_replicas_in_sync == 1:
            # Nobody distributes on one device, and Keras's own functions cannot be called from inside of `run`.
            replica_step(batch)
        else:
            setup.strategy.run(replica_step, args=(batch,))

    compiled: dict[Any, Callable[[Any], None]] = {}

    def run(data: Arrays, logbook: Logbook) -> None:
        data = data.class_weighted(training.class_weight if class_weighted else None)
        call = Calling(setup)
        call("on_train_begin")
        logs: dict[str, Any] = {}
        for epoch in range(training.epochs):
            call("on_epoch_begin", epoch)
            dataset = distributed(setup, data)
            if not compiled:
                compiled[0] = compile_step(global_step, setup.execution, dataset.element_spec, autograph=trial)
            tally.reset()
            for index, batch in enumerate(dataset):
                call("on_train_batch_begin", index)
                recorder.begin()
                with logbook.timed():
                    compiled[0](batch)
                recorder.end_step()
                if setup.strategy.num_replicas_in_sync == 1:
                    logbook.step(epoch * training.steps_per_epoch + index, tally.results())
                if call:
                    call("on_train_batch_end", index, tally.results())
                if call.stopped:
                    break
            logs = tally.results()
            logbook.epoch(epoch, logs)
            if evaluate is not None:
                call("on_test_begin")
                with recorder.unwatched():
                    evaluated = evaluate()
                call("on_test_end", evaluated)
                logs |= {f"val_{name}": value for name, value in evaluated.items()}
                if not trial:
                    logbook.epoch(epoch, {name: value for name, value in logs.items() if name.startswith("val_")})
            call("on_epoch_end", epoch, logs)
            if call.stopped:
                break
        if recorder.applied:
            setup.optimizer.finalize_variable_values(setup.model.trainable_variables)
        call("on_train_end", logs)

    return run
