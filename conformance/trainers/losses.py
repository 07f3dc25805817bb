"""The loss of a step as the guide's loop computes it: a replica's share of the weighted sum, penalties included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from conformance.data import leaves

LossFunction = Callable[[Any, Any, Any], Any]
"""(targets, outputs, sample weights) to this replica's share of the loss."""


def with_penalties(model: Any, loss: Any) -> Any:
    """The loss with this replica's share of the penalties of the model's last call."""
    import tensorflow as tf

    if not model.losses:
        return loss
    share = 1.0 / tf.distribute.get_strategy().num_replicas_in_sync
    return tf.reduce_sum(tf.stack([loss, *(share * tf.cast(term, loss.dtype) for term in model.losses)]))


def loss_function(
    losses: list[Any],
    weights: tuple[float, ...] | None,
    seen: Callable[[list[Any]], None] = lambda values: None,
    *,
    names: Sequence[str] = (),
) -> LossFunction:
    """The weighted sum of one loss an output, as this replica's share.

    Args:
        losses: the losses.
        weights: their factors, or None.
        seen: is told the unweighted losses of the outputs, for reporting.
        names: the outputs' names, where targets and sample weights may be dictionaries.
    """
    import keras
    import tensorflow as tf

    objects = [as_loss(loss) for loss in losses]

    def total(y: Any, outputs: Any, sample_weight: Any) -> Any:
        targets, predictions = leaves(y, names), tf.nest.flatten(outputs)
        given = [None] * len(objects) if sample_weight is None else leaves(sample_weight, names)
        values = [fn(t, p, w) for fn, t, p, w in zip(objects, targets, predictions, given, strict=True)]
        # Whatever precision it computes in, Keras adds losses up in one, in fit too.
        values = [tf.cast(value, keras.config.floatx()) for value in values]
        seen(values)
        if weights is not None:
            values = [value * weight for value, weight in zip(values, weights, strict=True)]
        return values[0] if len(values) == 1 else sum(values)

    return total


def as_loss(loss: Any, *, share: bool = False) -> Any:
    """A `keras.losses.Loss` as it is; a function or a name as one, with a scalar divided by the replicas.

    Args:
        loss: the loss.
        share: whether a scalar is a replica's share already.
    """
    import keras
    import tensorflow as tf

    function = keras.losses.get(loss) if isinstance(loss, str) else loss
    if isinstance(function, keras.losses.Loss):
        return function

    class FunctionLoss(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
        """Reduces what the function returns to the mean over the rows."""

        def call(self, y_true: Any, y_pred: Any) -> Any:
            return tf.convert_to_tensor(function(*of_one_rank(y_true, y_pred)))

        def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
            if sample_weight is None:
                value = self.call(*(self._in_own_precision(part) for part in (y_true, y_pred)))
                if value.shape.rank == 0 and share:
                    return value
                if value.shape.rank == 0:
                    # Reduced over this replica's rows already, so nobody else will divide it by the replicas.
                    return value * (1.0 / tf.distribute.get_strategy().num_replicas_in_sync)
            return super().__call__(y_true, y_pred, sample_weight)

        def _in_own_precision(self, part: Any) -> Any:
            tensor = tf.convert_to_tensor(part)
            return tf.cast(tensor, self.dtype) if tensor.dtype.is_floating else tensor

    name = str(getattr(function, "__name__", "loss"))
    # TensorFlow scopes operations by it, and refuses the name of a lambda.
    return FunctionLoss(name=name if name.isidentifier() else "loss")


def of_one_rank(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Targets (rows,) beside outputs (rows, 1), or the other way round, in the rank of both, as `compile` has them.

    What is called in any other way, as by a step that calls a function of its own, broadcasts the two.
    """
    import tensorflow as tf

    pair = [y_true, y_pred]
    low, high = sorted((0, 1), key=lambda index: len(pair[index].shape))
    if len(pair[high].shape) == len(pair[low].shape) + 1 and pair[high].shape[-1] == 1:
        if len(pair[low].shape) == 1:
            pair[low] = tf.expand_dims(pair[low], -1)
        else:
            pair[high] = tf.squeeze(pair[high], -1)
    return pair[0], pair[1]
