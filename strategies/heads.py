"""Draws the end of a model: a Dense layer with the activation its loss is defined for, over a tensor of rank 1."""

from __future__ import annotations

from hypothesis import strategies as st

from conformance.case import Loss
from conformance.frozen import FrozenMap
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.strategies.graph import Graph
from conformance.strategies.layers import fits
from conformance.strategies.options import draw_options
from conformance.strategies.palette import Palette

_POOLINGS = ("GlobalAveragePooling1D", "GlobalMaxPooling1D", "GlobalAveragePooling2D", "GlobalMaxPooling2D")

# The loss decides the activation, and a head is always trained, so that no model is without a trainable weight.
_DECIDED = ("activation", "trainable")


def draw_head(draw: st.DrawFn, graph: Graph, tensor: str, loss: Loss, palette: Palette) -> str:
    """Add a head for a loss to a tensor; its name."""
    entry, dense = LOSSES[loss.name], LAYERS["Dense"]
    tensor = draw_vector(draw, graph, tensor, palette)
    activation = None if loss.config.get("from_logits", False) else entry.head
    config = FrozenMap() if activation is None else FrozenMap(activation=activation)
    units = [count for count in dense.fields["units"].options(()) if count >= entry.least_units]
    config = config.set(units=draw(st.sampled_from(units)))
    fields = {name: field for name, field in dense.fields.items() if name not in _DECIDED}
    return graph.call("Dense", draw_options(draw, fields, onto=config), tensor)


def draw_vector(draw: st.DrawFn, graph: Graph, tensor: str, palette: Palette) -> str:
    """A tensor of rank 1 made of another one: itself, flattened or pooled."""
    shape = graph.shapes[tensor]
    poolings = [name for name in _POOLINGS if name in palette.common and fits(LAYERS[name], (shape,))]
    # Drawn even where there is nothing to choose, so that a change of rank leaves the choices behind this one in step.
    chosen = draw(st.sampled_from(["Flatten", *poolings]))
    return tensor if len(shape) == 1 else graph.call(chosen, {}, tensor)
