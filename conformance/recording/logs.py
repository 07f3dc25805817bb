"""The logs of one prepared arm, and where in them a step's values go.

Each replica has logs of its own, on its own device and outside of the strategy, so that what is written on a replica
is what that replica saw, not what the strategy made of it.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from conformance.data import Array, leaves
from conformance.model_state import is_state, paths_of, variables_of
from conformance.recording.assignments import Assignments
from conformance.recording.log import Log
from conformance.recording.names import output_names, part_of
from conformance.several import Optimizers
from conformance.stage import Stage

CALLS, LOSSES, APPLIES = "calls", "losses", "applies"
"""What is counted beside the stages: calls of the model, and of the loss it was given, under a tape; and of `apply`."""


class Logs:
    """What was recorded of one prepared arm.

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
        due: the rows of every step's global batch.
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
        due: Sequence[int] = (),
        opaque: bool = False,
    ) -> None:
        import tensorflow as tf

        self.strategy, self.steps, self.model, self.optimizer = strategy, steps, model, optimizer
        self.in_step = False
        self._due = tuple(due)
        self.opaque, self._optimizers = opaque, Optimizers({})
        self.applied = False
        self.called = False
        self.strange: tuple[str, ...] = ()
        self.given: set[str] = set()
        self._handed_in: list[frozenset[str]] = []
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
        self._carried: list[tuple[str, Any, Log]] = []
        counted = [*(stage.value for stage in Stage), "y", "sample_weight", CALLS, LOSSES, APPLIES]
        self._counts = {name: Log(steps + 2, (), tf.int32, self.devices) for name in counted}
        self._rows = Log(steps + 2, (), tf.int32, self.devices)
        rows = len(next(iter(leaves(sample[0]))))
        # By call of a step its rows: more calls than rows are no parts of a batch.
        self._sizes = Log(steps + 2, (rows,), tf.int32, self.devices)
        self._filled = {name: Log(steps + 2, (), tf.int32, self.devices) for name in (CALLS, LOSSES)}
        self._rates = Log(steps + 2, (), tf.float32, self.devices)
        self._rated: set[int] = set()
        self._placed: dict[int, tuple[weakref.ref[Any], Any]] = {}
        self._by_calls = False
        self._tails = Log(1, (), tf.int32, self.devices)
        self._assigned: Assignments | None = None
        self._beside: Any = None
        self._beside_at_first: list[tuple[Any, Array]] = []
        self._names = names
        paths = names.setdefault("variables", paths_of(model))
        self._slot_names = names.setdefault("slots", [name for name, _, _ in slots])
        self._name = {id(v): path for v, path in zip(variables_of(model), paths, strict=True)}
        self._trainable = [(self._name[id(v)], v) for v in model.trainable_variables]
        self._component_name: dict[int, tuple[str, int]] = {}
        for name, variable in self._trainable:
            for index, component in enumerate(self.components(variable)):
                self._component_name[id(component)] = (name, index)
        # By whatever people hand on: the model's own variables, what is behind them, or what a tape has watched.
        self._known = {
            id(item): self._name[id(variable)]
            for variable in variables_of(model)
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
        for variable in variables_of(self.model):
            if id(variable) in known or not is_state(variable):
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
        import keras

        # Inside of a model that computes in a half precision, `value` is a cast of what the variable holds.
        value = variable._value if isinstance(variable, keras.Variable) else getattr(variable, "value", variable)
        value = value() if callable(value) else value
        found: tuple[Any, ...] = tuple(self.strategy.experimental_local_results(value))
        return found

    def shape(self, stage: Stage, name: str) -> tuple[int, ...]:
        """The shape of one of a step's quantities on a replica, for the most rows that it may have."""
        return tuple(self._logs[stage, name].rows[0].shape[1:])

    def name(self, variable: Any) -> str:
        """What a variable of the model is called in traces."""
        return self._name[id(variable)]

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

    def _write_rows(
        self, replica: int, stage: Stage, name: str, value: Any, row: Any = None, start: Any = None
    ) -> None:
        import tensorflow as tf

        if start is not None:
            self._logs[stage, name].write_from(replica, row, start, tf.convert_to_tensor(value), self.steps + 1)
            return
        most = self._logs[stage, name].rows[replica].shape[1]
        value = tf.convert_to_tensor(value)[:most]
        missing = most - tf.shape(value)[0]
        self._write(replica, stage, name, tf.pad(value, [[0, missing]] + [[0, 0]] * (value.shape.rank - 1)), row)

    def _part(self, replica: int, part: str, given: Any, row: Any, start: Any = None) -> None:
        """Record one of a batch's parts, all of its arrays or none; from a start on, behind what is there of it."""
        names = [name for name in self.batch_names if part_of(name) == part]
        values = self._as_logged(Stage.BATCH, names, leaves(self._named(part, given), self._part_names[part]))
        for name, leaf in zip(names, values, strict=False):
            self._write_rows(replica, Stage.BATCH, name, leaf, row, start)
        if values and part == "x":
            self._mark(replica, Stage.BATCH, row)
        elif values:
            self._counts[part].count(replica, row)

    def _named(self, part: str, given: Any) -> Any:
        """Inputs that a loop took out of their dictionary and gave the model as a list, by name again."""
        names = [getattr(tensor, "name", "") for tensor in getattr(self.model, "inputs", None) or ()]
        # A model that is a class of its own has no inputs to name.
        if part != "x" or not names or not isinstance(given, list | tuple) or set(names) != set(self._part_names[part]):
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
