"""Loss functions that make one number of a replica's rows: whether that number is a mean, or a share already.

The key idea is to ask the function. Written with `tf.nn.compute_average_loss`, or divided by a constant, the numbers of
the replicas add up to that of all rows, and a loop must not divide them again; plain means add up to more.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.stage import Stage
from conformance.trainers.losses import as_loss, of_one_rank
from conformance.training import Setup

ROWS = 2
"""Rows a replica that it is asked with."""

_CLOSE = 1e-4


def with_shares(setup: Setup) -> list[Any]:
    """The losses of an arm, those functions whose numbers are shares as losses that leave them as they are."""
    if setup.strategy.num_replicas_in_sync == 1:
        return setup.losses
    return [
        as_loss(loss, share=True) if _is_function(loss) and _adds_up(setup, loss, index) else loss
        for index, loss in enumerate(setup.losses)
    ]


def _is_function(loss: Any) -> bool:
    import keras

    return not isinstance(loss, str | keras.losses.Loss)


def _adds_up(setup: Setup, function: Any, index: int) -> bool:
    """Whether the numbers that the replicas make of their rows are together the one that is made of all rows."""
    import tensorflow as tf

    replicas, recorder = setup.strategy.num_replicas_in_sync, setup.recorder
    target = setup.training.data.y[index]
    rows = np.resize(np.arange(len(target)), ROWS * replicas)
    shape = recorder.shape(Stage.OUTPUTS, recorder.output_names[index])[1:]
    outputs = np.random.default_rng(0).uniform(0.1, 0.9, (len(rows), *shape)).astype(np.float32)
    pair = of_one_rank(tf.constant(target[rows]), tf.constant(outputs))

    def of_own_rows() -> Any:
        first = ROWS * tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)
        return function(*(part[first : first + ROWS] for part in pair))

    def together() -> Any:
        return setup.strategy.reduce("sum", setup.strategy.run(of_own_rows), axis=None)

    try:
        whole = tf.convert_to_tensor(function(*pair))
        if whole.shape.rank != 0:
            return False
        wanted, added = float(whole), float(tf.function(together, autograph=False)())
    except Exception:  # noqa: BLE001 - what a user's function raises is seen in every arm, and judged there
        return False
    return wanted != 0.0 and abs(added - wanted) <= _CLOSE * abs(wanted)
