"""Faults of what `fit` does around its steps: where it starts, what an epoch begins with, what is reported."""

from __future__ import annotations

from typing import Any

import numpy as np
from faults_trainer import initial_slots
from planting import FIT, STEP, TRAINER, Method, begins_later_epoch, fault, in_step, row_count, running

RESET_METRICS = f"{TRAINER}.reset_metrics"
MEAN_UPDATE = "metrics.reduction_metrics:Mean.update_state"


@fault(f"{TRAINER}.fit", stage="outputs", cause="initial_weights_differ")
def kernels_drawn_anew(original: Method, model: Any, *args: Any, **kwargs: Any) -> Any:
    """Training starts with kernels of its own, whatever they were."""
    draw = np.random.default_rng(1)
    for variable in model.trainable_variables:
        if variable.name == "kernel":
            variable.assign(draw.normal(size=variable.shape))
    return original(model, *args, **kwargs)


@fault(f"{TRAINER}.fit", stage="outputs", cause="random_stream_differs")
def random_layers_drawn_before(original: Method, model: Any, *args: Any, **kwargs: Any) -> Any:
    """The first numbers of every random layer are drawn before the training starts, and lost."""
    import keras

    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout | keras.layers.GaussianNoise):
            layer.seed_generator.next()
    return original(model, *args, **kwargs)


@fault(RESET_METRICS, stage="update", cause="optimizer_state_reset", also=[FIT])
def slots_reset_each_epoch(original: Method, model: Any) -> None:
    """Every epoch starts with the slots' initial values; what is accumulated is kept."""
    original(model)
    if begins_later_epoch() and model.optimizer.built:
        for slot, value in initial_slots(model.optimizer):
            if not slot.name.endswith("gradient_accumulator"):
                slot.assign(value)


@fault(RESET_METRICS, stage="update", cause="optimizer_state_reset", also=[FIT])
def iterations_reset_each_epoch(original: Method, model: Any) -> None:
    """Every epoch counts the optimizer's steps from zero."""
    original(model)
    if begins_later_epoch():
        model.optimizer._iterations.assign(0)


@fault(RESET_METRICS, stage="gradient", cause="accumulation_tail", also=[FIT])
def accumulation_dropped_each_epoch(original: Method, model: Any) -> None:
    """An update that is due in the first step of an epoch leaves out what the epoch before has accumulated."""
    original(model)
    optimizer = model.optimizer
    steps = optimizer.gradient_accumulation_steps
    if begins_later_epoch() and steps and (int(optimizer._iterations) + 1) % steps == 0:
        optimizer._backend_reset_gradient_accumulators()


@fault(RESET_METRICS, stage="logs", cause="metric_not_reset", also=[FIT])
def loss_not_reset(original: Method, model: Any) -> None:
    """The mean of the loss goes on from epoch to epoch."""
    if not begins_later_epoch():
        original(model)
        return
    for metric in model.metrics:
        if metric is not model._loss_tracker:
            metric.reset_state()


@fault(RESET_METRICS, stage="logs", cause="metric_not_reset", also=[FIT])
def metrics_not_reset(original: Method, model: Any) -> None:
    """The means of the compiled metrics go on from epoch to epoch."""
    if not begins_later_epoch():
        original(model)
        return
    for metric in model.metrics:
        if metric is not model._compile_metrics:
            metric.reset_state()


@fault(MEAN_UPDATE, stage="logs", cause="epoch_loss_unweighted", within_step=True)
def epoch_loss_unweighted(original: Method, metric: Any, values: Any, sample_weight: Any = None) -> None:
    """The reported loss is the plain mean over the batches."""
    original(metric, values, None if metric is running[-1]._loss_tracker else sample_weight)


@fault(MEAN_UPDATE, stage="logs", cause="epoch_loss_last_batch", within_step=True)
def epoch_loss_last_batch(original: Method, metric: Any, values: Any, sample_weight: Any = None) -> None:
    """The reported loss is that of the last batch."""
    if metric is running[-1]._loss_tracker:
        metric.reset_state()
    original(metric, values, sample_weight)


def _withheld(original: Method, metric: Any, values: Any, sample_weight: Any = None) -> None:
    if metric is not running[-1]._loss_tracker:
        original(metric, values, sample_weight)


@fault(
    f"{TRAINER}.compute_metrics",
    stage="logs",
    cause="loss_reported_after_update",
    also=[STEP, (MEAN_UPDATE, in_step(_withheld))],
)
def loss_reported_after_update(
    original: Method, model: Any, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
) -> Any:
    """The reported loss is computed anew, with the weights that the step has left."""
    # Not in training mode: statistics and random states would move once more.
    loss = model.compute_loss(x, y, model(x, training=False), sample_weight, training=False)
    rows = row_count(x)
    model._loss_tracker.total.assign_add(loss * rows)
    model._loss_tracker.count.assign_add(rows)
    return original(model, x, y, y_pred, sample_weight)


@fault(MEAN_UPDATE, stage="logs", cause="epoch_loss_unweighted", shared=True)
def mean_ignores_weights(original: Method, metric: Any, values: Any, sample_weight: Any = None) -> None:
    """A mean counts everything once, whatever its weight, a batch's loss with its rows too."""
    original(metric, values)


@fault("metrics.reduction_metrics:MeanMetricWrapper.update_state", stage="logs", shared=True)
def metric_averaged_by_batch(
    original: Method, metric: Any, y_true: Any, y_pred: Any, sample_weight: Any = None
) -> None:
    """A metric of an epoch is the plain mean of its batches' means."""
    import keras
    import tensorflow as tf

    keras.metrics.Mean.update_state(metric, tf.reduce_mean(metric._fn(y_true, y_pred, **metric._fn_kwargs)))
