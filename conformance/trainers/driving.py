"""What a loop does to any step, a training one or an evaluating one: feed it, distribute it, compile it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.data import Arrays, epoch_dataset
from conformance.training import Setup


def distributed(setup: Setup, data: Arrays) -> Any:
    """The batches of an epoch, each split over the replicas where there are several."""
    return split(setup, epoch_dataset(data, setup.training.batch_size, setup.training.feed))


def split(setup: Setup, dataset: Any) -> Any:
    """A dataset of global batches, each split over the replicas where there are several."""
    if setup.strategy.num_replicas_in_sync > 1:
        dataset = setup.strategy.experimental_distribute_dataset(dataset)
    return dataset


def compile_step(
    step: Callable[[Any], None], execution: str, spec: Any, *, autograph: bool = False
) -> Callable[[Any], None]:
    """A step on a global batch, compiled as an execution says.

    Args:
        step: the step.
        execution: `graph`, `eager` or `xla`.
        spec: the batches' specification.
        autograph: whether Python conditions on tensors are rewritten.
    """
    import tensorflow as tf

    if execution == "eager":
        return step
    # One signature for full and partial batches: the step is traced once. XLA compiles for each shape anyway.
    function: Callable[[Any], None] = tf.function(
        step,
        input_signature=[spec],
        jit_compile=True if execution == "xla" else None,
        # A user's step may have Python conditions on tensors; ours has none, and rewriting it takes its time.
        autograph=autograph,
    )
    return function
