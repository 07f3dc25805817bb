"""From a case to Keras objects: a pure function, the same objects each time.

Every layer has its name from the case, every random layer a seed derived from it, and the initial weights come from
NumPy, not from Keras's initializers: two arms, two processes and two Keras versions start from the same bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.case import Case, owner_of
from conformance.data import Array
from conformance.frozen import thaw
from conformance.functions import loss_function
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.optimizers import OPTIMIZERS

METRIC_CLASSES = {
    "mean_squared_error": "MeanSquaredError",
    "mean_absolute_error": "MeanAbsoluteError",
}
ACCURACY = {"onehot": "CategoricalAccuracy", "label": "SparseCategoricalAccuracy", "binary": "BinaryAccuracy"}


@contextlib.contextmanager
def policy(precision: str) -> Iterator[None]:
    """Layers that are made inside are of that dtype policy; the one that was set before is put back."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def model(case: Case) -> Any:
    """The uncompiled `keras.Model` of a case, in its precision and with its initial weights."""
    with policy(case.precision):
        return model_under_policy(case)


def model_under_policy(case: Case) -> Any:
    """The same in the precision of the policy that is set, whatever the case's own: the referee's is another."""
    import keras

    spec = case.model
    tensors: dict[str, Any] = {
        item.name: keras.Input(item.shape, name=item.name, dtype="float32" if item.below is None else "int32")
        for item in spec.inputs
    }
    inputs = list(tensors.values())
    layers = {node.name: _layer(case, index) for index, node in enumerate(spec.nodes) if node.shares is None}
    if spec.kind == "sequential":
        built = keras.Sequential([*inputs, *layers.values()], name="model")
    else:
        for node in spec.nodes:
            incoming = [tensors[name] for name in node.inputs]
            layer = layers[owner_of(spec, node).name]
            tensors[node.name] = layer(incoming[0] if len(incoming) == 1 else incoming)
        outputs = [tensors[name] for name in spec.outputs]
        built = keras.Model(
            inputs[0] if len(inputs) == 1 else inputs, outputs[0] if len(outputs) == 1 else outputs, name="model"
        )
    initialize(built, case.seed)
    return built


def initialize(built: Any, seed: int) -> None:
    """Give every weight its initial value: normal, with the variance that keeps activations near one.

    Moving statistics and random states keep what their layer gave them, for a moving variance must be positive and a
    random state is not a weight.
    """
    rng = np.random.default_rng(seed)
    for variable in weight_variables(built):
        shape = tuple(variable.shape)
        variable.assign(rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])))


def weight_variables(built: Any) -> list[Any]:
    """The model's weights, frozen ones too, but neither moving statistics nor random states."""
    return [v for v in built.weights if not v.name.startswith(("moving_", "seed_"))]


def layer_seed(case: Case, index: int) -> int:
    """The seed of the random layer at that place among the nodes."""
    return (case.seed * 1009 + index) % (2**31 - 1) + 1


def _layer(case: Case, index: int) -> Any:
    import keras

    node = case.model.nodes[index]
    entry = LAYERS[node.layer or ""]
    config = {key: _value(value) for key, value in node.config.items()}
    if entry.random:
        config["seed"] = layer_seed(case, index)
    make: Callable[..., Any] = entry.make or getattr(keras.layers, entry.name)
    return make(name=node.name, **config)


def _value(value: Any) -> Any:
    import keras

    if isinstance(value, Mapping):
        ((kind, amount),) = value.items()
        makers = {
            "l1": keras.regularizers.L1,
            "l2": keras.regularizers.L2,
            "max_norm": keras.constraints.MaxNorm,
        }
        return makers[kind](amount)
    return tuple(value) if isinstance(value, tuple) else value


def losses(case: Case) -> list[Any]:
    """One `keras.losses.Loss` or plain function an output."""
    import keras

    made: list[Any] = []
    # Losses know nothing of policies; by default they round float64 to float32, and widen half precisions to it.
    precision = {"dtype": "float64"} if case.precision == "float64" else {}
    for loss in case.losses:
        entry = LOSSES[loss.name]
        if entry.make is not None:
            made.append(entry.make if entry.returns else entry.make(**thaw(loss.config)))
        elif entry.keras_class is None:
            made.append(loss_function(loss.name))
        else:
            made.append(getattr(keras.losses, entry.keras_class)(**thaw(loss.config), **precision))
    return made


def optimizer(case: Case) -> Any:
    """The unbuilt `keras.optimizers.Optimizer` of a case.

    Under `mixed_float16` it is inside the `LossScaleOptimizer` that `compile` would put around it: so every trainer has
    the same one, and `compile` finds it done.
    """
    import keras

    make = OPTIMIZERS[case.optimizer.name].make or getattr(keras.optimizers, case.optimizer.name)
    made = make(**thaw(case.optimizer.config))
    return keras.optimizers.LossScaleOptimizer(made) if case.precision == "mixed_float16" else made


def metrics(case: Case) -> list[list[Any]]:
    """The metrics of each output; those that its targets have no use for are left out."""
    import keras

    made: list[list[Any]] = []
    for loss in case.losses:
        target = LOSSES[loss.name].target
        names = {
            name: METRIC_CLASSES.get(name, ACCURACY.get(target))
            for name in case.metrics
            if (name == "accuracy") == (target in ("onehot", "label"))
        }
        made.append([getattr(keras.metrics, kind)(name=name) for name, kind in names.items() if kind])
    return made


@dataclass(frozen=True)
class Parts:
    """What a training is made of; every arm makes its own, under its own strategy's scope.

    Attributes:
        model: makes the uncompiled model, with its initial weights, under the dtype policy that is set.
        optimizer: makes the optimizer.
        losses: makes one loss an output.
        loss_weights: the losses' factors, or None.
        metrics: makes the metrics of each output.
        built_first: whether the optimizer is built before training.
        compile: compiles a model of which only its own `train_step` says what a step is, as it wants it; None for all
            others.
        single: whether such a model has one optimizer, as every other has, so that a step is given it by itself.
    """

    model: Callable[[], Any]
    optimizer: Callable[[], Any]
    losses: Callable[[], list[Any]]
    loss_weights: tuple[float, ...] | None = None
    metrics: Callable[[], list[list[Any]]] = list
    built_first: bool = True
    compile: Callable[[Any], None] | None = None
    single: bool = False


def parts(case: Case) -> Parts:
    """The parts of a case."""
    weights = tuple(loss.weight for loss in case.losses if loss.weight is not None)
    return Parts(
        lambda: model_under_policy(case),
        lambda: optimizer(case),
        lambda: losses(case),
        weights or None,
        lambda: metrics(case),
        case.optimizer.built_first,
    )


HALF_DIGITS = {"mixed_bfloat16": 8, "mixed_float16": 11}
"""The binary digits of a number in the half precisions that mixed policies compute in."""


def half_policies(model: Any) -> list[str]:
    """The policies in half precision of a model's layers, as a maker of a model may name them."""
    found = (layer.dtype_policy.name for layer in model._flatten_layers())
    return list(dict.fromkeys(name for name in found if name in HALF_DIGITS))


def perturbed(value: Array, rng: np.random.Generator, precision: str = "float32") -> Array:
    """Every float moved by one ulp up or down at random, the smallest difference two correct roundings can make.

    Args:
        value: what to move.
        rng: chooses up or down.
        precision: a policy; under a mixed one an ulp is one of the half precision that the value is computed with, for
            any smaller move the next rounding undoes.
    """
    if value.dtype.kind != "f":
        return value
    if precision in HALF_DIGITS:
        unit = value.dtype.type(2.0 ** -HALF_DIGITS[precision])
        widened: Array = value * (1 + np.where(rng.random(value.shape) < 0.5, -unit, unit)).astype(value.dtype)
        return widened
    away = np.where(rng.random(value.shape) < 0.5, -np.inf, np.inf).astype(value.dtype)
    # Zeros stay: their ulp is a denormal, and a zero is as a rule exact (a bias, a slot, padding). So does what has
    # overflowed: one step down from infinity is a finite number.
    moved: Array = np.where((value == 0) | ~np.isfinite(value), value, np.nextafter(value, away))
    return moved
