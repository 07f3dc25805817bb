"""Twelve faults that can be planted in Keras's own trainer, and taken out again.

Each replaces methods of Keras's classes that `fit` passes through and the reference loop does not: the trainer's
`train_step` and `compute_loss`, the optimizer's `apply_gradients` (the loop calls `apply`), the data adapters. What a
layer or a metric does is replaced too where it has to be, but misbehaves only inside of `train_step`. The recorder's
taps sit on the instances, around the classes' methods, so a planted fault is watched as a real one is.

Faults are planted before an arm is prepared: what is traced or bound stays as it was then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Method = Callable[..., Any]
Replacement = tuple[Any, str, Method]
"""A class, the name of one of its methods, and a function from that method to what takes its place."""


@dataclass(frozen=True)
class Fault:
    """A fault of `fit`.

    Attributes:
        name: its name; the cause's in the contract where there is one.
        tells: what `fit` does wrong, as a sentence.
        stage: the stage where it enters.
        replacements: makes its replacements; a function, for Keras is imported late.
        cause: the cause the diagnosis has to name, or None where it has no deviation for it yet.
        replicas: the replicas it takes to show.
    """

    name: str
    tells: str
    stage: str
    replacements: Callable[[], list[Replacement]]
    cause: str | None = None
    replicas: int = 1

    def __str__(self) -> str:
        return self.name

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Keras with the fault; without it again afterwards, whatever happens."""
        with contextlib.ExitStack() as undo:
            for owner, name, make in self.replacements():
                undo.enter_context(_replaced(owner, name, make))
            yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, make: Method) -> Iterator[None]:
    inherited = name not in vars(owner)
    original = getattr(owner, name)
    setattr(owner, name, make(original))
    try:
        yield
    finally:
        if inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, original)


def _trainer() -> Any:
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

    return TensorFlowTrainer


def _optimizer() -> Any:
    from keras.src.optimizers.base_optimizer import BaseOptimizer

    return BaseOptimizer


# The models whose train_step is running, the innermost one last.
_running: list[Any] = []


def _noting_train_step() -> Replacement:
    """`train_step` as it is, with the model noted for as long as it runs."""

    def make(original: Method) -> Method:
        def train_step(self: Any, data: Any) -> Any:
            _running.append(self)
            try:
                return original(self, data)
            finally:
                _running.pop()

        return train_step

    return _trainer(), "train_step", make


def _computing_loss(change: Callable[[Method, Any, tuple[Any, ...], bool], Any]) -> Replacement:
    """`compute_loss` replaced in training: `change` is given the method, the model, its arguments and the flag."""

    def make(original: Method) -> Method:
        def compute_loss(
            self: Any,
            x: Any = None,
            y: Any = None,
            y_pred: Any = None,
            sample_weight: Any = None,
            training: bool = True,
        ) -> Any:
            return change(original, self, (x, y, y_pred, sample_weight), training)

        return compute_loss

    return _trainer(), "compute_loss", make


def _applying_gradients(change: Callable[[Any, list[Any], list[Any]], None]) -> Replacement:
    """`apply_gradients` replaced: `change` is given the optimizer, the gradients and the variables."""

    def make(_: Method) -> Method:
        def apply_gradients(self: Any, grads_and_vars: Any) -> Any:
            gradients, variables = zip(*grads_and_vars, strict=True)
            change(self, list(gradients), list(variables))
            return self.iterations

        return apply_gradients

    return _optimizer(), "apply_gradients", make


def _regularization_omitted() -> list[Replacement]:
    def change(original: Method, model: Any, args: tuple[Any, ...], training: bool) -> Any:
        _, y, y_pred, sample_weight = args
        return model._compile_loss(y, y_pred, sample_weight)

    return [_computing_loss(change)]


def _gradient_slightly_off() -> list[Replacement]:
    def change(optimizer: Any, gradients: list[Any], variables: list[Any]) -> None:
        scaled = [None if gradient is None else gradient * 1.001 for gradient in gradients]
        optimizer.apply(scaled, variables)

    return [_applying_gradients(change)]


def _last_batch_dropped() -> list[Replacement]:
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    def make(original: Method) -> Method:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it takes the place of one
            original(self, *args, **kwargs)
            if self._num_samples > self._batch_size:
                self._partial_batch_size = 0
                self._size = self._num_samples // self._batch_size

        return __init__

    return [(ArrayDataAdapter, "__init__", make)]


def _sample_weight_ignored() -> list[Replacement]:
    def change(original: Method, model: Any, args: tuple[Any, ...], training: bool) -> Any:
        return original(model, *args[:3], None, training)

    return [_computing_loss(change)]


def _update_clipped() -> list[Replacement]:
    """The gradients go to the update rule unclipped, and what it makes of them, a unit of learning rate, is clipped."""
    import tensorflow as tf

    def change(optimizer: Any, gradients: list[Any], variables: list[Any]) -> None:
        kinds = ("clipnorm", "clipvalue", "global_clipnorm")
        if not any(getattr(optimizer, kind) for kind in kinds):
            optimizer.apply(gradients, variables)
            return
        before = [tf.identity(variable.value) for variable in variables]
        optimizer._clip_gradients = lambda unclipped: unclipped
        try:
            optimizer.apply(gradients, variables)
        finally:
            del optimizer._clip_gradients
        rate = tf.cast(optimizer.learning_rate, "float32")
        moved = [(variable.value - start) / rate for variable, start in zip(variables, before, strict=True)]
        for variable, start, step in zip(variables, before, optimizer._clip_gradients(moved), strict=True):
            variable.assign(start + rate * step)

    return [_applying_gradients(change)]


def _training_flag_false() -> list[Replacement]:
    import keras

    def make(original: Method) -> Method:
        def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - it takes the place of one
            if _running and self is _running[-1]:
                kwargs["training"] = False
            return original(self, *args, **kwargs)

        return __call__

    return [_noting_train_step(), (keras.layers.Layer, "__call__", make)]


def _statistics_not_updated() -> list[Replacement]:
    import keras

    def make(original: Method) -> Method:
        def call(self: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
            if not _running:
                return original(self, inputs, training=training, mask=mask)
            momentum, self.momentum = self.momentum, 1.0
            try:
                return original(self, inputs, training=training, mask=mask)
            finally:
                self.momentum = momentum

        return call

    return [_noting_train_step(), (keras.layers.BatchNormalization, "call", make)]


def _replica_loss_scaled_twice() -> list[Replacement]:
    import tensorflow as tf

    def change(original: Method, model: Any, args: tuple[Any, ...], training: bool) -> Any:
        return original(model, *args, training) / tf.distribute.get_strategy().num_replicas_in_sync

    return [_computing_loss(change)]


def _rows_shuffled() -> list[Replacement]:
    from keras.src import tree
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    def make(original: Method) -> Method:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it takes the place of one
            original(self, *args, **kwargs)
            order = np.random.default_rng(0).permutation(self._num_samples)
            self._inputs = tree.map_structure(lambda a: None if a is None else np.asarray(a)[order], self._inputs)

        return __init__

    return [(ArrayDataAdapter, "__init__", make)]


def _frozen_weights_updated() -> list[Replacement]:
    import tensorflow as tf

    losses: list[Any] = []

    def change(original: Method, model: Any, args: tuple[Any, ...], training: bool) -> Any:
        losses.append(original(model, *args, training))
        return losses[-1]

    def make(original: Method) -> Method:
        def train_step(self: Any, data: Any) -> Any:
            frozen = [v for v in self.non_trainable_variables if not v.name.startswith(("moving_", "seed_"))]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                for variable in frozen:
                    tape.watch(variable.value)
                result = original(self, data)
                loss = losses.pop()
            gradients = tape.gradient(loss, [variable.value for variable in frozen])
            for gradient, variable in zip(gradients, frozen, strict=True):
                if gradient is not None:
                    rate = tf.cast(self.optimizer.learning_rate, gradient.dtype)
                    variable.assign_sub(rate * tf.convert_to_tensor(gradient))
            return result

        return train_step

    return [_computing_loss(change), (_trainer(), "train_step", make)]


def _optimizer_state_reset() -> list[Replacement]:
    import tensorflow as tf

    def change(optimizer: Any, gradients: list[Any], variables: list[Any]) -> None:
        if not optimizer.built:
            optimizer.build(variables)
        slots = [v for v in optimizer.variables if v.name not in ("iteration", "iterations", "learning_rate")]
        if not hasattr(optimizer, "planted_values"):
            with tf.init_scope():
                optimizer.planted_values = [np.array(v) for v in slots]
        for variable, value in zip(slots, optimizer.planted_values, strict=True):
            variable.assign(value)
        optimizer.apply(gradients, variables)

    return [_applying_gradients(change)]


def _epoch_loss_unweighted() -> list[Replacement]:
    import keras

    def make(original: Method) -> Method:
        def update_state(self: Any, values: Any, sample_weight: Any = None) -> Any:
            if _running and self is _running[-1]._loss_tracker:
                sample_weight = None
            return original(self, values, sample_weight)

        return update_state

    return [_noting_train_step(), (keras.metrics.Mean, "update_state", make)]


FAULTS: tuple[Fault, ...] = (
    Fault("regularization_omitted", "The model's own losses are left out.", "loss", _regularization_omitted),
    Fault("gradient_slightly_off", "Gradients are a thousandth too large.", "local_gradient", _gradient_slightly_off),
    Fault(
        "partial_batch_dropped",
        "An epoch ends before its last, partial batch.",
        "batch",
        _last_batch_dropped,
        "partial_batch_dropped",
    ),
    Fault("sample_weight_ignored", "The loss is computed without weights.", "loss", _sample_weight_ignored),
    Fault("clip_order", "The update is clipped instead of the gradient.", "gradient", _update_clipped),
    Fault("training_flag_false", "The model is called in inference mode.", "outputs", _training_flag_false),
    Fault(
        "batchnorm_statistics_not_updated",
        "Moving statistics stay what they were.",
        "state",
        _statistics_not_updated,
    ),
    Fault(
        "replica_loss_scaled_twice",
        "A replica's share of the loss is divided by the replicas once more.",
        "loss",
        _replica_loss_scaled_twice,
        "replica_loss_scaled_twice",
        replicas=2,
    ),
    Fault(
        "data_order_differs",
        "Rows are shuffled in spite of shuffle=False.",
        "batch",
        _rows_shuffled,
        "data_order_differs",
    ),
    Fault(
        "frozen_weights_updated",
        "Weights that are not trainable are trained.",
        "weights",
        _frozen_weights_updated,
        "frozen_weights_updated",
    ),
    Fault(
        "optimizer_state_reset", "Every step starts with the slots' initial values.", "update", _optimizer_state_reset
    ),
    Fault(
        "epoch_loss_unweighted",
        "The reported loss is the plain mean over the batches.",
        "logs",
        _epoch_loss_unweighted,
        "epoch_loss_unweighted",
    ),
)
"""The faults, one entry each."""
