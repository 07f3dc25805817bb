"""What only two arms beside one another show: named deviations, replayed against what one of them did.

An arm is held against the referee wherever that can be; what is here is left for what the referee has no word for, such
as streams of random numbers, arms that raise, and users' parts that cannot be made in float64. The first deviation of
the table that reproduces a difference is its cause; adding one is adding an entry.
"""

from __future__ import annotations

from conformance.deviations.batches import batch_skipped, crosses_epochs, not_split, order_differs, partial_dropped
from conformance.deviations.changed_cases import (
    activity_scale,
    local_statistics,
    random_stream,
    statistics_then_stream,
    stream_then_statistics,
    uneven_otherwise,
    weighted_scalar,
)
from conformance.deviations.context import Context, Deviation, Replay
from conformance.deviations.gradients import clip_order, frozen_updated, not_reduced, not_trained, reduced_twice
from conformance.deviations.logs import (
    ROUNDING_ULPS,
    last_batch,
    reported_by_replicas,
    reported_unevenly,
    rounded,
    unweighted,
)
from conformance.deviations.losses import mean_of_means, not_scaled, scaled_twice, summed
from conformance.deviations.rates import rate_frozen, rate_off_by_one

__all__ = ["DEVIATIONS", "ROUNDING_ULPS", "Context", "Deviation", "Replay"]


def raises(context: Context) -> Replay | None:
    """One arm raises, and the other trains."""
    if (context.suspect.error is None) == (context.reference.error is None):
        return None
    error = context.suspect.error or context.reference.error
    return Replay(True, (str(error),), error.kind if error else "")


DEVIATIONS: tuple[Deviation, ...] = (
    Deviation("raises_in_one_arm", raises),
    Deviation("model_not_trained", not_trained),
    Deviation("replica_data_not_split", not_split),
    Deviation("partial_batch_dropped", partial_dropped),
    Deviation("data_order_differs", order_differs),
    Deviation(
        "batches_cross_epochs",
        crosses_epochs,
        "fit runs steps_per_execution steps at a time, also where steps_per_epoch is no multiple of them",
    ),
    Deviation("batch_skipped", batch_skipped),
    Deviation("replica_mean_of_means", mean_of_means),
    Deviation("activity_loss_scale", activity_scale),
    Deviation("replica_mean_of_means", uneven_otherwise, "some of the losses are means of the replicas' means"),
    Deviation("replica_loss_not_scaled", not_scaled),
    Deviation("replica_loss_scaled_twice", scaled_twice),
    Deviation("replica_local_normalization", weighted_scalar),
    Deviation("loss_summed_not_averaged", summed),
    Deviation("clip_order", clip_order, "clipped on each replica, and then summed"),
    Deviation("replica_gradients_not_reduced", not_reduced),
    Deviation("replica_gradients_reduced_twice", reduced_twice),
    Deviation("replica_local_statistics", local_statistics),
    Deviation("random_stream_differs", random_stream, "each replica draws numbers of its own for its rows"),
    Deviation(
        "random_stream_differs",
        stream_then_statistics,
        "each replica draws numbers of its own for its rows; BatchNormalization's local statistics come on top",
    ),
    Deviation(
        "replica_local_statistics",
        statistics_then_stream,
        "each replica draws random numbers of its own on top",
    ),
    Deviation("frozen_weights_updated", frozen_updated),
    Deviation("learning_rate_frozen", rate_frozen),
    Deviation("learning_rate_off_by_one", rate_off_by_one),
    Deviation(
        "numeric_precision",
        rounded,
        "fit averages an output's losses without weights in a graph, and a mean weighted with equal numbers of rows"
        " rounds otherwise; training itself is the same",
    ),
    Deviation(
        "replica_reported_loss",
        reported_by_replicas,
        "during an epoch the plain mean of the replicas' running means, at its end weighted with their rows",
    ),
    Deviation(
        "replica_reported_loss",
        reported_unevenly,
        "during an epoch the plain mean of what the replicas report, whatever rows they hold",
    ),
    Deviation("epoch_loss_unweighted", unweighted),
    Deviation("epoch_loss_last_batch", last_batch),
)
"""In the order in which they are tried."""
