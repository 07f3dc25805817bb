"""The losses a case may hold: one entry each, and no Keras here.

An entry says which targets the loss takes and which activation its predictions come from. A loss is compiled in one of
two forms: as the Keras class, or as a plain function of `(y_true, y_pred)`. Functions matter here: Keras wraps them,
and what they return, a scalar or a value a sample, decides how they are reduced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.errors import CaseError
from conformance.fields import Field, choice, flag, real


@dataclass(frozen=True)
class LossEntry:
    """What a case needs to know of one loss.

    Attributes:
        name: the name in a case.
        target: the kind of target: `real`, `positive`, `binary`, `onehot` or `label`.
        head: the activation of the model's last layer for which the loss is defined; None for linear.
        keras_class: the class in `keras.losses`, or None for a function.
        expression: for a function, its body in `tf`, of `y_true` and `y_pred`.
        returns: what a function returns: `scalar` or `per_sample`.
        fields: its options.
        least_units: the smallest number of outputs for which it is defined.
        make: of a registered loss, the function itself where `returns` says what it gives, else what makes the
            `keras.losses.Loss` of its options; None for the others.
    """

    name: str
    target: str
    head: str | None = None
    keras_class: str | None = None
    expression: str | None = None
    returns: str | None = None
    fields: Mapping[str, Field] = field(default_factory=dict)
    least_units: int = 1
    make: Callable[..., Any] | None = field(default=None, compare=False)


_REDUCTION = {"reduction": choice("sum_over_batch_size", "sum")}


def _keras(name: str, keras_class: str, target: str, head: str | None, **options: object) -> LossEntry:
    least = 2 if target in ("onehot", "label") else 1
    fields = {**_REDUCTION, **{key: value for key, value in options.items() if isinstance(value, Field)}}
    return LossEntry(name, target, head, keras_class, fields=fields, least_units=least)


def _function(name: str, returns: str, expression: str) -> LossEntry:
    return LossEntry(name, "real", None, None, expression, returns)


_LOGITS = flag()

_ENTRIES = (
    _keras("mean_squared_error", "MeanSquaredError", "real", None),
    _keras("mean_absolute_error", "MeanAbsoluteError", "real", None),
    _keras("huber", "Huber", "real", None, delta=real(1.0, 0.5, low=1e-6)),
    _keras("log_cosh", "LogCosh", "real", None),
    _keras("poisson", "Poisson", "positive", "softplus"),
    _keras("binary_crossentropy", "BinaryCrossentropy", "binary", "sigmoid", from_logits=_LOGITS),
    _keras("categorical_crossentropy", "CategoricalCrossentropy", "onehot", "softmax", from_logits=_LOGITS),
    _keras("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy", "label", "softmax", from_logits=_LOGITS),
    _function("scalar_function", "scalar", "tf.reduce_mean(tf.square(y_true - y_pred))"),
    _function("per_sample_function", "per_sample", "tf.reduce_mean(tf.square(y_true - y_pred), axis=-1)"),
)

LOSSES: dict[str, LossEntry] = {entry.name: entry for entry in _ENTRIES}


def loss_entry(name: str, path: str) -> LossEntry:
    """The entry of a loss.

    Raises:
        CaseError: when no such loss is known.
    """
    if name not in LOSSES:
        raise CaseError(f"{name!r} is not a known loss - at `{path}`; the losses are {', '.join(LOSSES)}")
    return LOSSES[name]
