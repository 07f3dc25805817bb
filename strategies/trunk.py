"""Draws the trunk of a model: one or two inputs, a body behind each, and what joins them to one tensor."""

from __future__ import annotations

from hypothesis import strategies as st

from conformance.fields import Shape
from conformance.layers import LAYERS
from conformance.strategies.body import draw_body
from conformance.strategies.graph import Graph
from conformance.strategies.heads import draw_vector
from conformance.strategies.layers import fits
from conformance.strategies.palette import Palette
from conformance.strategies.weighted import pick

# Tensors are tiny, for a fault shows on one number and shrinks to few; wide enough for a window of three.
_VECTORS: tuple[Shape, ...] = ((1,), (2,), (3,), (4,))
_SEQUENCES: tuple[Shape, ...] = tuple((steps, channels) for channels in (1, 2, 3) for steps in (3, 4, 5, 6))
_IMAGES: tuple[Shape, ...] = tuple((side, side, channels) for channels in (1, 2, 3) for side in (4, 5))
_LENGTHS: tuple[Shape, ...] = ((3,), (4,), (5,), (6,))


def draw_trunk(draw: st.DrawFn, palette: Palette, *, steps: int, branches: bool) -> tuple[Graph, str]:
    """A graph and its last tensor, of any rank, on which everything else in it bears.

    Args:
        draw: Hypothesis's draw function.
        palette: what to draw layers from.
        steps: the most steps from an input to the last tensor.
        branches: whether it may be more than a chain.
    """
    graph = Graph()
    first = graph.input(*_draw_input(draw, palette, steps))
    tensor, used = draw_body(draw, graph, first, palette, steps=steps, branches=branches)
    second = pick(draw, ("none", 8), ("own", 1), ("shared", 1)) if branches else "none"
    if second == "none":
        return graph, tensor
    if second == "shared":
        other = _repeat(graph, first, tensor)
    else:
        other = graph.input(*_draw_input(draw, palette, steps))
        other, taken = draw_body(draw, graph, other, palette, steps=steps, branches=branches)
        used = max(used, taken)
    tensor = _join(draw, graph, tensor, other, palette)
    tensor, _ = draw_body(draw, graph, tensor, palette, steps=steps - used, branches=branches)
    return graph, tensor


def _draw_input(draw: st.DrawFn, palette: Palette, steps: int) -> tuple[Shape, int | None]:
    """The shape of an input, and for indices the number they stay below."""
    ranks = palette.ranks
    nothing: int | None = None
    shares = [((shape, nothing), 5) for shape in _VECTORS if 1 in ranks]
    shares += [((shape, nothing), 2) for shape in _SEQUENCES if 2 in ranks]
    shares += [((shape, nothing), 4) for shape in _IMAGES if 3 in ranks]
    # Indices take a step, the Embedding they feed.
    if "Embedding" in palette.common and steps > 0:
        counts = LAYERS["Embedding"].fields["input_dim"].options(())
        shares += [((shape, below), 1) for below in counts for shape in _LENGTHS]
    return pick(draw, *(shares or [((shape, nothing), 1) for shape in _VECTORS]))


def _repeat(graph: Graph, first: str, last: str) -> str:
    """A second input of the first one's shape, and every layer behind that one called again on it."""
    given = graph.inputs[first]
    again = {first: graph.input(given.shape, given.below)}
    for node in list(graph.nodes.values()):
        again[node.name] = graph.call_again(node.name, *(again[name] for name in node.inputs))
    return again[last]


def _join(draw: st.DrawFn, graph: Graph, one: str, other: str, palette: Palette) -> str:
    names = _joints(graph, one, other, palette)
    if not names:
        one, other = (draw_vector(draw, graph, tensor, palette) for tensor in (one, other))
        names = _joints(graph, one, other, palette) or ["Concatenate"]
    return graph.call(draw(st.sampled_from(names)), {}, one, other)


def _joints(graph: Graph, one: str, other: str, palette: Palette) -> list[str]:
    shapes = graph.shapes[one], graph.shapes[other]
    return [name for name in dict.fromkeys(("Concatenate", *palette.merges)) if fits(LAYERS[name], shapes)]
