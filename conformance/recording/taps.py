"""The taps, where every trainer has to pass.

The model's loss (batch, outputs, loss) and its calls, as attributes of the one model of this arm; no class of Keras is
changed.

A loop of the user's own hides its batches and its targets, so there the model's `call` and the loss it was given are
watched, and its steps end where it calls its optimizer, or, where weights are assigned in another way, before the next
forward pass. Only calls under a `GradientTape` are a step's: whatever a loop evaluates in between leaves no mark. Of
several such calls before one update, a model called twice or gradients accumulated by hand, the first gives the step's
batch, outputs and loss, and their number is recorded; parts of one batch are put together again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from conformance.model_state import carried_states
from conformance.recording.log import Log
from conformance.recording.logs import CALLS, LOSSES
from conformance.recording.updates import Updates
from conformance.stage import Stage


class Taps(Updates):
    """Watches the model and the optimizer of one prepared arm, and writes into its logs."""

    def watch_model(self, *, loss_only: bool = False) -> None:
        """Watch `compute_loss`, through which `fit` and `train_on_batch` pass with batch, outputs and loss.

        Args:
            loss_only: batch and outputs are seen elsewhere.
        """
        compute_loss = self.model.compute_loss

        def watched(*args: Any, **kwargs: Any) -> Any:
            loss = compute_loss(*args, **kwargs)
            given = dict(zip(("x", "y", "y_pred", "sample_weight", "training"), args, strict=False)) | kwargs
            # An overridden one may know nothing of training, and is called all the same to evaluate.
            if given.get("training", under_tape()):
                if not loss_only:
                    self.batch(given.get("x"), given.get("y"), given.get("sample_weight"))
                    self.outputs(given.get("y_pred"))
                self.loss(loss)
            return loss

        self.model.compute_loss = watched

    def watch_calls(self, *, batch: bool = False, untaped: bool = False, first: bool = True) -> None:
        """Watch the model's `call`: its outputs, how often it is called in a step, what the first step begins with.

        Args:
            batch: what it is called on is the batch: nobody else sees it.
            first: the first step begins where its first call does; else where a trainer of ours says, for a step may
                draw before it calls its model.
            untaped: a call under no tape is recorded too, until there is one under a tape: nothing but steps is run.
        """
        call = self.model.call
        self._by_calls = True
        self._first = [
            (stage, name, variable, Log(2, tuple(variable.shape), variable.dtype, self.devices))
            for stage, held in self._held.items()
            for name, variable in (held if first else ())
        ]

        def watched_call(*args: Any, **kwargs: Any) -> Any:
            taped = under_tape()
            replica = self._replica() if (taped or untaped) and not self._unwatched else None
            if replica is None:
                return call(*args, **kwargs)
            self._before_call(replica)
            outputs = call(*args, **kwargs)
            inputs = args[0] if args else next(iter(kwargs.values()), None)
            self._after_call(replica, inputs if batch else None, outputs, taped)
            return outputs

        self.model.call = watched_call

    def watch_carried(self) -> None:
        """Watch what recurrent layers carry on: anybody may reset it between steps, or move it by an evaluation."""
        states = carried_states(self.model)
        if not states:
            return
        call = self.model.call
        self._carried = [
            (self._name[id(state)], state, Log(self.steps + 2, tuple(state.shape), state.dtype, self.devices))
            for _, state in states
        ]

        def watched_call(*args: Any, **kwargs: Any) -> Any:
            replica = self._replica() if under_tape() and not self._unwatched else None
            if replica is not None:
                for _, state, log in self._carried:
                    log.write(replica, self._step(replica), self.components(state)[replica].read_value())
            return call(*args, **kwargs)

        self.model.call = watched_call

    @contextlib.contextmanager
    def unwatched(self) -> Iterator[None]:
        """While something is run or traced that is no step: calls of the model leave no mark."""
        self._unwatched = True
        try:
            yield
        finally:
            self._unwatched = False

    def _before_call(self, replica: int) -> None:
        import tensorflow as tf

        if self.in_step:
            self._settle(replica)
        row = tf.minimum(self._first_of(CALLS, replica), 1)
        for _, _, variable, log in self._first:
            log.write(replica, row, self.components(variable)[replica].read_value())

    def _after_call(self, replica: int, inputs: Any, outputs: Any, taped: bool) -> None:
        import tensorflow as tf

        row, start = self._place_of(CALLS, replica, taped)
        made = self._as_logged(Stage.OUTPUTS, self.output_names, tf.nest.flatten(outputs))
        for name, leaf in zip(self.output_names, made, strict=False):
            self._write_rows(replica, Stage.OUTPUTS, name, leaf, row, start)
        if inputs is not None:
            first = self._first_of(CALLS, replica)
            self._rows.write(replica, first, tf.shape(tf.nest.flatten(inputs)[0])[0])
            self._part(replica, "x", inputs, row, start)
        if made:
            self.called = True
            self._mark(replica, Stage.OUTPUTS, row)
        if taped:
            step = self._step(replica)
            if made:
                calls, rows = self._counts[CALLS].at(replica, step), tf.reshape(tf.shape(made[0])[0], (1,))
                self._sizes.write_from(replica, step, calls, rows, self.steps + 1)
            self._counts[CALLS].count(replica, step)
            self._fill(CALLS, replica, made)

    def _place_of(self, counted: str, replica: int, taped: bool) -> tuple[Any, Any]:
        """The row and the first element where what is given in a call goes: behind what this step's calls gave before.

        A batch may go through the model in parts, one after the other, before an update.
        """
        if not taped:
            return self._first_of(counted, replica), 0
        step = self._step(replica)
        return step, self._filled[counted].at(replica, step)

    def _fill(self, counted: str, replica: int, given: list[Any]) -> None:
        import tensorflow as tf

        if given:
            self._filled[counted].count(replica, self._step(replica), tf.shape(given[0])[0])

    def recorded_outputs(self, rows: Any) -> list[Any] | None:
        """What the model gave in this step, read off the logs: a compiled step of the user's lets no tensor out.

        Args:
            rows: the number of rows of this replica.
        """
        replica = self._replica()
        if replica is None or not self.called:
            return None
        step = self._step(replica)
        return [self._logs[Stage.OUTPUTS, name].at(replica, step)[:rows] for name in self.output_names]

    def loss_call(self, y: Any, sample_weight: Any, loss: Any) -> None:
        """Record what the loss given to a loop was called on, and its value unless that is None."""
        import tensorflow as tf

        replica = self._replica() if under_tape() else None
        if replica is None:
            return
        first, (row, start) = self._first_of(LOSSES, replica), self._place_of(LOSSES, replica, taped=True)
        for part, given in (("y", y), ("sample_weight", sample_weight)):
            if given is not None:
                self._part(replica, part, given, row, start)
        if loss is not None:
            self._write(replica, Stage.LOSS, "loss", loss, first)
            self._mark(replica, Stage.LOSS, first)
        self._counts[LOSSES].count(replica, self._step(replica))
        self._fill(LOSSES, replica, tf.nest.flatten(y))


def under_tape() -> bool:
    """Whether a `GradientTape` listens, in the code that is run or traced: a step's forward pass is under one."""
    from tensorflow.python.eager import record

    return bool(record.could_possibly_record())
