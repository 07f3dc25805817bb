"""The model once more, in the referee's precision: the forward pass and the tape are all that is shared with Keras.

A twin is made by the same function as the arms' models and is given, at every step, the weights and states that the
arm had recorded before it. What its layers add to the loss is taken away from Keras: the activity regularizers of a
twin only take down their inputs, and the arithmetic is the referee's.

The same twin in the arm's own precision shows how far honest rounding lies from the referee.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from conformance.build import HALF_DIGITS, policy
from conformance.data import Array, packed
from conformance.model_state import is_state, variables_of
from conformance.referee.draws import drawn_as, draws
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


class _Call(NamedTuple):
    """How a model is called; each way has a graph of its own."""

    training: bool
    xla: bool
    silent: bool


class Twin:
    """The training's model in another precision.

    `holds` says whose weights it has: whoever loads some may note it there, and load them again only where they are
    other ones; the weights of a step do not change in its forward pass.

    Args:
        training: the training; an arm of it has been prepared, so that names are known.
        precision: a dtype or the name of a policy.
        drawn: the policy of the arm, in whose precision its random layers draw.
        around: the precision of all that is computed with what the model gives; the model's own by default.
    """

    def __init__(self, training: Training, precision: str, drawn: str, *, around: str | None = None) -> None:
        self.precision, self._draws = precision, drawn.removeprefix("mixed_")
        self.compute = precision.removeprefix("mixed_")
        self.dtype = around or self.compute
        # A functional model calls its layers while it is made, and they draw there as they do in a step.
        made = precision if self._wide else training.precision
        with policy(made), drawn_as(self._draws, computed=self._wide):
            self.model = training.parts.model()
            if self._wide:
                _widen(self.model, precision)
        replace_calls(self.model)
        self.variables = dict(zip(training.names["variables"], variables_of(self.model), strict=True))
        self._names = {id(v): name for name, v in self.variables.items()}
        self.trainable = {self._names[id(v)]: v for v in self.model.trainable_variables}
        self.holds: Any = None
        self._input_names = training.data.x_names
        self._sink: list[Activity] = []
        self._compiled = False
        self._functions: dict[_Call, Callable[..., Any]] = {}
        self._draw_counts: dict[_Call, Counter[int]] = {}
        self._regularizers: dict[_Call, list[Any]] = {}
        layers = self.model._flatten_layers()
        self.random = draws(self.model)
        # Layers through which the rows of a batch see one another: under replicas those of a part do.
        self.coupled = [layer for layer in layers if hasattr(layer, "moving_mean")]
        for layer in self.model._flatten_layers():
            if getattr(layer, "activity_regularizer", None) is not None:
                layer.activity_regularizer = self._taken_down(layer.activity_regularizer)

    @property
    def _wide(self) -> str | None:
        """To what is cast that a layer draws without naming a dtype: Keras's own does not go together with float64."""
        return self.compute if self.compute == "float64" else None

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

    @property
    def scales(self) -> frozenset[str]:
        """The names of the scales of normalizations that couple rows."""
        found = (getattr(layer, "gamma", None) for layer in self.coupled)
        return frozenset(self._names[id(gamma)] for gamma in found if gamma is not None and id(gamma) in self._names)

    def _taken_down(self, regularizer: Any) -> Callable[[Any], Any]:
        import tensorflow as tf

        def take_down(output: Any) -> Any:
            self._sink.append(Activity(regularizer, output))
            return tf.zeros((), output.dtype)

        return take_down

    def load(self, values: Mapping[str, Array]) -> None:
        """Give variables their values; those that are not named keep what they have."""
        self.holds = None
        for name, value in values.items():
            self.variables[name].assign(np.asarray(value))

    def forward(
        self, x: Sequence[Array], *, training: bool = True, times: int = 1, xla: bool = False, silent: bool = False
    ) -> Forward:
        """Run the model on one replica's rows from the values it was given.

        Args:
            x: the inputs, (rows, ...) each.
            training: the mode.
            times: how often the model is called; the last call is what is returned.
            xla: whether random layers draw as they do under XLA.
            silent: whether they draw nothing.
        """
        import tensorflow as tf

        # A layer rounds to a half precision what it is given, but for those that compute on wider numbers.
        given = "float64" if self.compute == "float64" else "float32"
        inputs = [tf.cast(part, given) if part.dtype.kind == "f" else tf.constant(part) for part in x]
        before = {name: v.numpy() for name, v in self.variables.items() if v.name.startswith("seed_")}
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            for variable in self.trainable.values():
                tape.watch(variable.value)
            for _ in range(times):
                outputs, masks, activities, added = self._called(inputs, _Call(training, xla, silent))
        states = {name: v.numpy() for name, v in self.variables.items() if is_state(v)}
        for name, value in before.items():
            draws = self._draw_counts[_Call(training, xla, silent)][id(self.variables[name])]
            states[name] = counted_draws(value, times * draws)
        return Forward(outputs, masks, activities, added, states, tape, len(x[0]))

    def compile(self) -> None:
        """Run the model as a graph from now on, which is traced once and pays where there are many steps."""
        self._compiled = True

    def _called(self, inputs: list[Any], key: _Call) -> tuple[list[Any], list[Any], list[Activity], Any]:
        """One call of the model: (outputs, masks, what is regularized, the sum of what layers add)."""
        import tensorflow as tf

        def call(*given: Any) -> tuple[Any, ...]:
            self._sink.clear()
            with drawn_as(self._draws, xla=key.xla, silent=key.silent, computed=self._wide) as drawn:
                outputs = tf.nest.flatten(self.model(packed(given, self._input_names), training=key.training))
            # Keras lists the weights' penalties last, and the referee computes those by itself.
            own = list(self.model.losses)[: len(self.model.losses) - len(self.penalized)]
            added = tf.add_n([tf.reduce_sum(tf.cast(term, self.compute)) for term in own]) if own else 0.0
            self._draw_counts[key] = drawn
            self._regularizers[key] = [item.regularizer for item in self._sink]
            hidden = [[getattr(leaf, name, None) for leaf in outputs] for name in _HIDDEN]
            return outputs, hidden, [item.output for item in self._sink], added

        function = call
        # Some operations refuse to be run on no rows at all, as a replica may have, where a graph of them does not.
        if self._compiled or not len(inputs[0]):
            if key not in self._functions:
                specs = [tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in inputs]
                self._functions[key] = tf.function(call, input_signature=specs, autograph=False)
            function = self._functions[key]
        outputs, hidden, regularized, added = function(*inputs)
        for name, values in zip(_HIDDEN, hidden, strict=True):
            for leaf, value in zip(outputs, values, strict=True):
                # What Keras notes on a tensor does not come out of a graph with it.
                if value is not None:
                    setattr(leaf, name, value)
        pairs = zip(self._regularizers[key], regularized, strict=True)
        return list(outputs), list(hidden[0]), [Activity(*pair) for pair in pairs], added


def _widen(model: Any, precision: str) -> None:
    """Have layers that were made with a half precision of their own compute in another."""
    import keras

    for layer in model._flatten_layers():
        if layer.dtype_policy.name in HALF_DIGITS:
            layer.dtype_policy = keras.DTypePolicy(precision)


_HIDDEN = ("_keras_mask", "_keras_logits")
"""What Keras notes on an output: which samples are masked, and the logits behind an activation."""
