"""What a call of `check` gives, looked at before anything is built: a check an argument.

What is wrong with an argument is said of the argument, in one line that shows it. Found later, by an arm, it would be
told as what a training raises, or as a difference of two trainings that the harness could not even begin.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from conformance.case import Case
from conformance.errors import UsageError
from conformance.reports.text import shown
from conformance.trainers.forms import FORMS
from conformance.user_outputs import flat

LARGEST = 2**31 - 1
"""What TensorFlow can count rows and epochs to."""


def refuse_unusable(given: Mapping[str, Any]) -> None:
    """Refuse the arguments that no training can be made of.

    Args:
        given: the arguments of `check` that are looked at, by their names.

    Raises:
        UsageError: for the first that cannot be used.
    """
    for name, look in _LOOKS.items():
        if name in given:
            look(given[name])


def refuse_beside_case(case: object, given: Mapping[str, Any]) -> None:
    """Refuse what is no case, and what a case has of its own.

    Args:
        case: what was given as one.
        given: the other arguments, by name, that were given.

    Raises:
        UsageError: for either.
    """
    if not isinstance(case, Case):
        hint = "conformance.load_case reads one from a file"
        raise UsageError(f"case={shown(case)} should be a conformance.Case; {hint}")
    if given:
        raise UsageError(f"{', '.join(given)} beside a case, which has its own; leave out either")


def whole(name: str, value: Any) -> int:
    """A count, NumPy's integers too.

    Raises:
        UsageError: when it is none of at least 1.
    """
    try:
        count = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = -1
    if not 1 <= count <= LARGEST:
        most = f" and at most {LARGEST}" if count > LARGEST else ""
        raise UsageError(f"{name}={shown(value)} should be a whole number of at least 1{most}")
    return count


def _train_step(given: Any) -> None:
    if not callable(given):
        written = ", ".join(form.written for form in list(FORMS.values())[::-1])
        raise UsageError(f"{shown(given)} is not a function; give one of {written}")


def _model(given: Any) -> None:
    import keras

    should = "should be a function without arguments that makes the model"
    if isinstance(given, keras.Model):
        raise UsageError(f"model={shown(given)} {should}; what one training leaves in it would be the next one's")
    if not callable(given):
        raise UsageError(f"model={shown(given)} {should}")
    _takes_nothing("model", given, should)


def _takes_nothing(name: str, function: Callable[..., Any], should: str) -> None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        # Of some of what is written in C nothing is known.
        return
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [item.name for item in parameters if item.default is item.empty and item.kind not in optional]
    if needed:
        raise UsageError(f"{name}={shown(function)} takes {', '.join(needed)}; it {should}")


def _loss(given: Any) -> None:
    import keras

    for item in _items(given):
        # Of a class of losses one is made, as `compile` does it.
        if isinstance(item, type) and not issubclass(item, keras.losses.Loss):
            raise UsageError(f"loss={item.__name__} is a class and makes no keras.losses.Loss; give one, or a function")
        if item is not None and not (isinstance(item, str | keras.losses.Loss) or callable(item)):
            raise UsageError(
                f"loss={shown(item)} should be a name, a keras.losses.Loss, a function of targets and outputs, or a"
                " list or dictionary of them by output"
            )
    _some("loss", given)


def _metrics(given: Any) -> None:
    if not isinstance(given, list | tuple | Mapping):
        raise UsageError(f"metrics={shown(given)} should be a list, as in ['mae'], or a dictionary of them by output")
    for item in flat(given):
        if item is not None and not (isinstance(item, str) or callable(item)):
            raise UsageError(
                f"{shown(item)} among metrics should be a name, a keras.metrics.Metric, a function of targets and"
                " outputs, or a function without arguments that makes a metric"
            )


def _loss_weights(given: Any) -> None:
    _some("loss_weights", given)
    for item in _items(given):
        try:
            usable = not isinstance(item, str | bytes) and isinstance(float(item), float)
        except (TypeError, ValueError, OverflowError):
            usable = False
        if not usable:
            raise UsageError(f"loss_weights={shown(given)} should be a number for each output, as in [1.0, 0.5]")


def _data(given: Any) -> None:
    pair = "give (x, y) or (x, y, sample_weight) as a tuple of arrays"
    if isinstance(given, tuple) and len(given) not in (2, 3):
        raise UsageError(f"data is a tuple of {len(given)}; {pair}")
    if isinstance(given, list) and any(hasattr(item, "dtype") for item in given):
        raise UsageError(f"data is a list of arrays, and a list is one of batches; {pair}")
    if isinstance(given, str | bytes | Mapping) or (hasattr(given, "dtype") and not hasattr(given, "element_spec")):
        raise UsageError(f"data={shown(given)} is no training data; {pair}, a dataset of batches or a function")


def _callbacks(given: Any) -> None:
    import keras

    if callable(given) and not isinstance(given, keras.callbacks.Callback):
        _takes_nothing("callbacks", given, "should be a function without arguments that makes them, or a list of them")


def _executions(given: Any) -> None:
    if isinstance(given, str) or not isinstance(given, Iterable) or not list(given):
        raise UsageError(f"executions={shown(given)} should be a list of names, as in ('graph',)")


def _optimizer(given: Any) -> None:
    if isinstance(given, Mapping):
        _some("optimizer", given)


def _some(name: str, given: Any) -> None:
    if isinstance(given, list | tuple | Mapping) and not given:
        raise UsageError(f"{name}={shown(given)} names none; give at least one")


def _items(given: Any) -> list[Any]:
    return list(given.values() if isinstance(given, Mapping) else given if isinstance(given, list | tuple) else [given])


_LOOKS: Mapping[str, Callable[[Any], None]] = {
    "train_step": _train_step,
    "executions": _executions,
    "model": _model,
    "loss": _loss,
    "optimizer": _optimizer,
    "metrics": _metrics,
    "loss_weights": _loss_weights,
    "data": _data,
    "callbacks": _callbacks,
}
"""The arguments that are looked at here; the others are read and checked in one go where they are needed."""
