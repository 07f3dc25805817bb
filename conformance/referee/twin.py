"""The model once more, in the referee's precision: the forward pass and the tape are all that is shared with Keras.

A twin is made by the same function as the arms' models and is given, at every step, the weights and states that the
arm had recorded before it. What its layers add to the loss is taken away from Keras: the activity regularizers of a
twin only take down their inputs, and the arithmetic is the referee's.

The same twin in the arm's own precision shows how far honest rounding lies from the referee.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from conformance.data import Array
from conformance.referee.draws import drawn_as
from conformance.referee.forward_clauses import counted_draws
from conformance.referee.normalization import replace_calls
from conformance.training import Training


@dataclass(frozen=True)
class Activity:
    """An output that is regularized: (the regularizer, the output), tensors (rows, ...)."""

    regularizer: Any
    output: Any


@dataclass(frozen=True)
class Forward:
    """One forward pass of one replica's rows.

    Attributes:
        outputs: tensors (rows, ...).
        masks: Keras's mask of each output, or None.
        activities: what is regularized.
        added: the sum of what layers added by `add_loss`, a scalar.
        states: moving statistics and random states afterwards, by name.
        tape: watches the weights; persistent.
        rows: the rows.
    """

    outputs: list[Any]
    masks: list[Any]
    activities: list[Activity]
    added: Any
    states: dict[str, Array]
    tape: Any
    rows: int

    def sliced(self, start: int, rows: int) -> Forward:
        """Those of its rows that are one replica's."""
        part = slice(start, start + rows)
        with self.tape:
            return replace(
                self,
                outputs=[output[part] for output in self.outputs],
                masks=[None if mask is None else mask[part] for mask in self.masks],
                activities=[Activity(item.regularizer, item.output[part]) for item in self.activities],
                rows=rows,
            )


class Twin:
    """The training's model in another precision.

    Args:
        training: the training; an arm of it has been prepared, so that names are known.
        dtype: a dtype or the name of a policy.
        draws: the dtype in which the arm's random layers draw.
    """

    def __init__(self, training: Training, dtype: str, draws: str) -> None:
        self.dtype, self._draws = dtype.removeprefix("mixed_"), draws
        self.compute = self.dtype
        with _policy(dtype):
            self.model = training.parts.model()
        replace_calls(self.model)
        self.variables = dict(zip(training.names["variables"], self.model.variables, strict=True))
        self._names = {id(v): name for name, v in self.variables.items()}
        self.trainable = {self._names[id(v)]: v for v in self.model.trainable_variables}
        self._sink: list[Activity] = []
        layers = self.model._flatten_layers()
        self.random = any(v.name.startswith("seed_") for v in self.model.variables)
        # Layers through which the rows of a batch see one another: under replicas those of a part do.
        self.coupled = [layer for layer in layers if hasattr(layer, "moving_mean")]
        for layer in self.model._flatten_layers():
            if getattr(layer, "activity_regularizer", None) is not None:
                layer.activity_regularizer = self._taken_down(layer.activity_regularizer)

    @property
    def penalized(self) -> dict[str, Any]:
        """The regularizers of the trainable weights, by the weight's name."""
        found = {name: getattr(v, "regularizer", None) for name, v in self.trainable.items()}
        return {name: regularizer for name, regularizer in found.items() if regularizer is not None}

    @property
    def constraints(self) -> dict[str, Any]:
        """The constraints of the trainable weights, by the weight's name."""
        found = {name: getattr(v, "constraint", None) for name, v in self.trainable.items()}
        return {name: constraint for name, constraint in found.items() if constraint is not None}

    def _taken_down(self, regularizer: Any) -> Callable[[Any], Any]:
        import tensorflow as tf

        def take_down(output: Any) -> Any:
            self._sink.append(Activity(regularizer, output))
            return tf.zeros((), output.dtype)

        return take_down

    def load(self, values: Mapping[str, Array]) -> None:
        """Give variables their values; those that are not named keep what they have."""
        for name, value in values.items():
            self.variables[name].assign(np.asarray(value))

    def forward(self, x: Sequence[Array], *, training: bool = True, times: int = 1, xla: bool = False) -> Forward:
        """Run the model on one replica's rows from the values it was given.

        Args:
            x: the inputs, (rows, ...) each.
            training: the mode.
            times: how often the model is called; the last call is what is returned.
            xla: whether random layers draw as they do under XLA.
        """
        import tensorflow as tf

        inputs = [tf.cast(part, self.compute) if part.dtype.kind == "f" else tf.constant(part) for part in x]
        before = {name: v.numpy() for name, v in self.variables.items() if v.name.startswith("seed_")}
        with (
            tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape,
            drawn_as(self._draws, xla=xla) as draws,
        ):
            for variable in self.trainable.values():
                tape.watch(variable.value)
            for _ in range(times):
                self._sink.clear()
                outputs = self.model(inputs[0] if len(inputs) == 1 else inputs, training=training)
            # Keras lists the weights' penalties last, and the referee computes those by itself.
            own = list(self.model.losses)[: len(self.model.losses) - len(self.penalized)]
            added = tf.add_n([tf.reduce_sum(tf.cast(term, self.compute)) for term in own]) if own else 0.0
        leaves = tf.nest.flatten(outputs)
        states = {name: v.numpy() for name, v in self.variables.items() if is_state(v)}
        for name, value in before.items():
            states[name] = counted_draws(value, draws[id(self.variables[name])])
        return Forward(
            leaves,
            [getattr(leaf, "_keras_mask", None) for leaf in leaves],
            list(self._sink),
            added,
            states,
            tape,
            len(x[0]),
        )


def is_state(variable: Any) -> bool:
    """Whether a variable is a moving statistic or a random state."""
    name: str = variable.name
    return name.startswith(("moving_", "seed_"))


@contextlib.contextmanager
def _policy(dtype: str) -> Iterator[None]:
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
