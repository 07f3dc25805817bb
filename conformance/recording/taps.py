"""The taps, where every trainer has to pass.

The model's loss (batch, outputs, loss), the optimizer's `apply` (the replica's own gradients) and `update_step` (the
reduced ones), and the end of `apply` (slots, weights, states). They are attributes of the one model and the one
optimizer of this arm; no class of Keras is changed.

A loop of the user's own hides its batches and its targets, so there the model's `call` and the loss it was given are
watched, and its steps end where it calls its optimizer. Only calls under a `GradientTape` are a step's: whatever a
loop evaluates in between leaves no mark. Of several such calls before one `apply`, a model called twice or gradients
accumulated by hand, the first gives the step's batch, outputs and loss, and their number is recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from conformance.recording.log import Log
from conformance.recording.logs import CALLS, LOSSES, Logs
from conformance.several import Optimizers
from conformance.stage import Stage


class Taps(Logs):
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

    def watch_calls(self, *, batch: bool = False, untaped: bool = False) -> None:
        """Watch the model's `call`: its outputs, how often it is called in a step, what the first step begins with.

        Args:
            batch: what it is called on is the batch: nobody else sees it.
            untaped: a call under no tape is recorded too, until there is one under a tape: nothing but steps is run.
        """
        call = self.model.call
        self._by_calls = True
        self._first = [
            (stage, name, variable, Log(2, tuple(variable.shape), variable.dtype, self.devices))
            for stage, held in self._held.items()
            for name, variable in held
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

        row = tf.minimum(self._first_of(CALLS, replica), 1)
        for _, _, variable, log in self._first:
            log.write(replica, row, self.components(variable)[replica].read_value())

    def _after_call(self, replica: int, inputs: Any, outputs: Any, taped: bool) -> None:
        import tensorflow as tf

        row = self._first_of(CALLS, replica)
        made = self._as_logged(Stage.OUTPUTS, self.output_names, tf.nest.flatten(outputs))
        for name, leaf in zip(self.output_names, made, strict=False):
            self._write_rows(replica, Stage.OUTPUTS, name, leaf, row)
        if inputs is not None:
            self._rows.write(replica, row, tf.shape(tf.nest.flatten(inputs)[0])[0])
            self._part(replica, "x", inputs, row)
        if made:
            self.called = True
            self._mark(replica, Stage.OUTPUTS, row)
        if taped:
            self._counts[CALLS].count(replica, self._step(replica))

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
        replica = self._replica() if under_tape() else None
        if replica is None:
            return
        row = self._first_of(LOSSES, replica)
        for part, given in (("y", y), ("sample_weight", sample_weight)):
            if given is not None:
                self._part(replica, part, given, row)
        if loss is not None:
            self._write(replica, Stage.LOSS, "loss", loss, row)
            self._mark(replica, Stage.LOSS, row)
        self._counts[LOSSES].count(replica, self._step(replica))

    def watch_optimizer(self) -> None:
        """Watch `apply` and `update_step`, through which every Keras update passes."""
        # An optimizer around another hands on to it what the update rule receives.
        inner = self.optimizer
        while getattr(inner, "inner_optimizer", None) is not None:
            inner = inner.inner_optimizer
        apply: Callable[..., Any] = self.optimizer.apply
        update_step: Callable[..., Any] = inner.update_step

        def watched_apply(grads: Any, trainable_variables: Any = None) -> Any:
            self.applied = True
            replica = self._replica()
            if trainable_variables is not None:
                # What can be gone through once is gone through by Keras.
                grads, trainable_variables = list(grads), list(trainable_variables)
            own = self._handed(trainable_variables)
            if replica is not None:
                self._rated.discard(replica)
                if own:
                    self._local_gradients(replica, grads, trainable_variables)
            result = apply(grads, trainable_variables)
            if replica is not None and self.in_step:
                self._end_step(replica)
            return result

        def watched_update_step(gradient: Any, variable: Any, learning_rate: Any) -> Any:
            self._gradient(gradient, variable, learning_rate)
            return update_step(gradient, variable, learning_rate)

        self.optimizer.apply = watched_apply
        inner.update_step = watched_update_step

    def _handed(self, variables: Any) -> bool:
        """Note which variables the optimizer is given; whether any of them is the model's."""
        given = self.model.trainable_variables if variables is None else variables
        own = {self._known[id(item)] for item in given if id(item) in self._known}
        strange = [str(getattr(item, "path", item.name)) for item in given if id(item) not in self._known]
        self.given |= own
        self.strange = tuple(dict.fromkeys((*self.strange, *strange)))
        return bool(own) or not strange

    def watch_optimizers(self, optimizers: Mapping[str, Any]) -> None:
        """Record the variables of optimizers that the model trains with by itself, and begin each run with new ones."""
        self._optimizers = Optimizers(optimizers)

    def _local_gradients(self, replica: int, grads: Any, variables: Any) -> None:
        import tensorflow as tf

        targets = self.model.trainable_variables if variables is None else list(variables)
        for gradient, variable in zip(grads, targets, strict=False):
            name = self._name.get(id(variable))
            if gradient is not None and (Stage.LOCAL_GRADIENT, name) in self._logs:
                self._write(replica, Stage.LOCAL_GRADIENT, str(name), tf.convert_to_tensor(gradient))
        self._mark(replica, Stage.LOCAL_GRADIENT)

    def _gradient(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        import tensorflow as tf

        value = getattr(variable, "value", variable)
        found = self._component_name.get(id(value if not callable(value) else variable))
        if found is None:
            return
        name, replica = found
        self._write(replica, Stage.GRADIENT, name, tf.convert_to_tensor(gradient))
        self._mark(replica, Stage.GRADIENT)
        if replica not in self._rated:
            # All variables of a step are updated at one rate.
            self._rated.add(replica)
            self._rates.write(replica, self._step(replica), tf.convert_to_tensor(learning_rate))

    def _left(self) -> list[tuple[Stage, str, Any]]:
        """Everything a step leaves behind: slots, weights, states; no slots where the optimizer had no part in it."""
        slots = self.optimizer.variables if self.applied else []
        left = [(Stage.UPDATE, name, v) for name, v in zip(self._slot_names, slots, strict=False)]
        left += [(stage, name, v) for stage, held in self._held.items() for name, v in held]
        return [item for item in left if item[:2] in self._logs]

    def _end_step(self, replica: int) -> None:
        """In the graph: record what the step left behind and go to the next one."""
        for stage, name, variable in self._left():
            self._write(replica, stage, name, self.components(variable)[replica].read_value())
        for stage in (Stage.UPDATE, Stage.WEIGHTS, Stage.STATE):
            self._mark(replica, stage)
        self._cursor.rows[replica].assign_add([1])


def under_tape() -> bool:
    """Whether a `GradientTape` listens, in the code that is run or traced: a step's forward pass is under one."""
    from tensorflow.python.eager import record

    return bool(record.could_possibly_record())
