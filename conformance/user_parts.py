"""The parts of a user's own as those of a training: what makes model, optimizer, losses and metrics for every arm."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from conformance.build import Parts
from conformance.data import Arrays
from conformance.errors import ConformanceError, UsageError
from conformance.optimizer_config import config_of
from conformance.recording import output_names
from conformance.several import compiling, optimizers_of
from conformance.trainers.fit import has_own_step
from conformance.user_data import ordered
from conformance.user_metrics import Metrics, made_anywhere, metrics_by_output
from conformance.user_outputs import (
    check_names,
    losses_by_output,
    made_model,
    outputs_of,
    structure_of,
    weights_by_output,
)


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


def has_own_loss(make: Callable[[], Any], loss: Any, optimizer: Any) -> bool:
    """Whether a model trains with the optimizer that is given, by a loss that only its own `train_step` knows."""
    import keras

    if loss is not None or optimizer is None or isinstance(optimizer, Mapping):
        return False
    try:
        made = make()
    except Exception:  # noqa: BLE001 - what a user's function raises is seen in every arm, and judged there
        return False
    return isinstance(made, keras.Model) and has_own_step(made)


def own_parts(make: Callable[[], Any], optimizer: Any, given: Mapping[str, Any], metrics: Any, rows: Arrays) -> Parts:
    """The parts of a model that trains with optimizers or by a loss of its own, and may have no `call`."""
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
        return found | ({"metrics": made_anywhere(metrics, rows.y[0])} if metrics else {})

    loss = given.get("loss")
    several = optimizer if isinstance(optimizer, Mapping) else {"optimizer": optimizer} if optimizer else {}
    # Nothing trains with the optimizer that the arms know of.
    return Parts(
        made,
        keras.optimizers.SGD,
        lambda: [] if loss is None else [loss],
        built_first=False,
        compile=compiling(arguments, several, made_optimizer),
        single=optimizer is not None and not isinstance(optimizer, Mapping),
    )


class Asked(NamedTuple):
    """What was asked for each output of the model, in the outputs' order.

    Attributes:
        rows: the rows, what is given by name in the order of the outputs.
        losses: the losses.
        weights: their factors, or None.
        metrics: the metrics, to be made anew for every arm.
        failed: what making the model raised: an arm's to tell, and every arm will.
    """

    rows: Arrays
    losses: list[Any]
    weights: tuple[float, ...] | None
    metrics: Metrics
    failed: Exception | None = None


def asked(make: Callable[[], Any], rows: Arrays, loss: Any, loss_weights: Any, metrics: Any) -> Asked:
    """What was asked for each output, checked against the model where it is by name or depends on its shape.

    Raises:
        UsageError: when it is not for the model's outputs.
    """
    outputs = functools.cache(lambda: outputs_of(make, rows))
    try:
        rows = fitted(rows, make)
        losses = losses_by_output(loss, rows, outputs)
        weights = weights_by_output(loss_weights, rows, outputs)
        return Asked(rows, losses, weights, Metrics(metrics_by_output(metrics, rows, outputs), rows, outputs))
    except ConformanceError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the user's function raises is an observation
        return Asked(rows, [loss], None, Metrics([[]], rows, outputs), error)


def refuse_single_rows(make: Callable[[], Any], rows: Arrays) -> None:
    """Say of batches in which every training raises that they are single rows, where that is what they are.

    Raises:
        UsageError: when every input of the model has an axis more than the batches.
    """
    try:
        wanted = [tuple(tensor.shape) for tensor in make().inputs or ()]
    except Exception:  # noqa: BLE001 - what making the model raises was seen in every arm
        return
    if wanted and sorted(array.ndim + 1 for array in rows.x) == sorted(map(len, wanted)):
        shapes = ", ".join(str(shape) for shape in wanted)
        seen = ", ".join(str(("rows", *array.shape[1:])).replace("'", "") for array in rows.x)
        raise UsageError(
            f"the data's batches have x {seen}, and the model takes {shapes}: they are single rows, and no batches;"
            " batch them, as in dataset.batch(32)"
        )


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
    outputs = structure_of(model, rows)
    named = isinstance(outputs, Mapping)
    if not named and not (known and isinstance(outputs, list | tuple)):
        one = "a model of one output" if known else "a model whose outputs have no names"
        raise UsageError(f"targets or sample weights as a dictionary for {one}; fit takes arrays there, or a tuple")
    if rows.weight_names and not named:
        raise UsageError(
            "sample weights as a dictionary for a model whose outputs are a list; fit takes a tuple of them there"
        )
    return ordered(rows, "the targets", sorted(outputs) if named else output_names(model))


def made_optimizer(given: Any) -> Any:
    """A new optimizer of a name, an optimizer's configuration or a function that makes one."""
    import keras

    if isinstance(given, keras.optimizers.Optimizer):
        return type(given).from_config(config_of(given))
    made = keras.optimizers.get(given) if isinstance(given, str) else given()
    if not isinstance(made, keras.optimizers.Optimizer):
        raise UsageError(f"optimizer gave {type(made).__name__}, which is no keras.optimizers.Optimizer")
    return made
