"""Faults of losses and regularizers, which `fit` and the reference loop share."""

from __future__ import annotations

from typing import Any

from planting import Method, fault

REDUCE = "losses.loss:reduce_values"
CALL = "losses.losses:LossFunctionWrapper.call"
MEAN = "sum_over_batch_size"


@fault(REDUCE, stage="loss", cause="loss_summed_not_averaged", shared=True)
def loss_summed(original: Method, values: Any, sample_weight: Any = None, reduction: str = MEAN) -> Any:
    """The losses of the rows are added and not divided by their number."""
    import tensorflow as tf
    from keras.src.losses import loss as module

    reduced = original(values, sample_weight, reduction)
    if reduction != MEAN or values.shape.rank == 0:
        return reduced
    return module.scale_loss_for_distribution(tf.reduce_sum(values))


@fault(REDUCE, stage="loss", cause="sample_weight_normalization", shared=True)
def weights_normalized(original: Method, values: Any, sample_weight: Any = None, reduction: str = MEAN) -> Any:
    """The weighted losses are divided by the sum of the weights instead of by the number of rows."""
    return original(values, sample_weight, "mean_with_sample_weight" if reduction == MEAN else reduction)


@fault("losses.loss:reduce_weighted_values", stage="loss", cause="sample_weight_ignored", shared=True)
def weights_dropped(original: Method, values: Any, sample_weight: Any = None, **options: Any) -> Any:
    """The losses of the rows are not weighted."""
    return original(values, **options)


@fault(CALL, stage="loss", cause="loss_reduced_over_wrong_axis", shared=True)
def features_summed(original: Method, loss: Any, y_true: Any, y_pred: Any) -> Any:
    """The loss is averaged over the rows alone, and added over the columns of an output."""
    import tensorflow as tf

    values = original(loss, y_true, y_pred)
    if not _of_keras(loss) or "categorical" in loss.fn.__name__:
        return values
    return values * tf.cast(tf.shape(y_pred)[-1], values.dtype)


def _of_keras(loss: Any) -> bool:
    """Whether it is one of Keras's: the reference loop calls a user's function without a `LossFunctionWrapper`."""
    return str(loss.fn.__module__).startswith("keras.")


@fault(CALL, stage="loss", cause="logits_mismatch", shared=True)
def logits_taken_for_probabilities(original: Method, loss: Any, y_true: Any, y_pred: Any) -> Any:
    """from_logits=True is not heeded."""
    options = loss._fn_kwargs
    if not options.get("from_logits"):
        return original(loss, y_true, y_pred)
    loss._fn_kwargs = {**options, "from_logits": False}
    try:
        return original(loss, y_true, y_pred)
    finally:
        loss._fn_kwargs = options


@fault("backend.tensorflow.nn:_get_logits", stage="loss", cause="logits_mismatch", shared=True)
def probabilities_taken_for_logits(original: Method, output: Any, from_logits: bool, *names: str) -> tuple[Any, bool]:
    """Where a crossentropy finds the logits behind a softmax or sigmoid, it takes the probabilities for them."""
    return output, original(output, from_logits, *names)[1]


@fault("losses.loss:Loss.__call__", stage="loss", cause="numeric_precision", shared=True)
def loss_in_bfloat16(original: Method, loss: Any, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
    """Losses are computed in bfloat16."""
    import tensorflow as tf

    if not hasattr(loss, "fn") or not _of_keras(loss):
        return original(loss, y_true, y_pred, sample_weight)
    dtype, loss._dtype = loss._dtype, "bfloat16"
    try:
        return tf.cast(original(loss, y_true, y_pred, sample_weight), dtype)
    finally:
        loss._dtype = dtype


@fault("layers.layer:Layer._get_regularization_losses", stage="loss", cause="regularization_omitted", shared=True)
def bias_penalties_omitted(original: Method, layer: Any) -> list[Any]:
    """Regularizers of biases are left out."""
    return [
        variable.regularizer(variable)
        for variable in layer.trainable_weights
        if variable.regularizer is not None and variable.name != "bias"
    ]


@fault("regularizers.regularizers:L2.__call__", stage="loss", shared=True)
def l2_halved(original: Method, regularizer: Any, x: Any) -> Any:
    """An L2 penalty is half the sum of squares, as textbooks have it and Keras has not."""
    return original(regularizer, x) / 2
