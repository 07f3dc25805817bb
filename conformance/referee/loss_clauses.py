"""Chapter 4: the loss of a step, from the losses of samples to each replica's share of the global batch's loss.

Every clause is given all replicas at once, for what a mean is divided by is the global batch's. A share is what a
replica differentiates: the shares add up to the loss, and their gradients to its gradient.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from conformance.referee.clause import clause
from conformance.referee.common_loss_rules import aligned
from conformance.referee.loss_rules import counted, per_sample
from conformance.referee.scene import Part, Rules, Scene

Tensors = list[Any]
GUIDE = "https://www.tensorflow.org/tutorials/distribute/custom_training"


@clause("4.1", source="https://keras.io/api/losses/#creating-custom-losses")
def values_of(scene: Scene, part: Part, output: int) -> Any:
    """The losses of an output's samples are what its loss (chapter 3) or the user's function says of its targets and
    predictions; a function is given them in one rank (3.1), a loss of a class of the user's own as they are.

    Returns:
        A tensor (rows, ...), or a scalar where a user's function gives one.
    """
    import tensorflow as tf

    loss, y_pred = scene.losses[output], part.outputs[output]
    y_true = part.targets[output]
    if loss.known is not None:
        return per_sample(loss.known, y_true, y_pred)
    call = getattr(loss.given, "call", None)
    y_true = tf.cast(y_true, y_pred.dtype)
    value = loss.given(*aligned(y_true, y_pred)) if call is None else call(y_true, y_pred)
    return tf.cast(value, y_pred.dtype)


@clause("4.2", source="https://keras.io/guides/understanding_masking_and_padding/")
def mask_of(scene: Scene, part: Part, output: int, values: Any) -> Any:
    """A sample that is masked, or of a class that is ignored, counts neither in the sum of the losses nor in their
    number.

    Returns:
        A boolean tensor of the values' shape, or None.
    """
    import tensorflow as tf

    mask = part.masks[output]
    loss = scene.losses[output]
    ignored = None if loss.known is None else counted(loss.known, part.targets[output], values)
    if mask is None or ignored is None:
        return ignored if mask is None else tf.cast(mask, tf.bool)
    return tf.cast(mask, tf.bool) & ignored


@clause("4.3", source="https://keras.io/api/models/model_training_apis/#fit-method")
def weights_of(scene: Scene, part: Part, output: int, values: Any) -> Any:
    """A sample's loss is multiplied with its sample weight and with the weight of its class.

    Returns:
        A tensor that broadcasts against the values from the left, or None.
    """
    sample, classes = part.sample_weights[output], part.class_weights
    if sample is None or classes is None:
        return classes if sample is None else sample
    return sample * classes


@clause("4.4", source="https://keras.io/api/losses/#standalone-usage-of-losses; " + GUIDE)
def reduced(scene: Scene, output: int, values: Tensors, weights: Tensors, masks: Tensors) -> Tensors:
    """The loss of an output is the sum of its weighted losses over the global batch, divided by the number of its
    samples, whatever their weights (`sum_over_batch_size`), by the sum of the weights (`mean_with_sample_weight`) or by
    nothing (`sum`, and no reduction, for a tape differentiates the sum of a vector); a scalar stands for the mean over
    the rows it was given, or for their sum where those of the replicas add up to that of all rows.

    Returns:
        Each replica's share.
    """
    sums = [weighted_sum(*part) for part in zip(values, weights, masks, strict=True)]
    if values[0].shape.rank == 0:
        return _scalars(scene, output, values, weights)
    divisor = divisor_of(scene, output, values, weights, masks)
    return [total if divisor is None else quotient(total, divisor) for total in sums]


def _scalars(scene: Scene, output: int, values: Tensors, weights: Tensors) -> Tensors:
    import tensorflow as tf

    if _adds_up(scene, output, values):
        return [value if part.rows else tf.zeros_like(value) for value, part in zip(values, scene.parts, strict=True)]
    if all(weight is None for weight in weights):
        mean: Any = 1.0
    else:
        mean = sum(tf.reduce_sum(weight) for weight in weights) / scene.rows
    parts = zip(values, scene.parts, strict=True)
    return [value * mean * (part.rows / scene.rows) if part.rows else tf.zeros_like(value) for value, part in parts]


ADDS_UP = 1e-4
"""How far, as a part of the loss of all rows, rounding can take the sum or the mean of the replicas' from it."""


def _adds_up(scene: Scene, output: int, values: Tensors) -> bool:
    """Whether a user's scalar is a sum over rows, divided by what does not depend on them, as by a batch size.

    Nobody can tell from one replica alone: it is what the function says of all rows that tells.
    """
    import tensorflow as tf

    held = [(float(value), part) for value, part in zip(values, scene.parts, strict=True) if part.rows]
    if len(held) < 2:
        return False
    parts = [part for _, part in held]
    targets, outputs = list(parts[0].targets), list(parts[0].outputs)
    targets[output] = tf.concat([part.targets[output] for part in parts], 0)
    outputs[output] = tf.concat([part.outputs[output] for part in parts], 0)
    together = float(values_of(scene, replace(parts[0], targets=targets, outputs=outputs, rows=scene.rows), output))
    total = sum(value for value, _ in held)
    mean = sum(value * part.rows for value, part in held) / scene.rows
    allowed = ADDS_UP * abs(together)
    return abs(total - together) <= allowed < abs(mean - together)


def weighted_sum(values: Any, weights: Any, mask: Any) -> Any:
    """The sum of the values that count, each times its weight."""
    import tensorflow as tf

    if weights is not None:
        values = values * expanded(weights, values)
    if mask is not None:
        values = tf.where(mask, values, tf.zeros_like(values))
    return tf.reduce_sum(values)


def expanded(weights: Any, values: Any) -> Any:
    """A weight a row beside values of a higher rank."""
    import tensorflow as tf

    weights = tf.cast(weights, values.dtype)
    for _ in range((values.shape.rank or 0) - weights.shape.rank):
        weights = tf.expand_dims(weights, -1)
    if values.shape.rank is not None and weights.shape.rank == values.shape.rank + 1 and weights.shape[-1] == 1:
        weights = tf.squeeze(weights, -1)
    return weights


def divisor_of(scene: Scene, output: int, values: Tensors, weights: Tensors, masks: Tensors) -> Any:
    """What a sum over these replicas is divided by, or None where it is not divided."""
    import tensorflow as tf

    reduction = scene.losses[output].reduction
    if reduction not in ("sum_over_batch_size", "mean_with_sample_weight"):
        return None
    parts = list(zip(values, weights, masks, strict=True))
    if reduction == "mean_with_sample_weight" and any(w is not None for w in weights):
        return sum(weighted_sum(tf.ones_like(v), w, m) for v, w, m in parts)
    return sum(weighted_sum(tf.ones_like(v), None, m) for v, _, m in parts)


def quotient(total: Any, divisor: Any) -> Any:
    """A quotient that is 0 where nothing is divided by nothing."""
    import tensorflow as tf

    return tf.math.divide_no_nan(total, tf.cast(divisor, total.dtype))


@clause("4.5", source="https://keras.io/api/models/model_training_apis/#compile-method")
def output_weight(scene: Scene, output: int) -> float:
    """An output's loss counts in the loss of a step times its loss weight, which is 1 where none was given."""
    return scene.losses[output].weight


@clause("4.6", source="https://keras.io/api/layers/regularizers/")
def regularization(scene: Scene, part: Part) -> Any:
    """The penalties of the trainable weights (l1 times the sum of magnitudes, l2 times the sum of squares) are added
    once for the global batch, a replica's share of them one over the number of replicas.
    """
    return _total([penalty(*item) for item in part.penalties], part) / scene.replicas


@clause("4.7", source="https://keras.io/api/layers/base_layer/; https://keras.io/api/layers/regularizers/")
def activity(scene: Scene, part: Part) -> Any:
    """An activity penalty is the regularizer of a layer's output, divided by the rows of the global batch."""
    return _total([penalty(*item) for item in part.activities], part) / scene.rows


@clause("4.8", source="https://keras.io/api/losses/#the-addloss-api; " + GUIDE)
def added(scene: Scene, part: Part) -> Any:
    """What layers add by `add_loss` belongs to the loss, a replica's share of it one over the number of replicas."""
    return part.added / scene.replicas


def _total(terms: Tensors, part: Part) -> Any:
    import tensorflow as tf

    dtype = part.outputs[0].dtype
    return tf.add_n([tf.cast(term, dtype) for term in terms]) if terms else tf.zeros((), dtype)


def penalty(regularizer: Any, value: Any) -> Any:
    """What a regularizer makes of a tensor: written out for Keras's own norms, called for a user's."""
    import keras
    import tensorflow as tf

    strengths = {
        keras.regularizers.L1: ("l1", None),
        keras.regularizers.L2: (None, "l2"),
        keras.regularizers.L1L2: ("l1", "l2"),
    }.get(type(regularizer))
    if strengths is None:
        return tf.cast(regularizer(value), value.dtype)
    total = tf.zeros((), value.dtype)
    for name, measure in zip(strengths, (tf.abs, tf.square), strict=True):
        if name is not None:
            total += tf.cast(getattr(regularizer, name), value.dtype) * tf.reduce_sum(measure(value))
    return total


LOSS_RULES: Rules = {
    function.__name__: function
    for function in (values_of, mask_of, weights_of, reduced, output_weight, regularization, activity, added)
}
"""The clauses of this chapter, by name."""


@clause("4.9", source="https://keras.io/api/models/model_training_apis/#compile-method; " + GUIDE)
def shares(scene: Scene, rules: Rules = LOSS_RULES) -> Tensors:
    """The loss of a step is the weighted sum of its outputs' losses, plus the penalties of weights and activities and
    what layers add.

    Returns:
        Each replica's share, a scalar each.
    """
    totals = [
        rules["regularization"](scene, part) + rules["activity"](scene, part) + rules["added"](scene, part)
        for part in scene.parts
    ]
    for output in range(len(scene.losses)):
        values = [rules["values_of"](scene, part, output) for part in scene.parts]
        paired = list(zip(scene.parts, values, strict=True))
        weights = [rules["weights_of"](scene, part, output, v) for part, v in paired]
        masks = [rules["mask_of"](scene, part, output, v) for part, v in paired]
        weight = rules["output_weight"](scene, output)
        reduced_ = rules["reduced"](scene, output, values, weights, masks)
        totals = [total + weight * share for total, share in zip(totals, reduced_, strict=True)]
    return totals
