"""Draws whole cases."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hypothesis import strategies as st

from conformance.case import FEEDS, METRICS, PRECISIONS, Case, Loss
from conformance.losses import LOSSES
from conformance.optimizers import OPTIMIZERS
from conformance.strategies import arguments
from conformance.strategies.data import MOST_REPLICAS, draw_data
from conformance.strategies.losses import draw_loss
from conformance.strategies.models import MOST_LAYERS, check_kinds, check_layers, draw_model
from conformance.strategies.optimizers import draw_optimizer
from conformance.strategies.schedules import draw_schedule
from conformance.strategies.weighted import pick

_CLASSES = ("onehot", "label")


@dataclass(frozen=True)
class _Scope:
    """What cases are drawn from: the checked arguments of `cases`."""

    replicas: int
    max_layers: int
    layers: tuple[str, ...] | None
    losses: tuple[str, ...]
    optimizers: tuple[str, ...]
    feeds: tuple[str, ...]
    kinds: tuple[str, ...]
    precisions: tuple[str, ...]
    weighted: bool


def cases(
    *,
    replicas: int = 2,
    max_layers: int = 5,
    layers: Iterable[str] | None = None,
    losses: Iterable[str] | None = None,
    optimizers: Iterable[str] | None = None,
    feeds: Iterable[str] | None = None,
    kinds: Iterable[str] | None = None,
    precisions: Iterable[str] = ("float32",),
    weighted: bool = True,
) -> st.SearchStrategy[Case]:
    """A case: a tiny model with its losses, optimizer, metrics, data, schedule and seed.

    It trains for at most 6 steps on at most 48 rows. Shrinks to one Dense layer under SGD and the mean squared error,
    one step of as many rows as replicas.

    Args:
        replicas: the most replicas the case is to be trained on, 1 to 16; an epoch has at least a row for each.
        max_layers: the most layers drawn one after the other, the head included, 1 to 20.
        layers: the layers to draw from, names of `conformance.layers.LAYERS`, all alike often; None for all, the
            random, recurrent and batch-dependent ones in few cases.
        losses: the losses to draw from, names of `conformance.losses.LOSSES`; None for all.
        optimizers: the optimizers to draw from, names of `conformance.optimizers.OPTIMIZERS`; None for all.
        feeds: of `arrays`, `dataset` and `generator`; None for all.
        kinds: of `sequential` and `functional`; None for both.
        precisions: of `float32`, `float64`, `mixed_bfloat16` and `mixed_float16`, all alike often.
        weighted: whether some cases have sample weights.

    Raises:
        UsageError: when an argument is out of range, a name is not known, or nothing can be drawn.

    Example:
        >>> import hypothesis
        >>> case = hypothesis.find(cases(losses=["poisson"]), lambda case: case.last_batch == 1)
        >>> case.model.nodes[0].config["activation"], case.data.rows, case.data.batch_size
        ('softplus', 3, 2)
    """
    allowed = check_layers(layers)
    scope = _Scope(
        replicas=arguments.whole(replicas, 1, MOST_REPLICAS, "replicas"),
        max_layers=arguments.whole(max_layers, 1, MOST_LAYERS, "max_layers"),
        layers=allowed,
        losses=arguments.names(losses, LOSSES, "losses"),
        optimizers=arguments.names(optimizers, OPTIMIZERS, "optimizers"),
        feeds=arguments.names(feeds, FEEDS, "feeds"),
        kinds=check_kinds(kinds, allowed),
        precisions=arguments.names(precisions, PRECISIONS, "precisions"),
        weighted=weighted,
    )
    return _case(scope)


@st.composite
def _case(draw: st.DrawFn, scope: _Scope) -> Case:
    model, losses = draw_model(
        draw, scope.max_layers, scope.layers, scope.kinds, lambda inner: draw_loss(inner, scope.losses)
    )
    optimizer = draw_optimizer(draw, scope.optimizers)
    data = draw_data(draw, scope.replicas, scope.feeds, scope.weighted)
    schedule = draw_schedule(draw, -(-data.rows // data.batch_size))
    return Case(
        model=model,
        losses=losses,
        optimizer=optimizer,
        data=data,
        metrics=_draw_metrics(draw, losses),
        schedule=schedule,
        seed=draw(st.integers(0, 9)),
        precision=_draw_precision(draw, scope.precisions),
    )


def _draw_precision(draw: st.DrawFn, precisions: tuple[str, ...]) -> str:
    # Where there is no choice nothing is drawn, so that a seed keeps its cases.
    return precisions[0] if len(precisions) == 1 else draw(st.sampled_from(precisions))


def _draw_metrics(draw: st.DrawFn, losses: tuple[Loss, ...]) -> tuple[str, ...]:
    """No metrics, as often as not, or some of those that suit the targets."""
    targets = {LOSSES[loss.name].target for loss in losses}
    accuracy = [name for name in METRICS if name == "accuracy" and targets & set(_CLASSES)]
    errors = [name for name in METRICS if name != "accuracy" and targets - set(_CLASSES)]
    useful = accuracy + errors
    nothing: tuple[str, ...] = ()
    return pick(draw, (nothing, len(useful) + 1), *(((name,), 1) for name in useful), (tuple(useful), 1))
