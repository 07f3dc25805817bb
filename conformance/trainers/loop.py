"""The custom loop of the TensorFlow guide: `GradientTape`, `strategy.run` and the Keras optimizer.

`train_step` is what a careful user writes, and meant to be read as such. Under a strategy every replica computes its
share of the global loss: Keras's loss objects divide by the number of replicas by themselves, everything else (a
function that returns a scalar, the regularization losses) the loop divides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.data import Arrays, epoch_dataset
from conformance.errors import UnsupportedError
from conformance.training import Logbook, Run, Setup

LossFunction = Callable[[Any, Any, Any], Any]


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
        loss = loss_fn(y, outputs, sample_weight)
        if model.losses:
            share = 1.0 / tf.distribute.get_strategy().num_replicas_in_sync
            loss = tf.reduce_sum(tf.stack([loss, *(share * term for term in model.losses)]))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)
    return loss, outputs


def loss_function(
    losses: list[Any], weights: tuple[float, ...] | None, seen: Callable[[list[Any]], None] = lambda values: None
) -> LossFunction:
    """The weighted sum of one loss an output, as this replica's share.

    Args:
        losses: the losses.
        weights: their factors, or None.
        seen: is told the unweighted losses of the outputs, for reporting.
    """
    import tensorflow as tf

    objects = [as_loss(loss) for loss in losses]

    def total(y: Any, outputs: Any, sample_weight: Any) -> Any:
        targets, predictions = tf.nest.flatten(y), tf.nest.flatten(outputs)
        given = [None] * len(objects) if sample_weight is None else tf.nest.flatten(sample_weight)
        values = [fn(t, p, w) for fn, t, p, w in zip(objects, targets, predictions, given, strict=True)]
        seen(values)
        if weights is not None:
            values = [value * weight for value, weight in zip(values, weights, strict=True)]
        return values[0] if len(values) == 1 else sum(values)

    return total


def as_loss(loss: Any) -> Any:
    """A `keras.losses.Loss` as it is; a function or a name as one, with a scalar divided by the replicas."""
    import keras
    import tensorflow as tf

    if isinstance(loss, keras.losses.Loss):
        return loss
    function = keras.losses.get(loss) if isinstance(loss, str) else loss

    class FunctionLoss(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
        """Reduces what the function returns to the mean over the rows."""

        def call(self, y_true: Any, y_pred: Any) -> Any:
            return tf.convert_to_tensor(function(y_true, y_pred))

        def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
            if sample_weight is None:
                value = self.call(tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred))
                if value.shape.rank == 0:
                    # Reduced over this replica's rows already, so nobody else will divide it by the replicas.
                    return value * (1.0 / tf.distribute.get_strategy().num_replicas_in_sync)
            return super().__call__(y_true, y_pred, sample_weight)

    return FunctionLoss(name=getattr(function, "__name__", "loss"))


def prepare(setup: Setup) -> Run:
    """Give the function that trains with `train_step`."""
    if setup.strategy.num_replicas_in_sync > 1 and not setup.optimizer.built:
        # As fit does: TensorFlow cannot make slots inside of a graph that is traced across replicas, and fails with
        # "You must feed a value for placeholder tensor" on the first step.
        with setup.scope():
            setup.optimizer.build(setup.model.trainable_variables)

    def step(x: Any, y: Any, sample_weight: Any) -> Any:
        # A list of this call's own: replicas take turns in the middle of a step, each in its thread.
        parts: list[Any] = []
        loss_fn = loss_function(setup.losses, setup.training.parts.loss_weights, parts.extend)
        return (*train_step(setup.model, setup.optimizer, loss_fn, x, y, sample_weight), parts)

    return drive(setup, step)


def drive(setup: Setup, step: Callable[[Any, Any, Any], Any]) -> Run:
    """The loop around a step: epochs, batches, the strategy, the reports.

    Args:
        setup: the arm's objects.
        step: (x, y, sample_weight) to (loss, outputs, the outputs' losses); each may be None or empty.
    """
    import keras
    import tensorflow as tf

    if setup.execution == "xla" and setup.strategy.num_replicas_in_sync > 1:
        raise UnsupportedError("xla under MirroredStrategy: TensorFlow does not compile a step across replicas")
    training, recorder = setup.training, setup.recorder
    recorder.watch_optimizer()
    with setup.scope():
        mean_loss = keras.metrics.Mean(name="loss")
        # As in fit, the losses of the outputs are reported where there are several.
        names = recorder.output_names if len(setup.losses) > 1 else []
        output_losses = [(f"{name}_loss", keras.metrics.Mean(name=f"{name}_loss")) for name in names]
    named = _named_metrics(setup)

    by_step = not setup.training.trial

    def replica_step(batch: Any) -> None:
        x, y, sample_weight = (*batch, None)[:3]
        recorder.batch(x, y, sample_weight)
        loss, outputs, parts = step(x, y, sample_weight)
        if outputs is not None:
            recorder.outputs(outputs)
            for (_, metric), (target, output) in zip(named, _pairs(setup, y, outputs), strict=True):
                metric.update_state(target, output)
        if loss is not None:
            recorder.loss(loss)
            rows = tf.shape(tf.nest.flatten(x)[0])[0]
            # What is a share of the global loss here is reported as the loss of this replica's rows.
            replicas = setup.strategy.num_replicas_in_sync
            values = [loss, *(parts if output_losses else [])]
            for metric, value in zip([mean_loss, *(m for _, m in output_losses)], values, strict=False):
                metric.update_state(value * replicas if replicas > 1 else value, sample_weight=rows)

    def global_step(batch: Any) -> None:
        setup.strategy.run(replica_step, args=(batch,))

    compiled: dict[Any, Callable[[Any], None]] = {}

    def run(data: Arrays, logbook: Logbook) -> None:
        reported = [("loss", mean_loss), *(output_losses if by_step else []), *named]
        for epoch in range(training.epochs):
            dataset = epoch_dataset(data, training.batch_size, training.feed)
            if setup.strategy.num_replicas_in_sync > 1:
                dataset = setup.strategy.experimental_distribute_dataset(dataset)
            if not compiled:
                compiled[0] = _compiled(
                    global_step, setup.execution, dataset.element_spec, autograph=bool(training.trial)
                )
            for _, metric in reported:
                metric.reset_state()
            for index, batch in enumerate(dataset):
                compiled[0](batch)
                recorder.end_step()
                if setup.strategy.num_replicas_in_sync == 1:
                    logs = {name: metric.result() for name, metric in reported}
                    logbook.step(epoch * training.steps_per_epoch + index, logs)
            logbook.epoch(epoch, {name: metric.result() for name, metric in reported})
        if recorder.applied:
            setup.optimizer.finalize_variable_values(setup.model.trainable_variables)

    return run


def _compiled(step: Callable[[Any], None], execution: str, spec: Any, *, autograph: bool) -> Callable[[Any], None]:
    import tensorflow as tf

    if execution == "eager":
        return step
    # One signature for full and partial batches: the step is traced once. XLA compiles for each shape anyway.
    function: Callable[[Any], None] = tf.function(
        step,
        input_signature=[spec],
        jit_compile=True if execution == "xla" else None,
        # A user's step may have Python conditions on tensors; ours has none, and rewriting it takes its time.
        autograph=autograph,
    )
    return function


def _named_metrics(setup: Setup) -> list[tuple[str, Any]]:
    """Every metric with the name `fit` reports it by: prefixed with the output's where there are several."""
    names = setup.recorder.output_names
    alone = len(names) == 1
    return [
        (metric.name if alone else f"{output}_{metric.name}", metric)
        for output, metrics in zip(names, setup.metrics or [[]] * len(names), strict=True)
        for metric in metrics
    ]


def _pairs(setup: Setup, y: Any, outputs: Any) -> list[tuple[Any, Any]]:
    import tensorflow as tf

    targets, predictions = tf.nest.flatten(y), tf.nest.flatten(outputs)
    metrics = setup.metrics or [[]] * len(predictions)
    return [
        (target, output) for target, output, given in zip(targets, predictions, metrics, strict=True) for _ in given
    ]
