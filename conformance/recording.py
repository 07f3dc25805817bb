"""Watching a training without touching it.

The key idea: every quantity is written, where it is made, into a variable with one row a step. Variables work alike in
a graph, eagerly and under XLA, inside `strategy.run` and inside a `tf.while_loop` over steps; nothing is printed,
called back or returned, so the trainer's own code, traces and results stay what they were.

The taps sit where every trainer has to pass: the model's loss (batch, outputs, loss), the optimizer's `apply` (the
replica's own gradients) and `update_step` (the reduced ones), and the end of `apply` (slots, weights, states). They
are attributes of the one model and the one optimizer of this arm; no class of Keras is changed.

A loop of the user's own hides its batches and its targets, so there the model's `call` and the loss it was given are
watched, and its steps end where it calls its optimizer. Only calls under a `GradientTape` are a step's: whatever a
loop evaluates in between leaves no mark. Of several such calls before one `apply`, a model called twice or gradients
accumulated by hand, the first gives the step's batch, outputs and loss, and their number is recorded.

Each replica has logs of its own, on its own device and outside of the strategy, so that what is written on a replica
is what that replica saw, not what the strategy made of it.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from conformance.arm import Arm
from conformance.data import Array, leaves
from conformance.several import Optimizers
from conformance.stage import FINAL, Stage
from conformance.trace import Trace


class Log:
    """One quantity on all replicas: a variable (rows, ...) a replica."""

    def __init__(self, rows: int, shape: tuple[int, ...], dtype: Any, devices: Iterable[str]) -> None:
        import tensorflow as tf

        self.rows: list[Any] = []
        for device in devices:
            with tf.device(device):
                self.rows.append(tf.Variable(tf.zeros((rows, *shape), dtype), trainable=False))

    def write(self, replica: int, row: Any, value: Any) -> None:
        """Write a row, its index as (1, 1); inside of a graph, this is an operation of the graph."""
        import tensorflow as tf

        rows = self.rows[replica]
        rows.scatter_nd_update(row, tf.expand_dims(tf.cast(value, rows.dtype), 0))

    def count(self, replica: int, row: Any) -> None:
        """Add one to a row."""
        import tensorflow as tf

        self.rows[replica].scatter_nd_add(row, tf.ones((1,), tf.int32))

    def at(self, replica: int, row: Any) -> Any:
        """A row's value."""
        import tensorflow as tf

        return tf.gather(self.rows[replica], row[0, 0])

    def clear(self) -> None:
        """Forget everything."""
        for row in self.rows:
            row.assign(np.zeros(row.shape, row.dtype.as_numpy_dtype))

    def read(self) -> list[Array]:
        """The values of every replica, (rows, ...) each."""
        return [row.numpy() for row in self.rows]


CALLS, LOSSES = "calls", "losses"
"""What is counted beside the stages: calls of the model, and of the loss it was given, under a tape."""


class Recorder:
    """Records the stages of every step of one prepared arm.

    Every log has two rows more than there are steps: one takes what comes after the last expected step, so that a
    training that runs too long is recorded as such and not disturbed by a write out of bounds; the other is never
    read, and takes what is not to be kept, so that nothing has to branch.

    Args:
        strategy: the arm's strategy.
        steps: how many steps a run has.
        model: the built model.
        optimizer: the optimizer, built or not.
        slots: (name, shape, dtype) of the variables the optimizer will have when built, without its own name.
        sample: one batch as `(x, y[, sample_weight])`, for shapes and dtypes; its rows are the most a batch has.
        names: the names of variables and slots by their places, filled by the first arm and followed by the others.
        opaque: the model trains with optimizers of its own, and nobody can say what a step of it is: what goes in, the
            weights and states, the optimizers' variables and what is reported are recorded, and nothing between.

    Attributes:
        in_step: whether `apply` ends a step, in the graph: for trainers that run several steps in one call. Others
            leave Python between the steps and say `end_step` there.
        applied: whether the optimizer was called at all, in this run or in the one that traced its graph.
        called: whether the model's outputs were recorded where it was called; as `applied`.
        strange: the paths of the variables the optimizer was given that are not the model's; as `applied`.
        given: the names of the model's variables that the optimizer was given; as `applied`.
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
        opaque: bool = False,
    ) -> None:
        import tensorflow as tf

        self.strategy, self.steps, self.model, self.optimizer = strategy, steps, model, optimizer
        self.in_step = False
        self.opaque, self._optimizers = opaque, Optimizers({})
        self.applied = False
        self.called = False
        self.strange: tuple[str, ...] = ()
        self.given: set[str] = set()
        self._unwatched = False
        self._reached: Stage | None = None
        self._ended = 0
        replicas = strategy.num_replicas_in_sync
        self.devices = list(strategy.extended.worker_devices) if replicas > 1 else [""]
        self._replica_of = {device.lower(): index for index, device in enumerate(self.devices)}
        self._cursor = Log(1, (), tf.int32, self.devices)
        self._logs: dict[tuple[Stage, str], Log] = {}
        self._between: dict[tuple[int, Stage, str], tuple[Array, ...]] = {}
        self._begun: dict[tuple[Stage, str], tuple[Array, ...]] = {}
        self._callbacks_left: dict[tuple[int, Stage, str], tuple[Array, ...]] = {}
        self._stopped = self._moved_at_end = False
        self._evaluated: dict[tuple[int, Stage, str], tuple[Array, ...]] = {}
        self._at_end: dict[str, tuple[Array, ...]] = {}
        self._first: list[tuple[Stage, str, Any, Log]] = []
        counted = [*(stage.value for stage in Stage), "y", "sample_weight", CALLS, LOSSES]
        self._counts = {name: Log(steps + 2, (), tf.int32, self.devices) for name in counted}
        self._rows = Log(steps + 2, (), tf.int32, self.devices)
        self._rates = Log(steps + 2, (), tf.float32, self.devices)
        self._rated: set[int] = set()
        self._placed: dict[int, tuple[weakref.ref[Any], Any]] = {}
        self._by_calls = False
        self._names = names
        paths = names.setdefault("variables", [v.path for v in model.variables])
        self._slot_names = names.setdefault("slots", [name for name, _, _ in slots])
        self._name = {id(v): path for v, path in zip(model.variables, paths, strict=True)}
        self._trainable = [(self._name[id(v)], v) for v in model.trainable_variables]
        self._component_name: dict[int, tuple[str, int]] = {}
        for name, variable in self._trainable:
            for index, component in enumerate(self.components(variable)):
                self._component_name[id(component)] = (name, index)
        # By whatever people hand on: the model's own variables, what is behind them, or what a tape has watched.
        self._known = {
            id(item): self._name[id(variable)]
            for variable in model.variables
            for item in (variable, getattr(variable, "_value", variable), *self.components(variable))
        }
        self._allocate(sample, slots)

    def _allocate(self, sample: tuple[Any, ...], slots: list[tuple[str, tuple[int, ...], Any]]) -> None:
        import tensorflow as tf

        self.batch_names: list[str] = []
        self._part_names: dict[str, tuple[str, ...]] = {}
        for part, name in zip(sample, ("x", "y", "sample_weight"), strict=False):
            self._part_names[name] = tuple(part) if isinstance(part, Mapping) else ()
            arrays = leaves(part, self._part_names[name])
            for index, leaf in enumerate(arrays):
                label = name if len(arrays) == 1 else f"{name}[{index}]"
                self.batch_names.append(label)
                self._add(Stage.BATCH, label, np.shape(leaf), leaf.dtype)
        rows = len(tf.nest.flatten(sample[0])[0])
        # A model that trains itself may have no call, and no outputs that anybody looks at.
        outputs: Any = [] if self.opaque else getattr(self.model, "outputs", None)
        if not self.opaque and (not outputs or any(None in tensor.shape[1:] for tensor in outputs)):
            outputs = self.model(sample[0], training=False)
        # A subclassed model shows the names of its outputs when it is called.
        named = sorted(outputs) if isinstance(outputs, Mapping) else []
        outputs = tf.nest.flatten(outputs)
        found = [] if self.opaque else named or output_names(self.model, len(outputs))
        self.output_names = self._names.setdefault("outputs", found)
        for name, tensor in zip(self.output_names, outputs, strict=True):
            # Of half precisions a wider copy, which holds the same numbers: NumPy has no bfloat16 of its own.
            half = tf.as_dtype(tensor.dtype) in (tf.bfloat16, tf.float16)
            self._add(Stage.OUTPUTS, name, (rows, *tensor.shape[1:]), tf.float32 if half else tensor.dtype)
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
        self._logs[stage, name] = Log(self.steps + 2, tuple(shape), dtype, self.devices)

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

        if self.in_step or tf.executing_eagerly():
            return self._row(replica)
        # Nothing moves on while a graph runs, so one tensor does for all of its taps, of which every quantity has one.
        graph = tf.compat.v1.get_default_graph()
        known = self._placed.get(replica)
        if known is None or known[0]() is not graph:
            known = self._placed[replica] = (weakref.ref(graph), self._row(replica))
        return known[1]

    def _row(self, replica: int) -> Any:
        import tensorflow as tf

        return tf.expand_dims(tf.minimum(self._cursor.rows[replica].read_value(), self.steps), 0)

    def _first_of(self, counted: str, replica: int) -> Any:
        """This step's row, or the one that is never read if something was counted in this step already."""
        import tensorflow as tf

        step = self._step(replica)
        return tf.where(self._counts[counted].at(replica, step) > 0, [[self.steps + 1]], step)

    def _write(self, replica: int, stage: Stage, name: str, value: Any, row: Any = None) -> None:
        self._logs[stage, name].write(replica, self._step(replica) if row is None else row, value)

    def _mark(self, replica: int, stage: Stage, row: Any = None) -> None:
        self._reached = stage
        self._counts[stage.value].count(replica, self._step(replica) if row is None else row)

    # The taps.

    def batch(self, x: Any, y: Any, sample_weight: Any) -> None:
        """Record the rows this replica was given."""
        import tensorflow as tf

        replica = self._replica()
        if replica is None:
            return
        step = self._step(replica)
        self._rows.write(replica, step, tf.shape(tf.nest.flatten(x)[0])[0])
        for part, given in (("x", x), ("y", y), ("sample_weight", sample_weight)):
            if given is not None:
                self._part(replica, part, given, step)

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

    def _part(self, replica: int, part: str, given: Any, row: Any) -> None:
        """Record one of a batch's parts, all of its arrays or none."""
        names = [name for name in self.batch_names if _part_of(name) == part]
        values = self._as_logged(Stage.BATCH, names, leaves(self._named(part, given), self._part_names[part]))
        for name, leaf in zip(names, values, strict=False):
            self._write_rows(replica, Stage.BATCH, name, leaf, row)
        if values and part == "x":
            self._mark(replica, Stage.BATCH, row)
        elif values:
            self._counts[part].count(replica, row)

    def _named(self, part: str, given: Any) -> Any:
        """Inputs that a loop took out of their dictionary and gave the model as a list, by name again."""
        names = [getattr(tensor, "name", "") for tensor in getattr(self.model, "inputs", None) or ()]
        if part != "x" or not isinstance(given, list | tuple) or set(names) != set(self._part_names[part]):
            return given
        return dict(zip(names, given, strict=False))

    def _as_logged(self, stage: Stage, names: list[str], values: list[Any]) -> list[Any]:
        """Values with the logs' number of elements a row, in the logs' shapes; nothing if one has not.

        What a user's loop hands on may be squeezed, expanded, or something else altogether.
        """
        import tensorflow as tf

        if len(names) != len(values) or any(value is None for value in values):
            return []
        made: list[Any] = []
        for name, value in zip(names, values, strict=True):
            tensor = value if isinstance(value, tf.RaggedTensor) else tf.convert_to_tensor(value)
            wanted = self._logs[stage, name].rows[0].shape[2:]
            if isinstance(tensor, tf.RaggedTensor) or not tensor.shape.rank or tensor.dtype == tf.string:
                return []
            if not tensor.shape[1:].is_compatible_with(wanted):
                if tensor.shape[1:].num_elements() != wanted.num_elements():
                    return []
                tensor = tf.reshape(tensor, (-1, *wanted))
            made.append(tensor)
        return made

    def _write_rows(self, replica: int, stage: Stage, name: str, value: Any, row: Any = None) -> None:
        import tensorflow as tf

        most = self._logs[stage, name].rows[replica].shape[1]
        value = tf.convert_to_tensor(value)[:most]
        missing = most - tf.shape(value)[0]
        self._write(replica, stage, name, tf.pad(value, [[0, missing]] + [[0, 0]] * (value.shape.rank - 1)), row)

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

    def _owned(self) -> list[tuple[Stage, str, Any]]:
        """The variables of the optimizers that are the model's own: as many as have been made by now."""
        owned: list[tuple[Stage, str, Any]] = []
        for optimizer, variables in self._optimizers.variables().items():
            paths = [f"{optimizer}/{slot_name(variable)}" for variable in variables]
            names = self._names.setdefault(f"slots of {optimizer}", paths)
            owned += [(Stage.UPDATE, name, variable) for name, variable in zip(names, variables, strict=True)]
        return owned

    def name(self, variable: Any) -> str:
        """What a variable of the model is called in traces."""
        return self._name[id(variable)]

    def weights(self) -> dict[str, tuple[Array, ...]]:
        """Every weight as it is now, on every replica."""
        return {name: tuple(c.numpy() for c in self.components(v)) for name, v in self._held[Stage.WEIGHTS]}

    def _end_step(self, replica: int) -> None:
        """In the graph: record what the step left behind and go to the next one."""
        for stage, name, variable in self._left():
            self._write(replica, stage, name, self.components(variable)[replica].read_value())
        for stage in (Stage.UPDATE, Stage.WEIGHTS, Stage.STATE):
            self._mark(replica, stage)
        self._cursor.rows[replica].assign_add([1])

    def begin(self) -> None:
        """Before the first step, outside of any graph: record what it begins with. Later calls do nothing."""
        if not self._begun:
            self._begun = self._held_now()

    def _held_now(self) -> dict[tuple[Stage, str], tuple[Array, ...]]:
        """Every weight and state as it is now, on every replica."""
        return {
            (stage, name): tuple(c.numpy() for c in self.components(v))
            for stage, held in self._held.items()
            for name, v in held
        }

    def between(self) -> None:
        """After a callback: record what the next step begins with, slots included where they are built."""
        step = self.ended()
        slots = zip(self._slot_names, self.optimizer.variables, strict=False)
        built = {(Stage.UPDATE, name): tuple(c.numpy() for c in self.components(v)) for name, v in slots}
        held = self._held_now()
        self._callbacks_left.update({(step, *key): value for key, value in {**built, **held}.items()})
        if step == 0:
            self._begun = held

    def evaluating(self) -> None:
        """After callbacks that were told of an evaluation: record what the model is evaluated with."""
        step = self.ended() - 1
        self._evaluated.update({(step, *key): value for key, value in self._held_now().items()})

    def ending(self) -> None:
        """After training and before the last of the callbacks: note the weights."""
        self._at_end = self.weights()

    def ended_by(self, stopped: bool) -> None:
        """After the last of the callbacks: note whether they stopped the training, and whether they moved weights."""
        self._stopped = stopped
        self._moved_at_end = any(not _same(self._at_end.get(name, ()), now) for name, now in self.weights().items())

    def stopped_early(self) -> None:
        """After training: note that a callback has stopped it."""
        self._stopped = True

    def end_step(self) -> None:
        """Between steps: record what the step left behind and go to the next one."""
        if self.in_step:
            return
        step = self._ended
        for stage, name, variable in (*self._left(), *self._owned()):
            self._between[step, stage, name] = tuple(c.numpy() for c in self.components(variable))
        self._ended += 1
        for row in self._cursor.rows:
            row.assign([self._ended])
        self._reached = Stage.STATE

    def ended(self) -> int:
        """How many steps have ended."""
        return int(self._cursor.read()[0][0])

    def log_name(self, name: str) -> str:
        """The name of something reported, with the output it is of called as in the first arm."""
        if self.opaque:
            return name
        for ours, theirs in zip(output_names(self.model, len(self.output_names)), self.output_names, strict=True):
            for prefix in (f"{ours}_", f"val_{ours}_"):
                if name.startswith(prefix):
                    return prefix.replace(ours, theirs) + name.removeprefix(prefix)
        return name

    # Before and after a run.

    def reset(self) -> None:
        """Forget the last run."""
        logs = [self._cursor, self._rows, self._rates, *self._counts.values(), *self._logs.values()]
        for log in (*logs, *(log for *_, log in self._first)):
            log.clear()
        self._between.clear()
        for variable, value in self._optimizers.beginning(self.strategy):
            for component in self.components(variable):
                component.assign(value)
        self._callbacks_left.clear()
        self._evaluated.clear()
        self._stopped = self._moved_at_end = False
        self._begun = {}
        self._ended = 0

    def start(self, slot_values: list[Array]) -> dict[tuple[Stage, str], tuple[Array, ...]]:
        """What a run starts from; `slot_values` are those of an optimizer that is not built yet."""
        left = [(Stage.UPDATE, n, v) for n, v in zip(self._slot_names, self.optimizer.variables, strict=False)]
        left += [item for item in self._left() if item[0] is not Stage.UPDATE]
        held = {(stage, name): tuple(c.numpy() for c in self.components(v)) for stage, name, v in left}
        unbuilt = {
            (Stage.UPDATE, name): (value,) * len(self.devices)
            for name, value in zip(self._slot_names, slot_values, strict=True)
        }
        return {**unbuilt, **held}

    def read(self, arm: Arm) -> Trace:
        """The trace of the run that has ended."""
        ended = self.ended()
        trace = Trace(arm, len(self.devices), steps=ended, reached=self._reached)
        trace.applied, trace.foreign = self.applied or self.opaque, () if self.given else self.strange
        counts = {name: log.read() for name, log in self._counts.items()}
        rows = self._rows.read()
        last = self.steps + (ended > self.steps)
        if self._by_calls and self.in_step:
            # What no `apply` has ended was no step.
            last = min(last, ended)
        for (stage, name), log in self._logs.items():
            written = counts[stage.value if stage is not Stage.BATCH or name.startswith("x") else _part_of(name)]
            if not any(count[:last].any() for count in written):
                continue
            values = log.read()
            for step in range(last):
                if not any(count[step] for count in written):
                    continue
                kept = tuple(value[step] for value in values)
                if stage in (Stage.BATCH, Stage.OUTPUTS):
                    kept = tuple(value[: rows[index][step]] for index, value in enumerate(kept))
                trace.values[step, stage, name] = kept
        trace.values.update(self._between)
        for stage, name, variable in (*self._left(), *self._owned()):
            trace.values[FINAL, stage, name] = tuple(c.numpy() for c in self.components(variable))
        self._read_beside(trace, counts, last)
        return trace

    def _read_beside(self, trace: Trace, counts: dict[str, list[Array]], last: int) -> None:
        """What is recorded beside the compared quantities."""
        (rates, *_) = self._rates.read()
        (updates, *_) = counts[Stage.GRADIENT.value]
        trace.rates = {step: float(rates[step]) for step in range(last) if updates[step]}
        trace.first = dict(self._begun)
        trace.begun, trace.evaluated = dict(self._callbacks_left), dict(self._evaluated)
        trace.stopped = self._stopped
        weights = trace.stage(trace.steps - 1, Stage.WEIGHTS) if trace.steps else {}
        left = {name: trace.begun.get((trace.steps, Stage.WEIGHTS, name), value) for name, value in weights.items()}
        moved = any(not _same(left[name], value) for name, value in weights.items())
        trace.moved_at_end = self._moved_at_end or moved
        if not self._by_calls:
            return
        calls = counts[CALLS]
        trace.calls = {step: tuple(int(count[step]) for count in calls) for step in range(min(last, trace.steps))}
        if any(count[0] for count in (*calls, *counts[Stage.OUTPUTS.value])):
            trace.first |= {(stage, n): tuple(value[0] for value in log.read()) for stage, n, _, log in self._first}


def under_tape() -> bool:
    """Whether a `GradientTape` listens, in the code that is run or traced: a step's forward pass is under one."""
    from tensorflow.python.eager import record

    return bool(record.could_possibly_record())


def _same(one: tuple[Array, ...], other: tuple[Array, ...]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))


def _part_of(name: str) -> str:
    """The part of a batch that one of its arrays belongs to."""
    return name.partition("[")[0]


def slot_name(variable: Any) -> str:
    """An optimizer variable's path without the optimizer's own name, which differs from instance to instance."""
    path: str = variable.path
    return path.partition("/")[2] or path


def output_names(model: Any, count: int = 1) -> list[str]:
    """The names of a model's outputs, as `fit` reports them; a subclassed model's are numbered."""
    names = getattr(model, "output_names", None)
    if names and isinstance(model.output, Mapping):
        return sorted(model.output)
    if names:
        return list(names)
    if count == 1:
        return [model.layers[-1].name if model.layers else "output"]
    return [f"output[{index}]" for index in range(count)]
