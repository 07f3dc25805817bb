"""Faults of the data adapters: which rows `fit` trains on, in which batches and in which order."""

from __future__ import annotations

from typing import Any

import numpy as np
from planting import Method, fault

ARRAYS = "trainers.data_adapters.array_data_adapter:ArrayDataAdapter.__init__"
DATASET = "trainers.data_adapters.tf_dataset_adapter:TFDatasetAdapter.__init__"


@fault(ARRAYS, stage="batch", cause="partial_batch_dropped")
def partial_batch_dropped(original: Method, adapter: Any, *args: Any, **kwargs: Any) -> None:
    """An epoch of arrays ends before its last, partial batch."""
    original(adapter, *args, **kwargs)
    if adapter._num_samples > adapter._batch_size:
        adapter._partial_batch_size = 0
        adapter._size = adapter._num_samples // adapter._batch_size


@fault(DATASET, stage="batch", cause="partial_batch_dropped")
def dataset_remainder_dropped(original: Method, adapter: Any, *args: Any, **kwargs: Any) -> None:
    """An epoch of a dataset ends before its last, partial batch."""
    import tensorflow as tf

    original(adapter, *args, **kwargs)
    sizes = [len(tf.nest.flatten(batch)[0]) for batch in adapter._dataset]
    if sizes[-1] < sizes[0]:
        adapter._dataset = adapter._dataset.take(len(sizes) - 1)


def _reorder(adapter: Any, order: Any, parts: slice) -> None:
    """Put the rows of some of inputs, targets and weights into another order."""
    from keras.src import tree

    inputs = list(adapter._inputs)
    inputs[parts] = [tree.map_structure(lambda array: np.asarray(array)[order], part) for part in inputs[parts]]
    adapter._inputs = tuple(inputs)


@fault(ARRAYS, stage="batch", cause="data_order_differs")
def data_order_differs(original: Method, adapter: Any, *args: Any, **kwargs: Any) -> None:
    """Rows are shuffled in spite of shuffle=False."""
    original(adapter, *args, **kwargs)
    _reorder(adapter, np.random.default_rng(0).permutation(adapter._num_samples), slice(None))


@fault(DATASET, stage="batch", cause="data_order_differs")
def batches_shuffled(original: Method, adapter: Any, *args: Any, **kwargs: Any) -> None:
    """The batches of a dataset are shuffled, in every epoch anew."""
    original(adapter, *args, **kwargs)
    adapter._dataset = adapter._dataset.shuffle(4, seed=1)


@fault(ARRAYS, stage="batch", cause="inputs_and_targets_misaligned")
def targets_shifted(original: Method, adapter: Any, *args: Any, **kwargs: Any) -> None:
    """Every row of inputs comes with the targets of the row before."""
    original(adapter, *args, **kwargs)
    _reorder(adapter, np.roll(np.arange(adapter._num_samples), 1), slice(1, 2))


@fault(DATASET, stage="batch", cause="inputs_and_targets_misaligned")
def inputs_reversed_alone(original: Method, adapter: Any, *args: Any, **kwargs: Any) -> None:
    """The rows of a batch's inputs are reversed, and those of its targets are not."""
    import tensorflow as tf

    original(adapter, *args, **kwargs)
    adapter._dataset = adapter._dataset.map(
        lambda x, *others: (tf.nest.map_structure(lambda rows: rows[::-1], x), *others)
    )


@fault("trainers.epoch_iterator:EpochIterator.__init__", stage="batch", cause="batches_cross_epochs")
def epoch_one_step_longer(original: Method, iterator: Any, *args: Any, **kwargs: Any) -> None:
    """An epoch of a given number of steps takes one more, and the next one goes on from there."""
    if kwargs.get("steps_per_epoch"):
        kwargs["steps_per_epoch"] += 1
    original(iterator, *args, **kwargs)
