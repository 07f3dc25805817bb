"""Draws the body of a model, one layer after the other.

A step is one choice among stopping, every layer that can be called on the tensor at hand, merging it with another one,
and calling an earlier layer again. Stopping is the simplest of them, so a shrunk model has the layers it needs.
"""

from __future__ import annotations

from hypothesis import strategies as st

from conformance.layers import LAYERS
from conformance.strategies.graph import Graph
from conformance.strategies.layers import draw_config, fits
from conformance.strategies.palette import AGAIN_SHARE, MERGE_SHARE, RARE_SHARE, Palette
from conformance.strategies.weighted import pick_fitting

_STOP = ""
_RARE = "a rare layer"
_MERGE = "merge with another tensor"
_AGAIN = "call an earlier layer again"
_BRANCH = "a new branch"


def draw_body(
    draw: st.DrawFn, graph: Graph, tensor: str, palette: Palette, *, steps: int, branches: bool
) -> tuple[str, int]:
    """Add layers behind a tensor.

    Args:
        draw: Hypothesis's draw function.
        graph: the graph to add to.
        tensor: the input or node to go on from.
        palette: what to draw from.
        steps: the most steps.
        branches: whether the graph may be more than a chain.

    Returns:
        The last node, or the tensor itself, and the number of steps taken.
    """
    taken = 0
    # Stopping is drawn even where nothing else is left, so that taking a layer away leaves the choices behind in step.
    while (chosen := _draw_step(draw, graph, tensor, palette, branches, taken < steps)) != _STOP:
        taken += 1
        if chosen == _AGAIN:
            tensor = graph.call_again(draw(st.sampled_from(_owners(graph, tensor))), tensor)
        elif chosen == _MERGE:
            tensor = _merge(draw, graph, tensor, palette)
        elif chosen == _RARE:
            tensor = _call(draw, graph, tensor, _draw_rare(draw, graph, tensor, palette))
        else:
            tensor = _call(draw, graph, tensor, chosen)
    return tensor, taken


def _draw_step(draw: st.DrawFn, graph: Graph, tensor: str, palette: Palette, branches: bool, more: bool) -> str:
    def fits_here(step: str) -> bool:
        if step == _STOP:
            # Indices can go nowhere but into an Embedding, and cannot stay what they are.
            return graph.below(tensor) is None
        if not more:
            return False
        if step == _RARE:
            return any(_can_call(graph, tensor, name) for name in palette.rare)
        if step == _MERGE:
            return branches and any(_partners(graph, tensor, name, palette) for name in palette.merges)
        if step == _AGAIN:
            return branches and bool(_owners(graph, tensor))
        return _can_call(graph, tensor, step)

    special = ((_RARE, RARE_SHARE), (_MERGE, MERGE_SHARE), (_AGAIN, AGAIN_SHARE))
    total = sum(palette.common.values())
    return pick_fitting(draw, fits_here, (_STOP, 1 + total // 2), *palette.common.items(), *special)


def _draw_rare(draw: st.DrawFn, graph: Graph, tensor: str, palette: Palette) -> str:
    return pick_fitting(draw, lambda name: _can_call(graph, tensor, name), *palette.rare.items())


def _can_call(graph: Graph, tensor: str, layer: str) -> bool:
    return fits(LAYERS[layer], (graph.shapes[tensor],), graph.below(tensor))


def _call(draw: st.DrawFn, graph: Graph, tensor: str, layer: str) -> str:
    config = draw_config(draw, LAYERS[layer], (graph.shapes[tensor],), graph.below(tensor))
    return graph.call(layer, config, tensor)


def _merge(draw: st.DrawFn, graph: Graph, tensor: str, palette: Palette) -> str:
    layers = [(name, 1) for name in palette.merges]
    layer = pick_fitting(draw, lambda name: bool(_partners(graph, tensor, name, palette)), *layers)
    partner = draw(st.sampled_from(_partners(graph, tensor, layer, palette)))
    if partner == _BRANCH:
        # A Dense layer over the last axis keeps the shape of a tensor of any rank, as a residual branch must.
        partner = graph.call("Dense", {"units": graph.shapes[tensor][-1]}, tensor)
    return graph.call(layer, {}, tensor, partner)


def _partners(graph: Graph, tensor: str, layer: str, palette: Palette) -> list[str]:
    """What a tensor can be merged with: a branch of its own, or an earlier tensor, latest first."""
    shape = graph.shapes[tensor]
    if graph.below(tensor) is not None:
        return []
    branch = [_BRANCH] if "Dense" in palette.common and fits(LAYERS[layer], (shape, shape)) else []
    earlier = [name for name in graph.tensors() if name != tensor]
    return branch + [name for name in earlier if fits(LAYERS[layer], (shape, graph.shapes[name]))]


def _owners(graph: Graph, tensor: str) -> list[str]:
    """The nodes whose layers can be called again on a tensor: it has the shape they were made for, and real values."""
    if graph.below(tensor) is not None:
        return []
    return [
        node.name
        for node in graph.nodes.values()
        if node.layer is not None
        and LAYERS[node.layer].weights
        and not LAYERS[node.layer].merges
        and node.inputs != (tensor,)
        and graph.below(node.inputs[0]) is None
        and graph.shapes[node.inputs[0]] == graph.shapes[tensor]
    ]
