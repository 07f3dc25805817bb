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
from conformance.strategies.weighted import pick, pick_fitting

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
    if branches:
        tensor, used = draw(_second_input(graph, first, tensor, palette, used, steps))
    tensor, _ = draw_body(draw, graph, tensor, palette, steps=steps - used, branches=branches)
    return graph, tensor


# A strategy, where a function would do, is a span to the shrinker: it tries the simplest of it in one attempt.
@st.composite
def _second_input(
    draw: st.DrawFn, graph: Graph, first: str, tensor: str, palette: Palette, used: int, steps: int
) -> tuple[str, int]:
    """Sometimes a second input, and what joins it to the tensor; the last tensor and the steps up to it."""
    second = pick(draw, ("none", 8), ("own", 1), ("shared", 1))
    if second == "none":
        return tensor, used
    if second == "shared":
        other, taken = _repeat(graph, first, tensor), used
    else:
        other = graph.input(*_draw_input(draw, palette, steps))
        other, taken = draw_body(draw, graph, other, palette, steps=steps, branches=True)
    return _join(draw, graph, tensor, other, palette), max(used, taken)


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
    if not _joints(graph, one, other, palette):
        one, other = (draw_vector(draw, graph, tensor, palette) for tensor in (one, other))
    # Of two vectors that nothing else joins, together they may be twice as long as a layer makes them.
    fitting = _joints(graph, one, other, palette) or ["Concatenate"]
    names = dict.fromkeys(("Concatenate", *palette.merges))
    return graph.call(pick_fitting(draw, fitting.__contains__, *((name, 1) for name in names)), {}, one, other)


def _joints(graph: Graph, one: str, other: str, palette: Palette) -> list[str]:
    shapes = graph.shapes[one], graph.shapes[other]
    return [name for name in dict.fromkeys(("Concatenate", *palette.merges)) if fits(LAYERS[name], shapes)]
