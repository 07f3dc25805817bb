"""Draws losses."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

from conformance.case import Loss
from conformance.frozen import FrozenMap
from conformance.losses import LOSSES
from conformance.strategies import arguments
from conformance.strategies.options import draw_options
from conformance.strategies.register_loss import REGISTERED_LOSSES
from conformance.strategies.weighted import pick

# Weights of two losses; one is no power of two, so that a weight applied twice or in another place shows as its own
# factor.
_WEIGHTS: tuple[tuple[tuple[float | None, float | None], int], ...] = (
    ((None, None), 2),
    ((0.5, 3.0), 1),
    ((3.0, 0.5), 1),
)
# Options are rarer than elsewhere: a loss has one or two, and a summed loss differs under replicas by a known factor.
_OPTIONS = ((0, 7), (1, 3))
_SIMPLE = 3
"""The simplest loss is drawn this many times as often as another: with it every other part of a case is judged best."""


def losses(*, names: Iterable[str] | None = None) -> st.SearchStrategy[Loss]:
    """A loss with its options, without a weight.

    Args:
        names: the losses to draw from, names of `conformance.losses.LOSSES`; None for all.

    Raises:
        UsageError: when a name is not known.

    Example:
        >>> import hypothesis
        >>> hypothesis.find(losses(names=["huber"]), lambda loss: True)
        Loss(name='huber', config=FrozenMap({}), weight=None)
    """
    return _loss(arguments.names(names, LOSSES, "names"))


@st.composite
def _loss(draw: st.DrawFn, names: tuple[str, ...]) -> Loss:
    return draw_loss(draw, names)


def draw_loss(draw: st.DrawFn, names: tuple[str, ...]) -> Loss:
    """One loss of `names`."""
    name = pick(draw, (names[0], _SIMPLE), *((name, 1) for name in names[1:]))
    if name in REGISTERED_LOSSES:
        return Loss(name=name, config=FrozenMap(draw(REGISTERED_LOSSES[name])))
    return Loss(name=name, config=draw_options(draw, LOSSES[name].fields, onto=FrozenMap(), counts=_OPTIONS))


def draw_weights(draw: st.DrawFn, losses: tuple[Loss, Loss]) -> tuple[Loss, ...]:
    """The losses of a model with two outputs, sometimes both with weights."""
    weights = pick(draw, *_WEIGHTS)
    return tuple(Loss(name=loss.name, config=loss.config, weight=w) for loss, w in zip(losses, weights, strict=True))
