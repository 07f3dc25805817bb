"""A user's callbacks in a loop of ours, called where `fit` calls them, and what they change between the steps.

Callbacks belong to a loop's epochs, not to its step, so the reference loop and the driver of a user's step call them;
a whole loop is given them and calls them itself. What they do to weights, states and the optimizer between two steps is
no step's doing: it is recorded as what the next step begins with, and so each step is judged from there.
"""

from __future__ import annotations

from typing import Any

from conformance.training import Setup


def compile_for_callbacks(setup: Setup) -> None:
    """Compile the model of a loop as `fit` finds it, where callbacks may ask it for its optimizer and its metrics.

    The metrics are built by one batch, as some callbacks look in them for what is better.
    """
    if setup.training.callbacks is None:
        return
    import tensorflow as tf

    parts, alone = setup.training.parts, len(setup.losses) == 1
    with setup.scope():
        losses, metrics = parts.losses(), parts.metrics()
        setup.model.compile(
            optimizer=setup.optimizer,
            loss=losses[0] if alone else losses,
            loss_weights=None if parts.loss_weights is None else list(parts.loss_weights),
            metrics=(metrics[0] if alone else metrics) or None,
            run_eagerly=setup.execution == "eager",
            auto_scale_loss=False,
        )
    batch = next(setup.training.data.batches(setup.training.batch_size))
    x, y = tf.nest.map_structure(tf.convert_to_tensor, batch[:2])

    def build() -> None:
        setup.model.compute_metrics(x, y, setup.model(x, training=False), None)

    setup.strategy.run(build)
    setup.model.reset_metrics()


def watched_callbacks(setup: Setup) -> list[Any]:
    """The callbacks of a run between two of ours, which see what is before them and what they leave; or none."""
    if setup.training.callbacks is None:
        return []
    import keras

    recorder = setup.recorder

    class Before(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        """Notes what the steps and the training end with."""

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            recorder.settle()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            recorder.settle()

        def on_train_end(self, logs: Any = None) -> None:
            recorder.ending()

    class After(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        """Notes what the callbacks leave."""

        def on_train_begin(self, logs: Any = None) -> None:
            recorder.between()

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            recorder.between()

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            recorder.between()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            recorder.between()

        def on_test_begin(self, logs: Any = None) -> None:
            recorder.evaluating()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            recorder.between()

        def on_train_end(self, logs: Any = None) -> None:
            recorder.ended_by(bool(setup.model.stop_training))

    return [Before(), *setup.training.callbacks(), After()]


def call_parameters(setup: Setup) -> dict[str, int]:
    """The `params` that `fit` gives its callbacks."""
    training = setup.training
    return {"verbose": 0, "epochs": training.epochs, "steps": training.steps_per_epoch}


class Calling:
    """The callbacks of one run, called as `fit` calls them; without callbacks all of it does nothing.

    Args:
        setup: the arm.
    """

    def __init__(self, setup: Setup) -> None:
        import keras

        self._model, self._recorder = setup.model, setup.recorder
        found = watched_callbacks(setup)
        self._list: Any = None
        if found:
            self._model.stop_training = False
            self._list = keras.callbacks.CallbackList(
                found, add_history=True, model=setup.model, **call_parameters(setup)
            )

    def __bool__(self) -> bool:
        return self._list is not None

    def __call__(self, moment: str, *args: Any) -> None:
        """Call the method of that name, as `on_epoch_end`, of every callback."""
        if self._list is not None:
            # A callback may evaluate.
            with self._recorder.unwatched():
                getattr(self._list, moment)(*args)

    @property
    def stopped(self) -> bool:
        """Whether a callback has stopped the training."""
        return self._list is not None and bool(self._model.stop_training)
