"""Draws the body of a model, one layer after the other.

A step is one choice among stopping, every layer that can be called on the tensor at hand, merging it with another one,
and calling an earlier layer again. Stopping is the simplest of them, so a shrunk model has the layers it needs.
"""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

from conformance.layers import LAYERS
from conformance.strategies.graph import Graph
from conformance.strategies.layers import draw_config, fits
from conformance.strategies.palette import AGAIN_SHARE, MERGE_SHARE, RARE_SHARE, Palette
from conformance.strategies.weighted import pick

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
    for step in range(steps):
        chosen = _draw_step(draw, graph, tensor, palette, branches)
        if chosen == _STOP:
            return tensor, step
        if chosen == _AGAIN:
            tensor = graph.call_again(draw(st.sampled_from(_owners(graph, tensor))), tensor)
        elif chosen == _MERGE:
            tensor = _merge(draw, graph, tensor, palette)
        elif chosen == _RARE:
            tensor = _call(draw, graph, tensor, pick(draw, *_fitting(graph, tensor, palette.rare)))
        else:
            tensor = _call(draw, graph, tensor, chosen)
    return tensor, steps


def _draw_step(draw: st.DrawFn, graph: Graph, tensor: str, palette: Palette, branches: bool) -> str:
    common = _fitting(graph, tensor, palette.common)
    if graph.below(tensor) is not None:
        # Indices can go nowhere but into an Embedding, and cannot stay what they are.
        return pick(draw, *common)
    # Layers of every rank come first and so keep their places in the list when the shrinker takes a layer before away.
    anywhere = [(name, share) for name, share in common if len(LAYERS[name].ranks) == 3]
    special = {
        _RARE: RARE_SHARE if _fitting(graph, tensor, palette.rare) else 0,
        _MERGE: MERGE_SHARE if branches and _merging(graph, tensor, palette) else 0,
        _AGAIN: AGAIN_SHARE if branches and _owners(graph, tensor) else 0,
    }
    found = [*anywhere, *special.items(), *(pair for pair in common if pair not in anywhere)]
    return pick(draw, (_STOP, 1 + sum(share for _, share in found) // 3), *found)


def _fitting(graph: Graph, tensor: str, shares: Mapping[str, int]) -> list[tuple[str, int]]:
    shape, below = graph.shapes[tensor], graph.below(tensor)
    return [(name, share) for name, share in shares.items() if fits(LAYERS[name], (shape,), below)]


def _call(draw: st.DrawFn, graph: Graph, tensor: str, layer: str) -> str:
    config = draw_config(draw, LAYERS[layer], (graph.shapes[tensor],), graph.below(tensor))
    return graph.call(layer, config, tensor)


def _merge(draw: st.DrawFn, graph: Graph, tensor: str, palette: Palette) -> str:
    layer = draw(st.sampled_from(_merging(graph, tensor, palette)))
    partner = draw(st.sampled_from(_partners(graph, tensor, layer, palette)))
    if partner == _BRANCH:
        # A Dense layer over the last axis keeps the shape of a tensor of any rank, as a residual branch must.
        partner = graph.call("Dense", {"units": graph.shapes[tensor][-1]}, tensor)
    return graph.call(layer, {}, tensor, partner)


def _merging(graph: Graph, tensor: str, palette: Palette) -> list[str]:
    return [name for name in palette.merges if _partners(graph, tensor, name, palette)]


def _partners(graph: Graph, tensor: str, layer: str, palette: Palette) -> list[str]:
    """What a tensor can be merged with: a branch of its own, or an earlier tensor, latest first."""
    shape = graph.shapes[tensor]
    branch = [_BRANCH] if "Dense" in palette.common and fits(LAYERS[layer], (shape, shape)) else []
    earlier = [name for name in graph.tensors() if name != tensor]
    return branch + [name for name in earlier if fits(LAYERS[layer], (shape, graph.shapes[name]))]


def _owners(graph: Graph, tensor: str) -> list[str]:
    """The nodes whose layers can be called again on a tensor: it has the shape they were made for."""
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
