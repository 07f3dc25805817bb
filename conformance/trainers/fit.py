"""`model.fit`, compiled and called as a user does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from conformance.data import Arrays
from conformance.several import optimizers_of
from conformance.trainers.calling import watched_callbacks
from conformance.training import Logbook, Run, Setup, Training


def compile_model(setup: Setup) -> None:
    """Compile the arm's model and watch it."""
    if setup.training.parts.compile is not None:
        _compile_own(setup, setup.training.parts.compile)
        return
    weights = setup.training.parts.loss_weights
    alone = len(setup.losses) == 1
    with setup.scope():
        setup.model.compile(
            optimizer=setup.optimizer,
            loss=setup.losses[0] if alone else setup.losses,
            loss_weights=None if weights is None else (weights[0] if alone else list(weights)),
            metrics=(setup.metrics[0] if alone else setup.metrics) or None,
            run_eagerly=setup.execution == "eager",
            jit_compile=setup.execution == "xla",
            steps_per_execution=setup.training.steps_per_execution,
        )
    own_step = has_own_step(setup.model)
    setup.recorder.watch_model(loss_only=own_step)
    setup.recorder.watch_optimizer()
    if own_step:
        _watch_own_step(setup)


def has_own_step(model: Any) -> bool:
    """Whether a model's class has a `train_step` of its own, which `fit` trains with."""
    import keras

    return type(model).train_step is not keras.Model.train_step


def _compile_own(setup: Setup, compile_model: Callable[[Any], None]) -> None:
    """Compile a model that trains with optimizers of its own, and watch what goes in and what is left of it."""
    import keras

    compile_with_own(setup, compile_model)
    setup.model.run_eagerly = setup.execution == "eager"
    setup.model.jit_compile = setup.execution == "xla"
    train_step = setup.model.train_step

    def watched(data: Any) -> Any:
        setup.recorder.batch(*keras.utils.unpack_x_y_sample_weight(data))
        return train_step(data)

    setup.model.train_step = watched


def compile_with_own(setup: Setup, compile_model: Callable[[Any], None]) -> dict[str, Any]:
    """Compile a model that trains with optimizers of its own, and watch these; gives them by the model's attributes."""
    with setup.scope():
        compile_model(setup.model)
    optimizers = optimizers_of(setup.model)
    setup.recorder.watch_optimizers(optimizers)
    return optimizers


def _watch_own_step(setup: Setup) -> None:
    """Watch a `train_step` that need not pass through `compute_loss`: what it is given, and the model's calls."""
    import keras

    train_step = setup.model.train_step

    def watched(data: Any) -> Any:
        setup.recorder.batch(*keras.utils.unpack_x_y_sample_weight(data))
        return train_step(data)

    setup.model.train_step = watched
    setup.recorder.watch_calls(first=False)


def prepare(setup: Setup) -> Run:
    """Compile, and give the function that calls `fit`."""
    import keras

    compile_model(setup)
    training, recorder = setup.training, setup.recorder
    # Several steps in one call leave no place between them to look from.
    recorder.in_step = training.steps_per_execution > 1

    class Reports(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        """Notes what `fit` reports."""

        def __init__(self, logbook: Logbook) -> None:
            super().__init__()
            self.logbook, self.epoch = logbook, 0
            self.first, self.started = 0, 0.0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            recorder.begin()
            self.first, self.started = batch, time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.logbook.took(time.perf_counter() - self.started, batch - self.first + 1)
            recorder.end_step()
            last = min(batch, training.steps_per_epoch - 1)
            self.logbook.step(self.epoch * training.steps_per_epoch + last, self._named(logs))

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.logbook.epoch(epoch, self._named(logs))

        def _named(self, logs: Any) -> dict[str, Any]:
            return {recorder.log_name(name): value for name, value in (logs or {}).items()}

    def run(data: Arrays, logbook: Logbook) -> None:
        # Ours first: a step has ended, and its report is what it is, before any callback changes something.
        callbacks = [Reports(logbook), *watched_callbacks(setup)]
        setup.model.fit(
            **_fed(data, training.feed, training.batch_size, training.steps_per_epoch),
            epochs=training.epochs,
            class_weight=None if training.class_weight is None else dict(training.class_weight),
            **_evaluated(training),
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
        )

    return run


def _fed(data: Arrays, feed: str, batch_size: int, steps_per_epoch: int) -> dict[str, Any]:
    if feed == "generator":
        return {"x": _endless(data, batch_size), "steps_per_epoch": steps_per_epoch}
    if feed == "dataset":
        import tensorflow as tf

        return {"x": tf.data.Dataset.from_tensor_slices(data.structure()).batch(batch_size)}
    names = ("x", "y", "sample_weight")
    return {**dict(zip(names, _keras_parts(data), strict=False)), "batch_size": batch_size}


def _evaluated(training: Training) -> dict[str, Any]:
    validation = training.validation
    if validation is None:
        return {}
    if validation.feed == "dataset":
        return {"validation_data": validation.dataset()}
    parts = _keras_parts(validation.copy().rows)
    return {"validation_data": parts, "validation_batch_size": training.batch_size}


def _keras_parts(data: Arrays) -> tuple[Any, ...]:
    """The parts as arrays: Keras takes several inputs or outputs as a list."""
    return tuple(list(part) if isinstance(part, tuple) else part for part in data.structure())


def _endless(data: Arrays, batch_size: int) -> Iterator[tuple[Any, ...]]:
    while True:
        yield from data.batches(batch_size)
