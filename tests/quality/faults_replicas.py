"""Faults that only replicas show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planting import FIT, TF_OPTIMIZER, TRAINER, Method, fault, fits, row_count

COMPILE_LOSS = "trainers.compile_utils:CompileLoss.__call__"
ITERATOR = "backend.tensorflow.trainer:TFEpochIterator.__init__"
REDUCE_GRADIENTS = f"{TF_OPTIMIZER}._all_reduce_sum_gradients"


def _replicas() -> int:
    import tensorflow as tf

    return int(tf.distribute.get_strategy().num_replicas_in_sync)


@fault(f"{TRAINER}.compute_loss", stage="loss", cause="replica_loss_scaled_twice", replicas=2)
def replica_loss_scaled_twice(original: Method, model: Any, *args: Any, **kwargs: Any) -> Any:
    """A replica's share of the loss is divided by the replicas once more."""
    return original(model, *args, **kwargs) / _replicas()


@fault(COMPILE_LOSS, stage="loss", cause="replica_loss_not_scaled", replicas=2)
def replica_loss_not_scaled(original: Method, *args: Any, **kwargs: Any) -> Any:
    """A replica's loss is not divided by the replicas."""
    return original(*args, **kwargs) * _replicas()


@fault(f"{TRAINER}._aggregate_additional_loss", stage="loss", cause="replica_regularization_not_scaled", replicas=2)
def replica_regularization_not_scaled(original: Method, model: Any, loss: Any) -> Any:
    """The model's own losses count in full on every replica."""
    return original(model, loss) * _replicas()


@fault(COMPILE_LOSS, stage="loss", cause="replica_fixed_batch_divisor", replicas=2, also=[FIT])
def replica_fixed_batch_divisor(
    original: Method, loss: Any, y_true: Any, y_pred: Any, sample_weight: Any = None
) -> Any:
    """A replica's losses are divided by the batch size that fit was given, however few rows a batch has."""
    import tensorflow as tf

    value = original(loss, y_true, y_pred, sample_weight)
    size = fits[-1].batch_size if fits else None
    summed = any(getattr(one, "reduction", None) == "sum" for one in tf.nest.flatten(loss._user_loss))
    if size is None or summed or _replicas() == 1:
        return value
    return value * row_count(y_pred) * _replicas() / size


@fault(f"{TRAINER}.compute_loss", stage="loss", cause="replica_local_normalization", replicas=2)
def replica_weights_normalized(
    original: Method, model: Any, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True
) -> Any:
    """Each replica divides the weights of its rows by their mean."""
    import tensorflow as tf

    if sample_weight is not None and _replicas() > 1:
        sample_weight = tf.nest.map_structure(
            lambda weights: tf.math.divide_no_nan(weights, tf.reduce_mean(weights)), sample_weight
        )
    return original(model, x, y, y_pred, sample_weight, training)


@fault(
    "losses.loss:unscale_loss_for_distribution",
    stage="logs",
    cause="replica_reported_loss",
    replicas=2,
    within_step=True,
)
def replica_share_reported(original: Method, value: Any) -> Any:
    """A replica's share of the loss is reported as the loss."""
    return value


@fault(REDUCE_GRADIENTS, stage="gradient", cause="replica_gradients_not_reduced", replicas=2, shared=True)
def replica_gradients_not_reduced(original: Method, optimizer: Any, grads_and_vars: Sequence[Any]) -> Any:
    """Every replica updates with its own gradients."""
    return list(grads_and_vars)


@fault(REDUCE_GRADIENTS, stage="gradient", cause="replica_gradients_reduced_twice", replicas=2, shared=True)
def replica_gradients_reduced_twice(original: Method, optimizer: Any, grads_and_vars: Sequence[Any]) -> Any:
    """The sum of the replicas' gradients is added up over the replicas once more."""
    return original(optimizer, original(optimizer, grads_and_vars))


@fault("layers.layer:Layer.add_weight", stage="state", cause="replica_local_statistics", replicas=2, shared=True)
def replica_statistics_of_the_first(original: Method, layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Moving statistics are those of the first replica's rows."""
    if str(kwargs.get("name")).startswith("moving_"):
        kwargs["aggregation"] = "only_first_replica"
    return original(layer, *args, **kwargs)


@fault(ITERATOR, stage="batch", cause="replica_data_not_split", replicas=2)
def replica_data_not_split(original: Method, iterator: Any, *args: Any, **kwargs: Any) -> None:
    """Every replica is given the whole batch."""
    import tensorflow as tf

    original(iterator, *args, **kwargs)
    strategy, copies = iterator._distribute_strategy, iterator._distribute_strategy.num_replicas_in_sync
    if copies > 1:
        # The replicas of a machine take the elements of such a dataset in turn.
        dataset = iterator.data_adapter.get_tf_dataset()
        dataset = dataset.flat_map(lambda *batch: tf.data.Dataset.from_tensors(batch).repeat(copies))
        iterator._distributed_dataset = strategy.distribute_datasets_from_function(lambda context: dataset)


@fault(ITERATOR, stage="batch", cause="replica_batch_size", replicas=2)
def replica_batch_size(original: Method, iterator: Any, *args: Any, **kwargs: Any) -> None:
    """The batch size that fit is given is taken for that of each replica, where there are rows enough."""
    from keras import tree

    size = (kwargs.get("batch_size") or 0) * kwargs["distribute_strategy"].num_replicas_in_sync
    # A first batch that splits unevenly is another matter: fit raises there, in Keras as it is.
    if 0 < size <= len(tree.flatten(kwargs["x"])[0]):
        kwargs["batch_size"] = size
    original(iterator, *args, **kwargs)
