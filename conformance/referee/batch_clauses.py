"""Chapter 1: which rows make a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from conformance.data import Array, Arrays
from conformance.referee.clause import clause
from conformance.training import Training


@clause("1.1", source="https://keras.io/api/models/model_training_apis/#fit-method, batch_size")
def batch_of(data: Arrays, batch_size: int, index: int) -> Arrays:
    """The batches of an epoch are the rows, inputs, targets and weights together, in their order, `batch_size` at a
    time over all replicas; the last one has what is left.
    """
    part = slice(index * batch_size, (index + 1) * batch_size)
    return data.map(lambda array: array[part])


@clause("1.2", source="https://keras.io/api/models/model_training_apis/#fit-method, epochs, steps_per_epoch")
def batches_of_epoch(data: Arrays, batch_size: int) -> int:
    """An epoch has as many steps as there are batches, and each row is in one of them, once."""
    return math.ceil(data.rows / batch_size)


@clause("1.3", source="https://keras.io/api/models/model_training_apis/#fit-method, shuffle, epochs")
def batches(training: Training) -> list[Arrays]:
    """Every epoch trains on the same batches in the same order, unless it was asked to shuffle; no batch has rows of
    two epochs.
    """
    count = batches_of_epoch(training.data, training.batch_size)
    return [batch_of(training.data, training.batch_size, index) for index in range(count)] * training.epochs


@clause("1.4", source="https://keras.io/api/models/model_training_apis/#compile-method, steps_per_execution")
def steps_of(training: Training) -> int:
    """How many steps run in one call of the train function changes nothing of what they do, nor how many there are."""
    return batches_of_epoch(training.data, training.batch_size) * training.epochs


@clause("1.5", source="https://www.tensorflow.org/tutorials/distribute/input, experimental_distribute_dataset")
def split(rows: int, replicas: int) -> list[int]:
    """A global batch is split over the replicas in order, as evenly as whole rows allow: each is given the rows divided
    by the replicas, rounded up, and the last ones what is left, which may be nothing.
    """
    share = math.ceil(rows / replicas)
    return [max(0, min(share, rows - share * replica)) for replica in range(replicas)]


@clause("1.6", source="https://keras.io/api/models/model_training_apis/#fit-method, class_weight")
def class_weight_of(targets: Array, weights: Mapping[int, float]) -> Array:
    """A class weight is the weight of every row of that class, which is the row's label, rounded, or the place of the
    largest element of its one-hot row; a class without one weighs 1.

    Returns:
        A weight a row, float32.
    """
    labels = targets
    if labels.ndim > 1:
        labels = labels.argmax(axis=-1) if labels.shape[-1] > 1 else labels[..., 0]
    return np.array(
        [weights.get(round(float(label)), 1.0) for label in labels.reshape(len(labels), -1)[:, 0]], np.float32
    )


def same_rows(first: Sequence[Array], second: Sequence[Array]) -> bool:
    """Whether two batches have the same rows, bit for bit."""
    return len(first) == len(second) and all(
        a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        for a, b in zip(first, second, strict=True)
    )
