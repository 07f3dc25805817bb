"""Draws models: a trunk from the inputs to one tensor, and a Dense head for each loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from hypothesis import strategies as st

from conformance.case import Loss, Model
from conformance.errors import UsageError
from conformance.layers import LAYERS
from conformance.losses import LOSSES, loss_entry
from conformance.strategies import arguments
from conformance.strategies.graph import Graph
from conformance.strategies.heads import draw_head
from conformance.strategies.losses import draw_weights
from conformance.strategies.palette import Palette, palette_of
from conformance.strategies.trunk import draw_trunk
from conformance.strategies.weighted import pick

KINDS = ("sequential", "functional")
MOST_LAYERS = 20
"""More than anybody reads, and more than is traced in good time."""


def models(
    *,
    max_layers: int = 5,
    layers: Iterable[str] | None = None,
    kinds: Iterable[str] | None = None,
    losses: Sequence[Loss] | None = None,
) -> st.SearchStrategy[Model]:
    """A model whose outputs have rank 1, without the batch axis, and suit their losses.

    Args:
        max_layers: the most layers drawn one after the other, the head included, 1 to 20. What flattens, branches or
            joins comes on top.
        layers: the layers to draw from, names of `conformance.layers.LAYERS`, all alike often; None for all, the
            random, recurrent and batch-dependent ones in few models. `Dense` and `Flatten` end a model in any case.
        kinds: of `sequential` and `functional`; None for both.
        losses: one or two losses the outputs are for, in order; None for mean squared errors.

    Raises:
        UsageError: when an argument is out of range, a name is not known, or nothing can be drawn.

    Example:
        >>> import hypothesis
        >>> model = hypothesis.find(models(), lambda model: len(model.inputs) == 2)
        >>> [node.name for node in model.nodes]
        ['concatenate_1', 'dense_1']
    """
    arguments.whole(max_layers, 1, MOST_LAYERS, "max_layers")
    allowed = check_layers(layers)
    chosen = check_kinds(kinds, allowed)
    wanted = None
    if losses is not None:
        wanted = tuple(losses)
        if len(wanted) not in (1, 2) or (len(wanted) == 2 and "functional" not in chosen):
            raise UsageError(f"losses={losses!r} should be one loss, or two where functional models are drawn")
        chosen = chosen if len(wanted) == 1 else ("functional",)
        for index, loss in enumerate(wanted):
            if not isinstance(loss, Loss):
                raise UsageError(f"losses[{index}]={loss!r} should be a conformance.case.Loss")
            loss_entry(loss.name, f"losses[{index}].name")
    return _model(max_layers, allowed, chosen, wanted)


def check_layers(layers: Iterable[str] | None) -> tuple[str, ...] | None:
    """The layers given, in table order; None for None."""
    return None if layers is None else arguments.names(layers, LAYERS, "layers")


def check_kinds(kinds: Iterable[str] | None, layers: tuple[str, ...] | None) -> tuple[str, ...]:
    """The kinds given, simplest first, of which one at least can be made of the layers."""
    chosen = arguments.names(kinds, KINDS, "kinds")
    if layers is not None and "functional" not in chosen and all(LAYERS[name].merges for name in layers):
        raise UsageError(f"layers={layers!r} only merge, and a sequential model has nothing to merge; add other layers")
    return chosen


@st.composite
def _model(
    draw: st.DrawFn,
    max_layers: int,
    layers: tuple[str, ...] | None,
    kinds: tuple[str, ...],
    losses: tuple[Loss, ...] | None,
) -> Model:
    given = iter(losses or ())
    simplest = Loss(name=next(iter(LOSSES)))
    outputs = len(losses) if losses else None
    return draw_model(draw, max_layers, layers, kinds, lambda _: next(given, simplest), outputs)[0]


def draw_model(
    draw: st.DrawFn,
    max_layers: int,
    layers: tuple[str, ...] | None,
    kinds: tuple[str, ...],
    draw_loss: Callable[[st.DrawFn], Loss],
    outputs: int | None = None,
) -> tuple[Model, tuple[Loss, ...]]:
    """A model and the loss of each of its outputs.

    Every choice stands right before those that depend on it. Where the shrinker takes a choice back, it tries to leave
    out what follows; a kind of model drawn first would govern all the rest, and shrinking would stop there.
    """
    branches = "functional" in kinds
    palette = palette_of(layers)
    first = draw_loss(draw)
    graph, tensor = draw_trunk(draw, palette, steps=max_layers - 1, branches=branches)
    ends = [draw_head(draw, graph, tensor, first, palette)]
    losses: tuple[Loss, ...] = (first,)
    if branches and outputs != 1:
        ends, losses = draw(_second_output(graph, tensor, ends[0], first, palette, draw_loss, outputs == 2))
    possible = kinds if graph.is_chain and len(ends) == 1 else ("functional",)
    kind = pick(draw, *((name, 5 if name == "sequential" else 1) for name in possible))
    return graph.model(kind, ends), losses


@st.composite
def _second_output(
    draw: st.DrawFn,
    graph: Graph,
    tensor: str,
    head: str,
    first: Loss,
    palette: Palette,
    draw_loss: Callable[[st.DrawFn], Loss],
    wanted: bool,
) -> tuple[list[str], tuple[Loss, ...]]:
    """Where one is wanted, and sometimes otherwise, another head on some tensor; the heads and their losses."""
    if not wanted and not pick(draw, (False, 5), (True, 1)):
        return [head], (first,)
    # The first head is not offered: what a loss is defined for, a softmax say, is seldom what another starts from.
    tensors = [tensor, *(name for name in graph.tensors() if name not in (tensor, head))]
    loss = draw_loss(draw)
    second = draw_head(draw, graph, draw(st.sampled_from(tensors)), loss, palette)
    return [head, second], draw_weights(draw, (first, loss))
