"""A user's metrics: which belong to which output, and what makes them anew for every arm.

They are told apart as `compile` tells them: of several outputs a list has an entry for each, a dictionary is by name,
and an entry is a metric, a list of them or nothing. What `compile` would refuse in the first step is refused here, but
for one metric in a list, which is meant for every output.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.data import Array, Arrays
from conformance.errors import UsageError
from conformance.raised import shortened
from conformance.user_outputs import ACCURACIES, Ask, check_names, flat, kind_of_target


@dataclass(frozen=True)
class Metrics:
    """The metrics of each output, to be made.

    Attributes:
        given: what was given for each output.
        rows: the rows, for the kinds of their targets.
        outputs: asks for the outputs, for their shapes.
    """

    given: Sequence[Sequence[Any]]
    rows: Arrays
    outputs: Ask

    def made(self) -> list[list[Any]]:
        """New metrics for every output."""
        return [
            [_made(item, self.rows.y[index], functools.partial(self._shape, index)) for item in items]
            for index, items in enumerate(self.given)
        ]

    def _shape(self, index: int) -> Sequence[int | None]:
        return self.outputs().shapes[index]


def metrics_by_output(given: Any, rows: Arrays, outputs: Ask) -> list[list[Any]]:
    """The metrics of each output, in the outputs' order.

    Raises:
        UsageError: when they are for other outputs, or for more or fewer.
    """
    if isinstance(given, Mapping):
        names = outputs().names
        unknown = [key for key in given if key not in names]
        if unknown:
            raise UsageError(f"metrics: {unknown} are not the model's outputs {list(names)}")
        return [_listed(given.get(name)) for name in names]
    if not given:
        return [[] for _ in rows.y]
    if len(rows.y) == 1:
        # As compile has it, at any depth.
        return [_some(flat(given))]
    if len(given) == len(rows.y):
        return [_listed(entry) for entry in given]
    if len(given) == 1 and not isinstance(given[0], list | tuple | Mapping):
        return [_some(given) for _ in rows.y]
    raise UsageError(
        f"metrics has {len(given)} entries for {len(rows.y)} outputs, which have a target each; give an entry for each,"
        " a metric, a list of them or None, in the order of the outputs, or a dictionary by their names"
    )


def _listed(entry: Any) -> list[Any]:
    """The metrics of an output."""
    return [] if entry is None else _some(entry if isinstance(entry, list | tuple) else [entry])


def _some(given: Sequence[Any]) -> list[Any]:
    """The metrics, none of which is nothing."""
    if any(item is None for item in given):
        raise UsageError("metrics hold None; only in a list with an entry for each output it stands for no metric")
    return list(given)


def made_anywhere(given: Any, target: Array) -> Any:
    """New metrics in the place of those that were given, in lists and dictionaries of any depth."""
    if isinstance(given, Mapping):
        return {name: made_anywhere(item, target) for name, item in given.items()}
    if isinstance(given, list | tuple):
        return [made_anywhere(item, target) for item in given]
    return None if given is None else _made(given, target, lambda: None)


def check_metrics(given: Any) -> None:
    """Refuse metrics that no way of training could be given, before anything is trained."""
    import keras

    if given is None:
        return
    if not isinstance(given, list | tuple | Mapping):
        told = repr(given) if isinstance(given, str) else type(given).__name__
        raise UsageError(f"metrics={told} should be a list, or a dictionary by output, as in metrics=['mae']")
    check_names("metric", given)
    for item in flat(given):
        if item is None or isinstance(item, str):
            continue
        if not (callable(item) or isinstance(item, keras.metrics.Metric)):
            raise UsageError(
                f"metrics hold {item!r}; give names, keras.metrics.Metric objects or classes, functions of"
                " (y_true, y_pred), or functions without arguments that make a metric"
            )
        made = _anew(item) if isinstance(item, keras.metrics.Metric) else item() if _makes(item) else None
        if made is not None and not isinstance(made, keras.metrics.Metric):
            raise UsageError(f"a function among metrics gave {type(made).__name__}, which is no keras.metrics.Metric")


def _makes(given: Any) -> bool:
    """Whether a function needs nothing, so that it is none of targets and outputs: it makes a metric."""
    if isinstance(given, type):
        return False
    try:
        parameters = inspect.signature(given).parameters.values()
    except (TypeError, ValueError):
        return False
    return not any(item.default is item.empty and item.kind is not item.VAR_KEYWORD for item in parameters)


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


def _made(given: Any, target: Array, shape: Callable[[], Sequence[int | None] | None]) -> Any:
    """A new metric.

    Args:
        given: what was given for it.
        target: its output's target.
        shape: asks for its output's shape; None where nobody knows it.
    """
    import keras

    if isinstance(given, str) and given.lower() in ACCURACIES:
        return getattr(keras.metrics, _ACCURACIES[_kind(target, shape())])(name=given)
    if isinstance(given, keras.metrics.Metric):
        return _anew(given)
    if isinstance(given, type) or _makes(given):
        return given()
    found = keras.metrics.get(given)
    if isinstance(found, keras.metrics.Metric):
        # Reported by the name that was asked for, as `compile` has it.
        found.name = given if isinstance(given, str) else found.name
        return found
    return keras.metrics.MeanMetricWrapper(found, name=given if isinstance(given, str) else _called(given))


_ACCURACIES = {"binary": "BinaryAccuracy", "sparse": "SparseCategoricalAccuracy", "categorical": "CategoricalAccuracy"}


def _kind(target: Array, shape: Sequence[int | None] | None) -> str:
    if shape is not None:
        return kind_of_target(target.shape, shape)
    if target.dtype.kind in "iu" or target.ndim == 1:
        return "sparse"
    return "binary" if target.shape[-1] == 1 else "categorical"


def _called(function: Any) -> str:
    """The name that `compile` reports a function by: its own in small letters, a word after the other."""
    name = getattr(function, "name", None) or getattr(function, "__name__", None) or type(function).__name__
    return _WORDS.sub("_", re.sub(r"\W", "", str(name))).lower()


_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])")
