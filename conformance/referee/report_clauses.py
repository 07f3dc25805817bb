"""Chapter 9: what is reported after a step, after an epoch, and of validation data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from conformance.data import Array
from conformance.referee.clause import clause

FIT = "https://keras.io/api/models/model_training_apis/#fit-method"


@dataclass(frozen=True)
class Losses:
    """The losses of all steps of a training.

    Attributes:
        values: every step's loss, (steps,).
        rows: every step's rows, (steps,).
        steps_per_epoch: steps in an epoch.
    """

    values: Array
    rows: Array
    steps_per_epoch: int

    def epoch(self, step: int) -> slice:
        """The steps of an epoch up to and including `step`."""
        return slice(step - step % self.steps_per_epoch, step + 1)


@clause("9.1", source=f"{FIT}; https://keras.io/api/metrics/reduction_metrics/#mean-class")
def reported_loss(losses: Losses, step: int) -> float:
    """The loss reported after a step is the mean of the losses of the epoch's steps so far, each weighted with its
    rows, so that the one reported for an epoch is the mean over its rows.
    """
    part = losses.epoch(step)
    return float((losses.values[part] * losses.rows[part]).sum() / losses.rows[part].sum())


@clause("9.2", source=f"{FIT}; https://keras.io/api/metrics/base_metric/#resetstate-method")
def batches_counted(steps_per_epoch: int, step: int) -> Sequence[int]:
    """A metric reported after a step is its value over all rows of the epoch's steps so far; it is begun anew with
    every epoch, and knows nothing of sample weights unless it is among the weighted ones.

    Returns:
        The steps whose rows count.
    """
    return range(step - step % steps_per_epoch, step + 1)


@clause("9.3", source=f"{FIT}, validation_data; https://keras.io/api/models/model_training_apis/#evaluate-method")
def validation_mode() -> bool:
    """Validation data is evaluated after each epoch, with the weights as they are then and in inference mode, and
    reported as an epoch is: the mean of the batches' losses, penalties included, each weighted with its rows.

    Returns:
        The training flag that the model is called with.
    """
    return False


@clause("9.4", source="https://www.tensorflow.org/tutorials/distribute/custom_training")
def global_losses(shares: Array) -> Array:
    """What is reported under several replicas is the global batch's: the sum of the replicas' shares of the loss, and
    metrics over all replicas' rows.

    Args:
        shares: every step's shares, (steps, replicas).
    """
    return np.asarray(shares.sum(axis=1))
