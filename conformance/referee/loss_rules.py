"""The referee's losses: a table of rules by the name of the Keras class, and what `compile` was given, looked up in it.

The key idea is that a rule is a function of targets and predictions in whatever precision they have: in float64 it is
the referee, in float32 it is what honest rounding of the same definition gives. The arithmetic is in the modules beside
this one; Keras is imported here only, to tell its own losses from a user's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.referee import margin_loss_rules as margin
from conformance.referee import overlap_loss_rules as overlap
from conformance.referee import probability_loss_rules as probability
from conformance.referee import regression_loss_rules as regression
from conformance.referee import sequence_loss_rules as sequence
from conformance.referee.clause import clause
from conformance.referee.common_loss_rules import aligned, logits_behind, made_by
from conformance.referee.disputed_loss_rules import AS_KERAS


@dataclass(frozen=True)
class Rule:
    """One loss as the referee computes it.

    Attributes:
        name: the Keras class.
        function: `(y_true, y_pred, **options)` to the values before any reduction.
        sparse: whether targets are integer labels, which keep their shape and dtype.
        activation: for cross-entropies, the activation whose inputs are taken where they are known.
    """

    name: str
    function: Callable[..., Any]
    sparse: bool = False
    activation: str | None = None

    @property
    def aligns(self) -> bool:
        """Whether targets and predictions are brought to one rank."""
        return not self.sparse

    @property
    def options(self) -> frozenset[str]:
        """The names of its options."""
        return frozenset(inspect.signature(self.function).parameters) - {"y_true", "y_pred"}


_RULES = (
    Rule("MeanSquaredError", regression.mean_squared_error),
    Rule("MeanAbsoluteError", regression.mean_absolute_error),
    Rule("MeanAbsolutePercentageError", regression.mean_absolute_percentage_error),
    Rule("MeanSquaredLogarithmicError", regression.mean_squared_logarithmic_error),
    Rule("CosineSimilarity", regression.cosine_similarity),
    Rule("Huber", regression.huber),
    Rule("LogCosh", regression.log_cosh),
    Rule("KLDivergence", probability.kl_divergence),
    Rule("Poisson", probability.poisson),
    Rule("BinaryCrossentropy", probability.binary_crossentropy, activation="Sigmoid"),
    Rule("BinaryFocalCrossentropy", probability.binary_focal_crossentropy, activation="Sigmoid"),
    Rule("CategoricalCrossentropy", probability.categorical_crossentropy, activation="Softmax"),
    Rule("CategoricalFocalCrossentropy", probability.categorical_focal_crossentropy),
    Rule(
        "SparseCategoricalCrossentropy",
        probability.sparse_categorical_crossentropy,
        sparse=True,
        activation="Softmax",
    ),
    Rule("CategoricalGeneralizedCrossEntropy", probability.categorical_generalized_cross_entropy, sparse=True),
    Rule("Hinge", margin.hinge),
    Rule("SquaredHinge", margin.squared_hinge),
    Rule("CategoricalHinge", margin.categorical_hinge),
    Rule("Circle", margin.circle, sparse=True),
    Rule("Dice", overlap.dice),
    Rule("Tversky", overlap.tversky),
    Rule("CTC", sequence.ctc, sparse=True),
)

PER_SAMPLE: dict[str, Rule] = {rule.name: rule for rule in _RULES}
"""The rule of every loss, by the name of the Keras class."""

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Identified:
    """A Keras loss, as it was given to `compile`.

    Attributes:
        name: the Keras class.
        options: the rule's options that were given.
        reduction: `sum_over_batch_size`, `sum`, `mean_with_sample_weight` or None.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    reduction: str | None = "sum_over_batch_size"

    @property
    def rule(self) -> Rule:
        """Its rule."""
        return PER_SAMPLE[self.name]


def identify(loss: Any, target: Shape | None = None, output: Shape | None = None) -> Identified | None:
    """Which Keras loss it is that `compile` was given.

    Args:
        loss: a name, a serialized loss, a `keras.losses.Loss` or a function.
        target: the targets' shape, needed for the names `crossentropy` and `ce` only.
        output: the predictions' shape, the same.

    Returns:
        The loss, or None where it is not Keras's own: another function, a subclass with arithmetic of its own, an
        option that no rule has.

    Raises:
        ValueError: when a name is no loss's, or stands for several and no shapes were given.
    """
    import keras

    if isinstance(loss, str) and loss.lower() in ("crossentropy", "ce"):
        return Identified(_crossentropy(target, output))
    found = keras.losses.get(loss) if isinstance(loss, (str, dict)) else loss
    reduction = "sum_over_batch_size"
    options: dict[str, Any] = {}
    if isinstance(found, keras.losses.Loss):
        if not _calls_its_function(found):
            return None
        # Not `get_config`, which leaves some options out.
        found, options, reduction = found.fn, dict(found._fn_kwargs), found.reduction
    rule = next((rule for rule in _RULES if _is_function_of(rule, found)), None)
    if rule is None or not rule.options.issuperset(options):
        return None
    return Identified(rule.name, options, {"mean": "sum_over_batch_size", "none": None}.get(reduction, reduction))


def _crossentropy(target: Shape | None, output: Shape | None) -> str:
    if target is None or output is None:
        raise ValueError("'crossentropy' is the loss that the shapes of targets and predictions say; give both")
    if output[-1] == 1:
        return "BinaryCrossentropy"
    sparse = len(target) < len(output) or target[-1] == 1
    return "SparseCategoricalCrossentropy" if sparse else "CategoricalCrossentropy"


def _calls_its_function(loss: Any) -> bool:
    import keras

    kind = type(loss)
    return (
        getattr(kind, "call", None) is keras.losses.MeanSquaredError.call
        and kind.__call__ is keras.losses.Loss.__call__
        and "call" not in vars(loss)
    )


def _is_function_of(rule: Rule, function: Any) -> bool:
    import keras

    return callable(function) and getattr(keras.losses, rule.function.__name__, None) is function


def per_sample(identified: Identified, y_true: Any, y_pred: Any, *, as_keras: bool = False) -> Any:
    """The loss of each sample, before weights, masks and reduction.

    Args:
        identified: the loss.
        y_true: targets; cast to the predictions' dtype, unless they are labels.
        y_pred: predictions, in whose dtype all is computed.
        as_keras: whether to follow Keras where it deviates from what the loss means (`disputed_loss_rules`).

    Returns:
        Values, as a rule of shape `y_pred.shape[:-1]`.
    """
    import tensorflow as tf

    rule = identified.rule
    if rule.aligns:
        y_true, y_pred = aligned(tf.cast(y_true, y_pred.dtype), y_pred)
    chosen = AS_KERAS.get(rule.name, rule.function) if as_keras else rule.function
    options = dict(identified.options)

    # What is ignored is taken out of the predictions first, and they are another tensor then.
    hidden = rule.activation is None or options.get("ignore_class") is not None
    logits = None if hidden else logits_behind(y_pred, rule.activation or "")
    if logits is None:
        return chosen(y_true, y_pred, **options)

    def of_logits() -> Any:
        return chosen(y_true, logits, **{**options, "from_logits": True})

    if as_keras:
        return of_logits()
    axis = options.get("axis", -1) if rule.activation == "Softmax" else -1
    right = made_by(rule.activation or "", logits, y_pred, axis)
    return tf.cond(right, of_logits, lambda: chosen(y_true, y_pred, **options))


@clause("3.3", source="keras-team/keras, keras/src/losses/losses.py, sparse_categorical_crossentropy and circle")
def counted(identified: Identified, y_true: Any, values: Any, *, dtype: str = "float32") -> Any | None:
    """A mean of losses leaves out samples of an ignored class, and anchors whose circle loss is zero.

    Args:
        identified: the loss.
        y_true: targets.
        values: the loss of each sample.
        dtype: the precision of the training that is judged, which says whether a circle loss is zero.

    Returns:
        A boolean of the values' shape, or None where all are counted.
    """
    import tensorflow as tf

    if identified.name == "Circle":
        return tf.cast(values, dtype) > 0
    ignored = identified.options.get("ignore_class")
    if identified.name == "SparseCategoricalCrossentropy" and ignored is not None:
        return tf.reshape(tf.cast(y_true, tf.int64) != ignored, tf.shape(values))
    return None
