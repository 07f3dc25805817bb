"""The parts of a user's own as those of a training: what makes model, optimizer, losses and metrics for every arm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from conformance.data import Array, Arrays
from conformance.errors import UsageError

ACCURACIES = ("accuracy", "acc")
"""The names that mean another metric for every kind of target."""


def check_names(kind: str, given: Any) -> None:
    """Refuse the names that Keras does not know, before anything is trained: no arm can be blamed for them."""
    import keras

    if isinstance(given, Mapping):
        given = list(given.values())
    for name in given if isinstance(given, list | tuple) else [given]:
        if not isinstance(name, str):
            continue
        module = {"loss": keras.losses, "metric": keras.metrics, "optimizer": keras.optimizers}[kind]
        try:
            module.get(name)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{name!r} is no {kind} that Keras knows") from error


def made_model(make: Callable[[], Any], rows: Arrays) -> Any:
    """The model, built: a subclassed one has its variables when it has seen a row."""
    import keras

    model = make()
    if not isinstance(model, keras.Model):
        raise UsageError(f"model() gave {type(model).__name__}, which is no keras.Model")
    if not model.built or not model.variables:
        model(rows.map(lambda array: array[:1]).structure()[0])
    return model


def made_optimizer(given: Any) -> Any:
    """A new optimizer of a name, an optimizer's configuration or a function that makes one."""
    import keras

    if isinstance(given, keras.optimizers.Optimizer):
        return type(given).from_config(given.get_config())
    made = keras.optimizers.get(given) if isinstance(given, str) else given()
    if not isinstance(made, keras.optimizers.Optimizer):
        raise UsageError(f"optimizer gave {type(made).__name__}, which is no keras.optimizers.Optimizer")
    return made


def by_output(given: Any, make: Callable[[], Any]) -> list[Any]:
    """What was given for each output, in the outputs' order."""
    if isinstance(given, Mapping):
        from conformance.recording import output_names

        names = output_names(make())
        if set(names) != set(given):
            raise UsageError(f"{sorted(given)} are not the model's outputs {names}")
        return [given[name] for name in names]
    return list(given) if isinstance(given, list | tuple) else [given]


def made_metrics(given: Sequence[Any], rows: Arrays, make: Callable[[], Any]) -> list[list[Any]]:
    """New metrics for every output."""
    return [[_made_metric(item, target) for item in given] for target in rows.y]


def _made_metric(given: Any, target: Array) -> Any:
    import keras

    if given in ACCURACIES:
        if target.dtype.kind in "iu" or target.ndim == 1:
            return keras.metrics.SparseCategoricalAccuracy(name=given)
        one = target.shape[-1] == 1
        return (keras.metrics.BinaryAccuracy if one else keras.metrics.CategoricalAccuracy)(name=given)
    if isinstance(given, keras.metrics.Metric):
        return type(given).from_config(given.get_config())
    if isinstance(given, type):
        return given()
    found = keras.metrics.get(given)
    if isinstance(found, keras.metrics.Metric):
        # Reported by the name that was asked for, as `compile` has it.
        found.name = given if isinstance(given, str) else found.name
        return found
    name = given if isinstance(given, str) else getattr(given, "__name__", "metric")
    return keras.metrics.MeanMetricWrapper(found, name=name)
