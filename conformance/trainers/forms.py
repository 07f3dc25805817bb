"""The forms a loop on trial comes in, told apart by the names of its parameters.

A table: one entry a form. A loop takes any subset of its form's parameters that still tells the form, so that a step
which closes over its loss works as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conformance.errors import UsageError


@dataclass(frozen=True)
class Form:
    """One form of a loop.

    Attributes:
        written: how it is written, for messages.
        tells: the parameters that tell it, with which no other form is possible.
        parameters: all it may have, in the order of its signature.
    """

    written: str
    tells: frozenset[str]
    parameters: tuple[str, ...]


STEP, WHOLE, ARRAYS = "train_step", "train", "train_arrays"

_WHOLE = ("epochs", "strategy", "class_weight", "validation_data", "callbacks")
_PARTS = ("model", "optimizer", "loss_fn")

FORMS: dict[str, Form] = {
    WHOLE: Form(
        "train(model, optimizer, loss_fn, dataset, epochs[, strategy])",
        frozenset({"dataset"}),
        (*_PARTS, "dataset", *_WHOLE),
    ),
    ARRAYS: Form(
        "train_arrays(model, optimizer, loss_fn, x, y, batch_size, epochs[, strategy])",
        frozenset({"batch_size", "epochs"}),
        (*_PARTS, "x", "y", "batch_size", "sample_weight", *_WHOLE),
    ),
    STEP: Form(
        "train_step(model, optimizer, loss_fn, x, y[, sample_weight])",
        frozenset({"x"}),
        (*_PARTS, "x", "y", "sample_weight", "class_weight"),
    ),
}
"""The forms, the most telling first."""


@dataclass(frozen=True)
class Loop:
    """A user's loop.

    Attributes:
        function: the loop, unedited.
        form: a name of `FORMS`.
        parameters: those it is called with, by name.
    """

    function: Callable[..., Any]
    form: str
    parameters: tuple[str, ...]

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(getattr(self.function, "__name__", self.function))

    def call(self, given: dict[str, Any]) -> Any:
        """Call it with those of the given arguments that it takes."""
        return self.function(**{name: given[name] for name in self.parameters})


def loop_of(function: Any) -> Loop:
    """A user's loop by its signature.

    Raises:
        UsageError: when it is not callable, or its parameters are not those of one form.

    Example:
        >>> loop_of(lambda model, x, y: None).form
        'train_step'
    """
    written = ", ".join(form.written for form in list(FORMS.values())[::-1])
    if not callable(function):
        raise UsageError(f"{function!r} is not a function; give one of {written}")
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise UsageError(f"{function!r} is not a training step or loop: it has no signature to read") from error
    wrong = _wrong(function, parameters)
    if wrong:
        told = f"{getattr(function, '__name__', function)}({', '.join(map(str, parameters))})"
        raise UsageError(f"{told} is not a training step or loop: {wrong}; give one of {written}")
    name = _form(parameters)
    return Loop(function, name, tuple(item for item in FORMS[name].parameters if item in parameters))


def _form(parameters: Any) -> str:
    return next((name for name, form in FORMS.items() if form.tells & set(parameters)), STEP)


def _wrong(function: Any, parameters: Any) -> str:
    """Why a signature is none of a loop's, or nothing."""
    if inspect.isclass(function):
        return "it is a class (a keras.Model with its own train_step is given through model=)"
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            return f"it takes {parameter}, and is told apart by the names of its parameters"
        if parameter.kind is parameter.POSITIONAL_ONLY:
            return f"{name} is positional-only, and loops are called by name"
    form = _form(parameters)
    if form == WHOLE and {"x", "y"} & set(parameters):
        return "it takes a dataset and arrays"
    if form != WHOLE and "x" not in parameters:
        return "it takes neither x nor a dataset"
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    unknown = [name for name in required if name not in FORMS[form].parameters]
    return f"nothing is known to give for {', '.join(unknown)}" if unknown else ""
