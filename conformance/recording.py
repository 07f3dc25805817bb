"""Watching a training without touching it.

The key idea: every quantity is written, where it is made, into a variable with one row a step. Variables work alike in
a graph, eagerly and under XLA, inside `strategy.run` and inside a `tf.while_loop` over steps; nothing is printed,
called back or returned, so the trainer's own code, traces and results stay what they were.

The taps sit where every trainer has to pass: the model's loss (batch, outputs, loss), the optimizer's `apply` (the
replica's own gradients) and `update_step` (the reduced ones), and the end of `apply` (slots, weights, states). They
are attributes of the one model and the one optimizer of this arm; no class of Keras is changed.

Each replica has logs of its own, on its own device and outside of the strategy, so that what is written on a replica
is what that replica saw, not what the strategy made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from conformance.arm import Arm
from conformance.data import Array
from conformance.stage import Stage
from conformance.trace import FINAL, Trace


class Log:
    """One quantity over all steps on all replicas: a variable (steps + 1, ...) a replica.

    The last row takes what comes after the last expected step, so that a training that runs too long is recorded as
    such and not disturbed by a write out of bounds.
    """

    def __init__(self, steps: int, shape: tuple[int, ...], dtype: Any, devices: Iterable[str]) -> None:
        import tensorflow as tf

        self.rows: list[Any] = []
        for device in devices:
            with tf.device(device):
                self.rows.append(tf.Variable(tf.zeros((steps + 1, *shape), dtype), trainable=False))

    def write(self, replica: int, step: Any, value: Any) -> None:
        """Write a step's value; inside of a graph, this is an operation of the graph."""
        import tensorflow as tf

        row = self.rows[replica]
        row.scatter_nd_update(step, tf.expand_dims(tf.cast(value, row.dtype), 0))

    def clear(self) -> None:
        """Forget everything."""
        for row in self.rows:
            row.assign(np.zeros(row.shape, row.dtype.as_numpy_dtype))

    def read(self) -> list[Array]:
        """The values of every replica, (steps + 1, ...) each."""
        return [row.numpy() for row in self.rows]


class Recorder:
    """Records the stages of every step of one prepared arm.

    Args:
        strategy: the arm's strategy.
        steps: how many steps a run has.
        model: the built model.
        optimizer: the optimizer, built or not.
        slots: (name, shape, dtype) of the variables the optimizer will have when built, without its own name.
        sample: one batch as `(x, y[, sample_weight])`, for shapes and dtypes; its rows are the most a batch has.
        names: the names of variables and slots by their places, filled by the first arm and followed by the others.

    Attributes:
        in_step: whether `apply` ends a step, in the graph: for trainers that run several steps in one call. Others
            leave Python between the steps and say `end_step` there.
        applied: whether the optimizer was called at all, in this run or in the one that traced its graph.
    """

    def __init__(
        self,
        *,
        strategy: Any,
        steps: int,
        model: Any,
        optimizer: Any,
        slots: list[tuple[str, tuple[int, ...], Any]],
        sample: tuple[Any, ...],
        names: dict[str, list[str]],
    ) -> None:
        import tensorflow as tf

        self.strategy, self.steps, self.model, self.optimizer = strategy, steps, model, optimizer
        self.in_step = False
        self.applied = False
        self._reached: Stage | None = None
        self._ended = 0
        replicas = strategy.num_replicas_in_sync
        self.devices = list(strategy.extended.worker_devices) if replicas > 1 else [""]
        self._replica_of = {device.lower(): index for index, device in enumerate(self.devices)}
        self._cursor = Log(0, (), tf.int32, self.devices)
        self._logs: dict[tuple[Stage, str], Log] = {}
        self._between: dict[tuple[int, Stage, str], tuple[Array, ...]] = {}
        self._counts = {stage: Log(steps, (), tf.int32, self.devices) for stage in Stage}
        self._rows = Log(steps, (), tf.int32, self.devices)
        self._names = names
        paths = names.setdefault("variables", [v.path for v in model.variables])
        self._slot_names = names.setdefault("slots", [name for name, _, _ in slots])
        self._name = {id(v): path for v, path in zip(model.variables, paths, strict=True)}
        self._trainable = [(self._name[id(v)], v) for v in model.trainable_variables]
        self._component_name: dict[int, tuple[str, int]] = {}
        for name, variable in self._trainable:
            for index, component in enumerate(self.components(variable)):
                self._component_name[id(component)] = (name, index)
        self._allocate(sample, slots)

    def _allocate(self, sample: tuple[Any, ...], slots: list[tuple[str, tuple[int, ...], Any]]) -> None:
        import tensorflow as tf

        self.batch_names: list[str] = []
        for part, name in zip(sample, ("x", "y", "sample_weight"), strict=False):
            leaves = tf.nest.flatten(part)
            for index, leaf in enumerate(leaves):
                label = name if len(leaves) == 1 else f"{name}[{index}]"
                self.batch_names.append(label)
                self._add(Stage.BATCH, label, np.shape(leaf), leaf.dtype)
        rows = len(tf.nest.flatten(sample[0])[0])
        outputs = getattr(self.model, "outputs", None) or tf.nest.flatten(self.model(sample[0], training=False))
        self.output_names = self._names.setdefault("outputs", output_names(self.model, len(outputs)))
        for name, tensor in zip(self.output_names, outputs, strict=True):
            self._add(Stage.OUTPUTS, name, (rows, *tensor.shape[1:]), tensor.dtype)
        self._add(Stage.LOSS, "loss", (), tf.float32)
        for name, variable in self._trainable:
            self._add(Stage.LOCAL_GRADIENT, name, tuple(variable.shape), variable.dtype)
            self._add(Stage.GRADIENT, name, tuple(variable.shape), variable.dtype)
        for name, (_, shape, dtype) in zip(self._slot_names, slots, strict=True):
            self._add(Stage.UPDATE, name, shape, dtype)
        weights = self.model.trainable_variables
        known = {id(v) for v in weights}
        self._held = {Stage.WEIGHTS: [], Stage.STATE: []}  # type: dict[Stage, list[tuple[str, Any]]]
        for variable in self.model.variables:
            if id(variable) in known or not variable.name.startswith(("moving_", "seed_")):
                self._held[Stage.WEIGHTS].append((self._name[id(variable)], variable))
            else:
                self._held[Stage.STATE].append((self._name[id(variable)], variable))
        for stage, held in self._held.items():
            for name, variable in held:
                self._add(stage, name, tuple(variable.shape), variable.dtype)

    def _add(self, stage: Stage, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        self._logs[stage, name] = Log(self.steps, tuple(shape), dtype, self.devices)

    def components(self, variable: Any) -> tuple[Any, ...]:
        """A variable's copies, one a replica (a single one on one device)."""
        value = getattr(variable, "value", variable)
        value = value() if callable(value) else value
        found: tuple[Any, ...] = tuple(self.strategy.experimental_local_results(value))
        return found

    # Where are we?

    def _replica(self) -> int | None:
        """The replica this code runs on or is traced for; None outside of any, as in a symbolic build."""
        import tensorflow as tf

        if len(self.devices) == 1:
            return 0
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return None
        return self._replica_of[context.replica_id_in_sync_group.device.lower()]

    def _step(self, replica: int) -> Any:
        """Where this step's values go: the row's index as (1, 1), as scatter wants it."""
        import tensorflow as tf

        return tf.expand_dims(tf.minimum(self._cursor.rows[replica].read_value(), self.steps), 0)

    def _write(self, replica: int, stage: Stage, name: str, value: Any) -> None:
        self._logs[stage, name].write(replica, self._step(replica), value)

    def _mark(self, replica: int, stage: Stage) -> None:
        import tensorflow as tf

        self._reached = stage
        self._counts[stage].rows[replica].scatter_nd_add(self._step(replica), tf.ones((1,), tf.int32))

    # The taps.

    def batch(self, x: Any, y: Any, sample_weight: Any) -> None:
        """Record the rows this replica was given."""
        import tensorflow as tf

        replica = self._replica()
        if replica is None:
            return
        parts = [x, y] if sample_weight is None else [x, y, sample_weight]
        leaves = [leaf for part in parts for leaf in tf.nest.flatten(part)]
        for name, leaf in zip(self.batch_names, leaves, strict=False):
            self._write_rows(replica, Stage.BATCH, name, leaf)
        self._rows.write(replica, self._step(replica), tf.shape(leaves[0])[0])
        self._mark(replica, Stage.BATCH)

    def outputs(self, outputs: Any) -> None:
        """Record what the model gave for those rows."""
        import tensorflow as tf

        replica = self._replica()
        if replica is None:
            return
        for name, leaf in zip(self.output_names, tf.nest.flatten(outputs), strict=True):
            self._write_rows(replica, Stage.OUTPUTS, name, leaf)
        self._mark(replica, Stage.OUTPUTS)

    def loss(self, loss: Any) -> None:
        """Record this replica's share of the loss."""
        import tensorflow as tf

        replica = self._replica()
        if replica is None:
            return
        # A loss that is no scalar is trained on as its sum, for that is what a tape differentiates. Keras gives an
        # empty vector for an empty batch.
        self._write(replica, Stage.LOSS, "loss", tf.reduce_sum(loss))
        self._mark(replica, Stage.LOSS)

    def _write_rows(self, replica: int, stage: Stage, name: str, value: Any) -> None:
        import tensorflow as tf

        most = self._logs[stage, name].rows[replica].shape[1]
        value = tf.convert_to_tensor(value)[:most]
        missing = most - tf.shape(value)[0]
        self._write(replica, stage, name, tf.pad(value, [[0, missing]] + [[0, 0]] * (value.shape.rank - 1)))

    def watch_model(self) -> None:
        """Watch `compute_loss`, through which `fit` and `train_on_batch` pass with batch, outputs and loss."""
        compute_loss = self.model.compute_loss

        def watched(
            x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
        ) -> Any:
            loss = compute_loss(x, y, y_pred, sample_weight, training)
            if training:
                self.batch(x, y, sample_weight)
                self.outputs(y_pred)
                self.loss(loss)
            return loss

        self.model.compute_loss = watched

    def watch_optimizer(self) -> None:
        """Watch `apply` and `update_step`, through which every Keras update passes."""
        apply: Callable[..., Any] = self.optimizer.apply
        update_step: Callable[..., Any] = self.optimizer.update_step

        def watched_apply(grads: Any, trainable_variables: Any = None) -> Any:
            self.applied = True
            replica = self._replica()
            if replica is not None:
                self._local_gradients(replica, grads, trainable_variables)
            result = apply(grads, trainable_variables)
            if replica is not None and self.in_step:
                self._end_step(replica)
            return result

        def watched_update_step(gradient: Any, variable: Any, learning_rate: Any) -> Any:
            self._gradient(gradient, variable)
            return update_step(gradient, variable, learning_rate)

        self.optimizer.apply = watched_apply
        self.optimizer.update_step = watched_update_step

    def _local_gradients(self, replica: int, grads: Any, variables: Any) -> None:
        import tensorflow as tf

        targets = self.model.trainable_variables if variables is None else list(variables)
        for gradient, variable in zip(grads, targets, strict=False):
            name = self._name.get(id(variable))
            if gradient is not None and (Stage.LOCAL_GRADIENT, name) in self._logs:
                self._write(replica, Stage.LOCAL_GRADIENT, str(name), tf.convert_to_tensor(gradient))
        self._mark(replica, Stage.LOCAL_GRADIENT)

    def _gradient(self, gradient: Any, variable: Any) -> None:
        import tensorflow as tf

        value = getattr(variable, "value", variable)
        found = self._component_name.get(id(value if not callable(value) else variable))
        if found is None:
            return
        name, replica = found
        self._write(replica, Stage.GRADIENT, name, tf.convert_to_tensor(gradient))
        self._mark(replica, Stage.GRADIENT)

    def _left(self) -> list[tuple[Stage, str, Any]]:
        """Everything a step leaves behind: slots, weights, states."""
        left = [(Stage.UPDATE, name, v) for name, v in zip(self._slot_names, self.optimizer.variables, strict=False)]
        left += [(stage, name, v) for stage, held in self._held.items() for name, v in held]
        return [item for item in left if item[:2] in self._logs]

    def _end_step(self, replica: int) -> None:
        """In the graph: record what the step left behind and go to the next one."""
        for stage, name, variable in self._left():
            self._write(replica, stage, name, self.components(variable)[replica].read_value())
        for stage in (Stage.UPDATE, Stage.WEIGHTS, Stage.STATE):
            self._mark(replica, stage)
        self._cursor.rows[replica].assign_add([1])

    def end_step(self) -> None:
        """Between steps: record what the step left behind and go to the next one."""
        if self.in_step:
            return
        step = self._ended
        for stage, name, variable in self._left():
            self._between[step, stage, name] = tuple(c.numpy() for c in self.components(variable))
        self._ended += 1
        for row in self._cursor.rows:
            row.assign([self._ended])
        self._reached = Stage.STATE

    def log_name(self, name: str) -> str:
        """The name of something reported, with the output it is of called as in the first arm."""
        for ours, theirs in zip(output_names(self.model, len(self.output_names)), self.output_names, strict=True):
            if name.startswith(f"{ours}_"):
                return theirs + name.removeprefix(ours)
        return name

    # Before and after a run.

    def reset(self) -> None:
        """Forget the last run."""
        for log in (self._cursor, self._rows, *self._counts.values(), *self._logs.values()):
            log.clear()
        self._between.clear()
        self._ended = 0

    def start(self, slot_values: list[Array]) -> dict[tuple[Stage, str], tuple[Array, ...]]:
        """What a run starts from; `slot_values` are those of an optimizer that is not built yet."""
        held = {(stage, name): tuple(c.numpy() for c in self.components(v)) for stage, name, v in self._left()}
        unbuilt = {
            (Stage.UPDATE, name): (value,) * len(self.devices)
            for name, value in zip(self._slot_names, slot_values, strict=True)
        }
        return {**unbuilt, **held}

    def read(self, arm: Arm) -> Trace:
        """The trace of the run that has ended."""
        ended = int(self._cursor.read()[0][0])
        trace = Trace(arm, len(self.devices), steps=ended, reached=self._reached)
        counts = {stage: log.read() for stage, log in self._counts.items()}
        rows = self._rows.read()
        for (stage, name), log in self._logs.items():
            written = [count > 0 for count in counts[stage]]
            if not any(flag.any() for flag in written):
                continue
            values = log.read()
            for step in range(self.steps + (ended > self.steps)):
                if not any(flag[step] for flag in written):
                    continue
                kept = tuple(value[step] for value in values)
                if stage in (Stage.BATCH, Stage.OUTPUTS):
                    kept = tuple(value[: rows[index][step]] for index, value in enumerate(kept))
                trace.values[step, stage, name] = kept
        trace.values.update(self._between)
        for stage, name, variable in self._left():
            trace.values[FINAL, stage, name] = tuple(c.numpy() for c in self.components(variable))
        return trace


def slot_name(variable: Any) -> str:
    """An optimizer variable's path without the optimizer's own name, which differs from instance to instance."""
    path: str = variable.path
    return path.partition("/")[2] or path


def output_names(model: Any, count: int = 1) -> list[str]:
    """The names of a model's outputs, as `fit` reports them; a subclassed model's are numbered."""
    names = getattr(model, "output_names", None)
    if names:
        return list(names)
    if count == 1:
        return [model.layers[-1].name if model.layers else "output"]
    return [f"output[{index}]" for index in range(count)]
