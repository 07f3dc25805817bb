"""The referee's metrics: a table of rules by the name of the Keras class, where what `compile` was given is looked up.

A rule gives a metric's value over all the batches it is handed; the sentences and the arithmetic are in
`metric_value_rules`. Keras is imported here only, to tell its own metrics from a user's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.referee import metric_value_rules as values
from conformance.referee.loss_rules import Shape
from conformance.referee.metric_value_rules import Array, Batches


@dataclass(frozen=True)
class MetricRule:
    """One metric as the referee computes it.

    Attributes:
        name: the Keras class.
        value: `(targets, outputs, weights, **options)` to the metric's value over all batches given.
        masked: whether a mask of the predictions counts as weights: Keras heeds it where the mean is of a function of
            targets and predictions, and nowhere else.
    """

    name: str
    value: Callable[..., float]
    masked: bool = True


def _of_loss(name: str, loss: str) -> MetricRule:
    def value(targets: Batches, outputs: Batches, weights: Batches | None = None, **options: Any) -> float:
        return values.mean_of_loss(targets, outputs, weights, loss=loss, **options)

    return MetricRule(name, value)


def _of_values(name: str, elements: Callable[..., Array]) -> MetricRule:
    def value(targets: Batches, outputs: Batches, weights: Batches | None = None, **options: Any) -> float:
        pairs = zip(targets, outputs, strict=True)
        return values.weighted_mean([elements(target, output, **options) for target, output in pairs], weights)

    return MetricRule(name, value)


_LOSSES = (
    "MeanSquaredError",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredLogarithmicError",
    "KLDivergence",
    "Poisson",
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "SparseCategoricalCrossentropy",
    "Hinge",
    "SquaredHinge",
    "CategoricalHinge",
)

_RULES = (
    *(_of_loss(name, name) for name in _LOSSES),
    _of_loss("LogCoshError", "LogCosh"),
    MetricRule("CosineSimilarity", values.mean_cosine_similarity),
    MetricRule("RootMeanSquaredError", values.root_mean_squared_error, masked=False),
    _of_values("Accuracy", values.equal),
    _of_values("BinaryAccuracy", values.same_side),
    _of_values("CategoricalAccuracy", values.same_class),
    _of_values("SparseCategoricalAccuracy", values.at_label),
    _of_values("TopKCategoricalAccuracy", values.in_top_k),
    _of_values("SparseTopKCategoricalAccuracy", values.label_in_top_k),
    MetricRule("Precision", values.precision, masked=False),
    MetricRule("Recall", values.recall, masked=False),
    MetricRule("Mean", values.mean_of_values, masked=False),
)

METRIC_RULES: dict[str, MetricRule] = {rule.name: rule for rule in _RULES}
"""The rule of every metric there is one for, by the name of the Keras class."""


def identify_metric(
    metric: Any, target: Shape | None = None, output: Shape | None = None
) -> tuple[str, Mapping[str, Any]] | None:
    """Which Keras metric it is that `compile` was given.

    Args:
        metric: a name, a `keras.metrics.Metric` or a function.
        target: the targets' shape, needed for the names `accuracy` and `acc` only.
        output: the predictions' shape, the same.

    Returns:
        The class's name and the rule's options, or None where there is no rule: a metric of the user's own, another
        one of Keras's, an option such as `top_k` or several thresholds.

    Raises:
        ValueError: when a name is no metric's, or stands for several and no shapes were given.
    """
    import keras

    if isinstance(metric, str) and metric.lower() in ("accuracy", "acc"):
        return _accuracy(target, output), {}
    found = keras.metrics.get(metric) if isinstance(metric, (str, dict)) else metric
    if not isinstance(found, keras.metrics.Metric):
        name = _class_of(found)
        return None if name is None else (name, {})
    name = type(found).__name__
    if name == "MeanMetricWrapper":
        name = _class_of(found._fn) or ""
    elif getattr(keras.metrics, name, None) is not type(found):
        return None
    if name not in METRIC_RULES:
        return None
    options = _options(name, found)
    return None if options is None else (name, options)


def _accuracy(target: Shape | None, output: Shape | None) -> str:
    if target is None or output is None:
        raise ValueError("'accuracy' is the accuracy that the shapes of targets and predictions say; give both")
    if output[-1] == 1:
        return "BinaryAccuracy"
    sparse = len(target) < len(output) or target[-1] == 1
    return "SparseCategoricalAccuracy" if sparse else "CategoricalAccuracy"


def _class_of(function: Any) -> str | None:
    """The metric whose values that Keras function returns."""
    import keras

    if not inspect.isfunction(function):
        return None
    known = getattr(keras.metrics, function.__name__, None) is function
    if not known and getattr(keras.losses, function.__name__, None) is not function:
        return None
    words = "".join(function.__name__.split("_"))
    # The loss function of that name is the metric with its sign changed.
    named = {name.lower(): name for name in METRIC_RULES if name != "CosineSimilarity"}
    return named.get({"logcosh": "logcosherror"}.get(words, words))


def _options(name: str, metric: Any) -> dict[str, Any] | None:
    if name in ("Precision", "Recall"):
        thresholds = metric.thresholds
        plain = metric.top_k is None and metric.class_id is None and len(thresholds) == 1
        return {"thresholds": thresholds[0]} if plain else None
    options = dict(getattr(metric, "_fn_kwargs", {}))
    unruled = options.pop("from_sorted_ids", False) or options.get("ignore_class") is not None
    return None if unruled else options
