"""The parts of a user's own as those of a training: what makes model, optimizer, losses and metrics for every arm."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from conformance.build import Parts
from conformance.data import Array, Arrays
from conformance.errors import ConformanceError, UsageError
from conformance.raised import shortened
from conformance.recording import output_names
from conformance.several import compiling, optimizers_of
from conformance.trainers.fit import has_own_step
from conformance.user_data import ordered

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


def check_optimizers(given: Any) -> None:
    """Refuse what makes no optimizer; several are a dictionary of them."""
    for item in given.values() if isinstance(given, Mapping) else [given]:
        if item is not None and not (callable(item) or isinstance(item, str) or hasattr(item, "get_config")):
            raise UsageError(f"optimizer={item!r} should be a name, a keras.optimizers.Optimizer or make one")
        check_names("optimizer", item)


def trains_itself(make: Callable[[], Any], optimizer: Any) -> bool:
    """Whether a model trains with optimizers of its own: those of its own `compile`, or of its own making."""
    if isinstance(optimizer, Mapping):
        return True
    import keras

    try:
        made = make()
    except Exception:  # noqa: BLE001 - what a user's function raises is seen in every arm, and judged there
        return False
    return isinstance(made, keras.Model) and has_own_step(made) and bool(optimizers_of(made))


def own_parts(
    make: Callable[[], Any], optimizer: Any, given: Mapping[str, Any], metrics: Sequence[Any], rows: Arrays
) -> Parts:
    """The parts of a model that trains with optimizers of its own, and may have no `call`."""
    import keras

    def made() -> Any:
        model = make()
        if not isinstance(model, keras.Model) or not has_own_step(model):
            raise UsageError(
                "several optimizers are for a keras.Model with a train_step of its own; give one optimizer, or such a"
                " model"
            )
        return model if model.variables else made_model(lambda: model, rows)

    def arguments() -> dict[str, Any]:
        found = {name: value for name, value in given.items() if value is not None}
        return found | ({"metrics": [_made_metric(item, rows.y[0]) for item in metrics]} if metrics else {})

    several = optimizer if isinstance(optimizer, Mapping) else {"optimizer": optimizer} if optimizer else {}
    # Nothing trains with the optimizer that the arms know of.
    return Parts(
        made, keras.optimizers.SGD, list, built_first=False, compile=compiling(arguments, several, made_optimizer)
    )


def named(
    rows: Arrays, loss_weights: Any, make: Callable[[], Any]
) -> tuple[Arrays, tuple[float, ...] | None, Exception | None]:
    """The rows and the losses' factors in the order of the model's outputs; or what making the model raised.

    That is an arm's to tell, and every arm will.
    """
    try:
        rows = fitted(rows, make)
        weights = None if loss_weights is None else tuple(map(float, by_output(loss_weights, make, rows)))
    except ConformanceError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the user's function raises is an observation
        return rows, None, error
    return rows, weights, None


def made_model(make: Callable[[], Any], rows: Arrays) -> Any:
    """The model, built: a subclassed one has its variables when it has seen a row."""
    import keras

    model = make()
    if not isinstance(model, keras.Model):
        raise UsageError(f"model() gave {type(model).__name__}, which is no keras.Model")
    if not model.built or not model.variables:
        model(rows.map(lambda array: array[:1]).structure()[0])
    return model


def fitted(rows: Arrays, make: Callable[[], Any]) -> Arrays:
    """The rows with what is given by name in the order of the model's outputs, and the names checked.

    Raises:
        UsageError: when they are not the model's, or `fit` takes no names there.
    """
    if not (rows.x_names or rows.y_names or rows.weight_names):
        return rows
    model = made_model(make, rows)
    known = getattr(model, "inputs", None)
    if known and rows.x_names:
        given = getattr(model, "input", None) if hasattr(model, "output_names") else None
        inputs = list(given) if isinstance(given, Mapping) else [tensor.name for tensor in known]
        if set(rows.x_names) != set(inputs):
            raise UsageError(f"the inputs {list(rows.x_names)} are not the model's inputs {inputs}")
    if not (rows.y_names or rows.weight_names):
        return rows
    outputs = _outputs(model, rows)
    named = isinstance(outputs, Mapping)
    if not named and not (known and isinstance(outputs, list | tuple)):
        one = "a model of one output" if known else "a model whose outputs have no names"
        raise UsageError(f"targets or sample weights as a dictionary for {one}; fit takes arrays there, or a tuple")
    if rows.weight_names and not named:
        raise UsageError(
            "sample weights as a dictionary for a model whose outputs are a list; fit takes a tuple of them there"
        )
    return ordered(rows, "the targets", sorted(outputs) if named else output_names(model))


def _outputs(model: Any, rows: Arrays) -> Any:
    """A model's outputs in its own structure; a subclassed model shows it when it is called."""
    if getattr(model, "inputs", None):
        # A Sequential has one, and no structure of it.
        return model.output if hasattr(model, "output_names") else model.outputs[0]
    return model(rows.map(lambda array: array[:1]).structure()[0])


def made_optimizer(given: Any) -> Any:
    """A new optimizer of a name, an optimizer's configuration or a function that makes one."""
    import keras

    if isinstance(given, keras.optimizers.Optimizer):
        return type(given).from_config(given.get_config())
    made = keras.optimizers.get(given) if isinstance(given, str) else given()
    if not isinstance(made, keras.optimizers.Optimizer):
        raise UsageError(f"optimizer gave {type(made).__name__}, which is no keras.optimizers.Optimizer")
    return made


def by_output(given: Any, make: Callable[[], Any], rows: Arrays) -> list[Any]:
    """What was given for each output, in the outputs' order."""
    if isinstance(given, Mapping):
        model = made_model(make, rows)
        outputs = _outputs(model, rows)
        names = sorted(outputs) if isinstance(outputs, Mapping) else output_names(model)
        if set(names) != set(given):
            raise UsageError(f"{sorted(given)} are not the model's outputs {names}")
        return [given[name] for name in names]
    return list(given) if isinstance(given, list | tuple) else [given]


def made_losses(given: Any, make: Callable[[], Any], rows: Arrays) -> list[Any]:
    """The losses in the outputs' order; of a class one is made, as `compile` does it."""
    return [item() if isinstance(item, type) else item for item in by_output(given, make, rows)]


def made_metrics(given: Sequence[Any], rows: Arrays, make: Callable[[], Any]) -> list[list[Any]]:
    """New metrics for every output."""
    return [[_made_metric(item, target) for item in given] for target in rows.y]


def check_metrics(given: Sequence[Any]) -> None:
    """Refuse metrics that no way of training could be given, before anything is trained."""
    import keras

    check_names("metric", [item for item in given if isinstance(item, str) and item not in ACCURACIES])
    for item in given:
        made = _anew(item) if isinstance(item, keras.metrics.Metric) else item() if _makes(item) else None
        if made is not None and not isinstance(made, keras.metrics.Metric):
            raise UsageError(f"a function among metrics gave {type(made).__name__}, which is no keras.metrics.Metric")


def _makes(given: Any) -> bool:
    """Whether a function takes nothing, so that it is none of targets and outputs: it makes a metric."""
    return inspect.isfunction(given) and not inspect.signature(given).parameters


def _anew(given: Any) -> Any:
    """A metric from another's configuration; one that does not say all of it would be another metric."""
    kind, config = type(given), given.get_config()
    # A class that has arguments of its own and no configuration of its own.
    made, configured = (_defines(kind, name) for name in ("__init__", "get_config"))
    own = inspect.signature(kind.__init__).parameters.values() if made < configured else ()
    named = (item.name for item in own if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD))
    lost = [name for name in named if name not in {"self", *config}]
    why = f"its get_config leaves out {', '.join(lost)}" if lost else ""
    try:
        if not why:
            return kind.from_config(config)
    except Exception as error:  # noqa: BLE001 - a user's class may raise anything
        why = f"{type(error).__name__}: {shortened(str(error))}"
    raise UsageError(f"the metric {kind.__name__} cannot be made anew: {why}; give a function without arguments for it")


def _defines(kind: type, name: str) -> int:
    """How far up its bases a class has a method from."""
    return next(index for index, base in enumerate(kind.__mro__) if name in vars(base))


def _made_metric(given: Any, target: Array) -> Any:
    import keras

    if given in ACCURACIES:
        if target.dtype.kind in "iu" or target.ndim == 1:
            return keras.metrics.SparseCategoricalAccuracy(name=given)
        one = target.shape[-1] == 1
        return (keras.metrics.BinaryAccuracy if one else keras.metrics.CategoricalAccuracy)(name=given)
    if isinstance(given, keras.metrics.Metric):
        return _anew(given)
    if isinstance(given, type) or _makes(given):
        return given()
    found = keras.metrics.get(given)
    if isinstance(found, keras.metrics.Metric):
        # Reported by the name that was asked for, as `compile` has it.
        found.name = given if isinstance(given, str) else found.name
        return found
    name = given if isinstance(given, str) else getattr(given, "__name__", "metric")
    return keras.metrics.MeanMetricWrapper(found, name=name)
