"""Deviations that are told by training the case again with one thing taken away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from conformance.case import Case
from conformance.deviations.context import Context, Replay
from conformance.frozen import FrozenMap
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.stage import Stage


def _without(context: Context, change: Callable[[str, FrozenMap], FrozenMap], stage: Stage) -> tuple[Case, str] | None:
    """The case with some layers' configurations changed, and the first such layer's class; None where none is."""
    case = context.case
    if case is None or context.vanishes is None or context.difference.stage is not stage:
        return None
    nodes = [
        node if node.layer is None else _replaced(node, change(node.layer, node.config)) for node in case.model.nodes
    ]
    changed = [new.layer for new, old in zip(nodes, case.model.nodes, strict=True) if new != old]
    if not changed:
        return None
    return _replaced_case(case, tuple(nodes)), changed[0] or ""


def _replaced(node: Any, config: FrozenMap) -> Any:
    return msgspec.structs.replace(node, config=config)


def _replaced_case(case: Case, nodes: tuple[Any, ...]) -> Case:
    return msgspec.structs.replace(case, model=msgspec.structs.replace(case.model, nodes=nodes))


def _silenced(layer: str, config: FrozenMap) -> FrozenMap:
    if not LAYERS[layer].random:
        return config
    return config.set(**{name: 0.0 for name in ("rate", "stddev") if name in config})


def _synchronized(layer: str, config: FrozenMap) -> FrozenMap:
    return config.set(synchronized=True) if layer == "BatchNormalization" else config


def _on_replicas(
    context: Context, change: Callable[[str, FrozenMap], FrozenMap], told: str, stage: Stage = Stage.OUTPUTS
) -> Replay | None:
    if context.suspect.replicas < 2:
        return None
    changed = _without(context, change, stage)
    if changed is None or context.vanishes is None:
        return None
    if context.vanishes(changed[0]):
        return Replay(False, (f"the difference vanishes {told}",), changed[1])
    return None


def _no_activity_penalty(layer: str, config: FrozenMap) -> FrozenMap:
    return config.set(l1=0.0, l2=0.0) if layer == "ActivityRegularization" else config.without("activity_regularizer")


def activity_scale(context: Context) -> Replay | None:
    """Uneven replicas agree once nothing of their activities is penalized."""
    rows = context.rows(context.difference.step or 0)
    if len(set(rows)) < 2:
        return None
    told = f"without activity regularization; the replicas hold {' and '.join(map(str, rows))} rows"
    replay = _on_replicas(context, _no_activity_penalty, told, Stage.LOSS)
    return None if replay is None else Replay(False, replay.evidence)


def uneven_otherwise(context: Context) -> Replay | None:
    """A mean of means that the shares alone do not show, for only some of the losses are means."""
    rows = context.rows(context.difference.step or 0)
    if len(set(rows)) < 2 or context.difference.stage not in (Stage.LOSS, Stage.LOCAL_GRADIENT):
        return None
    return vanishes_evenly(context)


def vanishes_evenly(context: Context) -> Replay | None:
    """The difference is gone once every batch splits evenly."""
    case, replicas = context.case, context.suspect.replicas
    if case is None or context.vanishes is None or replicas < 2:
        return None
    rows = [context.rows(step) for step in range(context.suspect.steps)]
    uneven = next((counts for counts in rows if len(set(counts)) > 1), None)
    if uneven is None:
        return None
    size = -(-case.data.batch_size // replicas) * replicas
    even = msgspec.structs.replace(case.data, batch_size=size, rows=size * case.steps_per_epoch)
    if not context.vanishes(msgspec.structs.replace(case, data=even)):
        return None
    held = " and ".join(map(str, uneven))
    return Replay(False, (f"replicas hold {held} rows, and the difference vanishes when every batch splits evenly",))


def local_statistics(context: Context) -> Replay | None:
    """Replicas agree once their normalizations share statistics."""
    return _on_replicas(context, _synchronized, "with BatchNormalization(synchronized=True)")


def random_stream(context: Context) -> Replay | None:
    """Replicas agree once their random layers draw nothing."""
    return _on_replicas(context, _silenced, "when the random layers draw nothing")


def _statistics_and_stream(context: Context) -> Replay | None:
    def both(layer: str, config: FrozenMap) -> FrozenMap:
        return _silenced(layer, _synchronized(layer, config))

    return _on_replicas(context, both, "with both synchronized statistics and silenced random layers")


def statistics_then_stream(context: Context) -> Replay | None:
    """Both, where a normalization comes first."""
    replay = _statistics_and_stream(context)
    return replay if replay and replay.feature == "BatchNormalization" else None


def stream_then_statistics(context: Context) -> Replay | None:
    """Both, where a random layer comes first."""
    replay = _statistics_and_stream(context)
    return replay if replay and replay.feature != "BatchNormalization" else None


def weighted_scalar(context: Context) -> Replay | None:
    """Replicas agree without sample weights on a loss that is a scalar."""
    case = context.case
    if case is None or context.vanishes is None or case.data.sample_weight is None or context.suspect.replicas < 2:
        return None
    scalars = [loss.name for loss in case.losses if LOSSES[loss.name].returns == "scalar"]
    if not scalars or context.difference.stage not in (Stage.LOSS, Stage.LOCAL_GRADIENT):
        return None
    plain = msgspec.structs.replace(case, data=msgspec.structs.replace(case.data, sample_weight=None))
    # Without the weights the scalar is not divided by the replicas either: that is another finding, so both go.
    losses = tuple(
        msgspec.structs.replace(loss, name="mean_squared_error") if loss.name in scalars else loss
        for loss in case.losses
    )
    if not context.vanishes(msgspec.structs.replace(plain, losses=losses)):
        return None
    return Replay(False, ("the difference vanishes without sample weights and with a loss of one value a row",))
