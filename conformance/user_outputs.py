"""What a user gave for each output of a model: the losses and their factors, in the order of the outputs.

`compile` takes one thing for all outputs, a list in their order or a dictionary by their names, and finds out what fits
in the middle of the first step. Here it is found out before anything is trained. The model is asked only where names
or shapes are needed, for making one takes as long as a small case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.data import Arrays
from conformance.errors import UsageError
from conformance.recording import output_names
from conformance.reports.text import shown

CROSSENTROPIES = ("crossentropy", "ce")
"""The names that mean another loss for every kind of target."""

ACCURACIES = ("accuracy", "acc")
"""The names that mean another metric for every kind of target."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model.

    Attributes:
        names: their names, as `fit` reports them.
        shapes: their shapes, the rows first.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int | None, ...], ...]


Ask = Callable[[], Outputs]
"""Asks the model for its outputs."""


def made_model(make: Callable[[], Any], rows: Arrays) -> Any:
    """The model, built: a subclassed one has its variables when it has seen a row."""
    import keras

    model = make()
    if not isinstance(model, keras.Model):
        raise UsageError(f"model() gave {type(model).__name__}, which is no keras.Model")
    if not model.built or not model.variables:
        model(rows.part(0, 1).structure()[0])
    return model


def structure_of(model: Any, rows: Arrays) -> Any:
    """A model's outputs in its own structure; a subclassed model shows it when it is called."""
    if getattr(model, "inputs", None):
        # A Sequential has one, and no structure of it.
        return model.output if hasattr(model, "output_names") else model.outputs[0]
    return model(rows.part(0, 1).structure()[0])


def outputs_of(make: Callable[[], Any], rows: Arrays) -> Outputs:
    """The outputs of the model that is made, in the order in which they are flattened."""
    import tensorflow as tf

    model = made_model(make, rows)
    outputs = structure_of(model, rows)
    flat = tf.nest.flatten(outputs)
    names = sorted(outputs) if isinstance(outputs, Mapping) else output_names(model, len(flat))
    return Outputs(tuple(names), tuple(tuple(item.shape) for item in flat))


def kind_of_target(target: Sequence[int | None], output: Sequence[int | None]) -> str:
    """`binary`, `sparse` or `categorical`, as `compile` tells the kind of a target by its shape and its output's."""
    if output[-1] == 1:
        return "binary"
    if len(target) < len(output) or target[-1] == 1:
        return "sparse"
    return "categorical"


def check_names(kind: str, given: Any) -> None:
    """Refuse the names that Keras does not know, before anything is trained: no arm can be blamed for them."""
    import keras

    module = {"loss": keras.losses, "metric": keras.metrics, "optimizer": keras.optimizers}[kind]
    for name in flat(given):
        if not isinstance(name, str) or name.lower() in _BY_SHAPE.get(kind, ()):
            continue
        try:
            module.get(name)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{name!r} is no {kind} that Keras knows") from error


_BY_SHAPE = {"loss": CROSSENTROPIES, "metric": ACCURACIES}


def flat(given: Any) -> list[Any]:
    """Everything in lists and dictionaries, at any depth."""
    if isinstance(given, Mapping):
        given = list(given.values())
    return [one for item in given for one in flat(item)] if isinstance(given, list | tuple) else [given]


def losses_by_output(given: Any, rows: Arrays, outputs: Ask) -> list[Any]:
    """The loss of each output; of a class one is made, as `compile` does it.

    Raises:
        UsageError: when there is not one loss for each.
    """
    losses = by_output("loss", given, rows, outputs)
    for index, loss in enumerate(losses):
        if loss is None or isinstance(loss, list | tuple | Mapping):
            raise UsageError(
                f"loss={shown(given)} has {shown(loss)} for {_called(index, given, outputs)}; give every output one"
                " loss, and the weight 0.0 in loss_weights to one that should not count"
            )
    losses = [loss() if isinstance(loss, type) else loss for loss in losses]
    return [
        _by_shape(loss, index, rows, outputs) if isinstance(loss, str) and loss.lower() in CROSSENTROPIES else loss
        for index, loss in enumerate(losses)
    ]


def _by_shape(loss: str, index: int, rows: Arrays, outputs: Ask) -> str:
    kind = kind_of_target(rows.y[index].shape, outputs().shapes[index])
    return f"{kind}_crossentropy" if kind != "sparse" else "sparse_categorical_crossentropy"


def weights_by_output(given: Any, rows: Arrays, outputs: Ask) -> tuple[float, ...] | None:
    """The factor of each output's loss; None where there are none.

    Raises:
        UsageError: when there is not one number for each.
    """
    if given is None:
        return None
    if not isinstance(given, list | tuple | Mapping) and len(rows.y) > 1:
        raise UsageError(
            f"loss_weights={shown(given)} for {len(rows.y)} outputs; give a number for each, in a list or by its name"
        )
    weights = by_output("loss_weights", given, rows, outputs)
    try:
        return tuple(float(weight) for weight in weights)
    except (TypeError, ValueError) as error:
        raise UsageError(f"loss_weights={shown(given)} should be a number for each output, as in [1.0, 0.5]") from error


def by_output(name: str, given: Any, rows: Arrays, outputs: Ask) -> list[Any]:
    """What was given for each output, in the outputs' order; one thing is for all of them.

    Args:
        name: the argument.
        given: what it was given.
        rows: the rows; an output has a target.
        outputs: asks for the outputs.

    Raises:
        UsageError: when it is for other outputs, or for more or fewer.
    """
    if isinstance(given, Mapping):
        names = outputs().names
        unknown, missing = [key for key in given if key not in names], [key for key in names if key not in given]
        if unknown:
            raise UsageError(f"{name}: {unknown} are not the model's outputs {list(names)}")
        if missing:
            raise UsageError(
                f"{name} has nothing for {missing} of the model's outputs {list(names)}; give every output one"
            )
        return [given[key] for key in names]
    if not isinstance(given, list | tuple):
        return [given] * len(rows.y)
    if len(given) != len(rows.y):
        raise UsageError(
            f"{name}={shown(given)} has {len(given)} entries for {len(rows.y)} outputs, which have a target each; give"
            " as many, in the order of the outputs, or a dictionary by their names"
        )
    return list(given)


def _called(index: int, given: Any, outputs: Ask) -> str:
    """An output by name, where it was given by name, or else by its place."""
    return f"the output {outputs().names[index]!r}" if isinstance(given, Mapping) else f"output {index}"
