"""What updates the weights, where all of it has to pass, and when a step has ended.

The optimizer's `apply` (the replica's own gradients) and `update_step` (the reduced ones) are attributes of the one
optimizer of this arm, and what is assigned to the weights by anybody else is seen on the weights. Where nobody drives
the steps, one ends where `apply` does, or, where weights are assigned in another way, before the next forward pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from conformance.recording.assignments import NO_STEP, OPTIMIZER, Assignments
from conformance.recording.logs import APPLIES, CALLS, Logs
from conformance.several import Optimizers
from conformance.stage import Stage


class Updates(Logs):
    """Watches the optimizer and the weights of one prepared arm."""

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
                self._counts[APPLIES].count(replica, self._updating(replica))
                if own:
                    self._local_gradients(replica, grads, trainable_variables)
            with self._of_the_optimizer():
                if self._beside is not None and trainable_variables is not None:
                    grads, trainable_variables = self._apply_beside(grads, trainable_variables)
                result = apply(grads, trainable_variables)
            if replica is not None and self.in_step:
                self._end_step(replica)
            return result

        def watched_update_step(gradient: Any, variable: Any, learning_rate: Any) -> Any:
            self._gradient(gradient, variable, learning_rate)
            return update_step(gradient, variable, learning_rate)

        self.optimizer.apply = watched_apply
        inner.update_step = watched_update_step

    def update_frozen(self, optimizer: Any) -> None:
        """Have a loop's optimizer take what is not trainable, as one does that is built by what it is given first.

        The one of an arm is built for what is trainable before the loop begins, and would refuse it.

        Args:
            optimizer: a new one of the same configuration.
        """
        trainable = {id(variable) for variable in self.model.trainable_variables}
        frozen = [v for v in self.model.weights if id(v) not in trainable and "float" in str(v.dtype)]
        if frozen:
            optimizer.build(frozen)
            self._beside = optimizer, {id(variable) for variable in frozen}
            self._beside_at_first = [(variable, variable.numpy()) for variable in optimizer.variables]

    def _apply_beside(self, grads: list[Any], variables: list[Any]) -> tuple[list[Any], list[Any]]:
        """Update what is not trainable and has a gradient all the same; gives the rest."""
        optimizer, frozen = self._beside
        pairs = list(zip(grads, variables, strict=False))
        beside = [(g, v) for g, v in pairs if id(v) in frozen and g is not None]
        if beside:
            optimizer.apply(*map(list, zip(*beside, strict=True)))
        kept = [(g, v) for g, v in pairs if id(v) not in frozen]
        return [g for g, _ in kept], [v for _, v in kept]

    def watch_assignments(self) -> None:
        """Watch what is assigned to the weights, by the optimizer or by anybody else."""
        copies = ((name, at, copy) for name, held in self._trainable for at, copy in enumerate(self.components(held)))
        self._assigned = Assignments(copies, self.devices)
        finalize = self.optimizer.finalize_variable_values

        def watched_finalize(*args: Any, **kwargs: Any) -> Any:
            # What is put into the weights when training has ended belongs to no step.
            with self.of_no_step():
                return finalize(*args, **kwargs)

        self.optimizer.finalize_variable_values = watched_finalize

    def of_no_step(self) -> contextlib.AbstractContextManager[None]:
        """While weights are assigned that no step of a loop assigns, as before the first."""
        return contextlib.nullcontext() if self._assigned is None else self._assigned.of(NO_STEP)

    def _of_the_optimizer(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._assigned is None else self._assigned.of(OPTIMIZER)

    def _handed(self, variables: Any) -> bool:
        """Note which variables the optimizer is given; whether any of them is the model's."""
        given = self.model.trainable_variables if variables is None else variables
        own = {self._known[id(item)] for item in given if id(item) in self._known}
        strange = [str(getattr(item, "path", item.name)) for item in given if id(item) not in self._known]
        self.given |= own
        if own and own not in self._handed_in:
            self._handed_in.append(frozenset(own))
        self.strange = tuple(dict.fromkeys((*self.strange, *strange)))
        return bool(own) or not strange

    def watch_optimizers(self, optimizers: Mapping[str, Any]) -> None:
        """Record the variables of optimizers that the model trains with by itself, and begin each run with new ones."""
        self._optimizers = Optimizers(optimizers)

    def _local_gradients(self, replica: int, grads: Any, variables: Any) -> None:
        import tensorflow as tf

        targets = self.model.trainable_variables if variables is None else list(variables)
        row = self._updating(replica)
        for gradient, variable in zip(grads, targets, strict=False):
            name = self._name.get(id(variable))
            if gradient is not None and (Stage.LOCAL_GRADIENT, name) in self._logs:
                self._write(replica, Stage.LOCAL_GRADIENT, str(name), tf.convert_to_tensor(gradient), row)
        self._mark(replica, Stage.LOCAL_GRADIENT, row)

    def _gradient(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        import tensorflow as tf

        value = getattr(variable, "value", variable)
        found = self._component_name.get(id(value if not callable(value) else variable))
        if found is None:
            return
        name, replica = found
        row = self._updating(replica)
        self._write(replica, Stage.GRADIENT, name, tf.convert_to_tensor(gradient), row)
        self._mark(replica, Stage.GRADIENT, row)
        if replica not in self._rated:
            # All variables of a step are updated at one rate.
            self._rated.add(replica)
            self._rates.write(replica, row, tf.convert_to_tensor(learning_rate))

    def _left(self) -> list[tuple[Stage, str, Any]]:
        """Everything a step leaves behind: slots, weights, states; no slots where the optimizer had no part in it."""
        slots = self.optimizer.variables if self.applied else []
        left = [(Stage.UPDATE, name, v) for name, v in zip(self._slot_names, slots, strict=False)]
        left += [(stage, name, v) for stage, held in self._held.items() for name, v in held]
        return [item for item in left if item[:2] in self._logs]

    def _updating(self, replica: int) -> Any:
        """The row of the step that an update belongs to: the last one's, if there was no forward pass since it ended.

        So a loop that updates one part of the model after the other does it in one step.
        """
        import tensorflow as tf

        step = self._step(replica)
        if not (self.in_step and self._by_calls):
            return step
        last, calls = tf.maximum(step - 1, 0), self._counts[CALLS]
        return tf.where((calls.at(replica, step) == 0) & (calls.at(replica, last) > 0), last, step)

    def _end_step(self, replica: int) -> None:
        """In the graph: record what the step left behind and go to the next one, unless it had ended already."""
        import tensorflow as tf

        row, step = self._updating(replica), self._step(replica)
        self._leave(replica, row, row)
        self._cursor.rows[replica].assign_add(tf.cast(row[0] == step[0], tf.int32))
        if self._assigned is not None:
            self._assigned.taken(replica)

    def _leave(self, replica: int, row: Any, marked: Any) -> None:
        """In the graph: record in one row what a step left behind, and that it did in another."""
        for stage, name, variable in self._left():
            self._write(replica, stage, name, self.components(variable)[replica].read_value(), row)
        for stage in (*([Stage.UPDATE] if self.applied else []), Stage.WEIGHTS, Stage.STATE):
            self._mark(replica, stage, marked)

    def _settle(self, replica: int, *, last: bool = False) -> None:
        """In the graph: what was assigned since a step ended has ended the next one, if there was a forward pass.

        If there was none, it belongs to the step that has ended. After the last step it may belong to none, as averages
        do that are put into the weights, so what was assigned there belongs to it if every step did the like.

        Args:
            replica: the replica.
            last: training has ended.
        """
        import tensorflow as tf

        if self._assigned is None:
            return
        assigned, step, never = self._assigned.taken(replica), self._step(replica), [[self.steps + 1]]
        ends = assigned & (self._counts[CALLS].at(replica, step) > 0)
        late = assigned & ~ends & (step[0, 0] > 0)
        tails = self._tails.rows[replica].read_value()[0]
        if last:
            late &= (tails > 0) & (tails == step[0, 0] - 1)
        self._leave(replica, tf.where(ends, step, tf.where(late, step - 1, never)), tf.where(ends, step, never))
        self._cursor.rows[replica].assign_add([tf.cast(ends, tf.int32)])
        self._tails.rows[replica].assign_add([tf.cast(late, tf.int32)])
