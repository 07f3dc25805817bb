"""The model of a case as a drawing: boxes in rows from the inputs to the optimizer, with the guilty one marked.

A simple layered layout: a box stands a row below the lowest of those it reads from; a line that passes rows bends
through a place kept free for it in each; and within a row, what is there stands in the order of what it reads from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from conformance.case import Case, owner_of, shapes
from conformance.frozen import thaw
from conformance.reports.text import quoted, shortened
from conformance.stage import Stage
from conformance.verdict import Observation

BOX, TALL, FREE = 200, 66, 26
"""Width and height of a box, and the width of the place that a passing line takes."""

_APART, _BELOW, _EDGE = 18, 34, 12
_HEAD, _LINE = 25, 30
"""The letters that fit into a box."""

OF_CAUSES = {
    "activity_loss_scale": ("activity_regularizer",),
    "regularization_omitted": ("kernel_regularizer", "bias_regularizer", "embeddings_regularizer"),
    "regularization_outside_tape": ("kernel_regularizer", "bias_regularizer", "embeddings_regularizer"),
    "replica_regularization_not_scaled": ("kernel_regularizer", "bias_regularizer", "embeddings_regularizer"),
    "constraint_not_applied": ("kernel_constraint", "bias_constraint", "embeddings_constraint"),
}
"""By cause the options of layers that it is about."""

NAMED, SHOWN = "what the cause is about", "where it shows first"


@dataclass(frozen=True)
class Box:
    """A box: where its left upper corner is, its lines, all of it, and why it is marked (empty where it is not)."""

    x: float
    y: float
    kind: str
    head: str
    lines: tuple[str, ...]
    told: str
    mark: str = ""
    width: int = BOX
    height: int = TALL


@dataclass(frozen=True)
class Graph:
    """Boxes and the lines between them, each an SVG path; `says` is the whole in a sentence."""

    boxes: tuple[Box, ...]
    paths: tuple[str, ...]
    width: int
    height: int
    says: str


@dataclass(frozen=True)
class _Part:
    name: str
    kind: str
    head: str
    lines: tuple[str, ...]
    reads: tuple[str, ...]


def graph(case: Case, item: Observation) -> Graph:
    """The drawing of a case's training, with what a finding points at marked."""
    parts = _parts(case)
    marks = marked(case, item)
    rows, links = _rows(parts)
    places = _places(rows)
    boxes = tuple(
        Box(
            *places[part.name],
            part.kind,
            shortened(part.head, _HEAD),
            tuple(shortened(line, _LINE) for line in part.lines),
            ", ".join((part.head, *part.lines)),
            marks.get(part.name, ""),
        )
        for part in parts
    )
    paths = tuple(_path(places, chain) for chain in links)
    width = max(x + (BOX if name in {part.name for part in parts} else FREE) for name, (x, _) in places.items())
    told = [f"{quoted(part.name)}, {part.head} ({marks[part.name]})" for part in parts if part.name in marks]
    says = f"Marked: {', '.join(told)}." if told else "The finding points at no single part of it."
    # A mark stands below its box.
    return Graph(boxes, paths, round(width) + _EDGE, len(rows) * (TALL + _BELOW) + _EDGE, says)


def marked(case: Case, item: Observation) -> dict[str, str]:
    """By part why it is marked: what the cause is about, or, where that is no part, where the difference shows."""
    nodes, feature, name = case.model.nodes, item.signature.split("/")[-1], item.cause.name
    about = [node.name for node in nodes if owner_of(case.model, node).layer == feature]
    options = OF_CAUSES.get(name, ())
    about += [node.name for node in nodes if any(node.config.get(option) is not None for option in options)]
    if feature in case.optimizer.config or feature == case.optimizer.name:
        about.append("the optimizer")
    if about:
        return dict.fromkeys(about, NAMED)
    found = item.divergence
    if found.stage is Stage.LOSS:
        return {f"loss {index}": SHOWN for index in range(len(case.losses))}
    path = found.variable.replace("/", "_")
    holds = [node.name for node in nodes if node.name == path or f"_{node.name}_" in f"_{path}_"]
    if holds:
        return {max(holds, key=len): SHOWN}
    return {"the optimizer": SHOWN} if found.stage is Stage.UPDATE else {}


def _parts(case: Case) -> list[_Part]:
    known = shapes(case.model)
    parts = []
    for given in case.model.inputs:
        below = f"whole numbers below {given.below}" if given.below is not None else ""
        parts.append(_part(given.name, "input", "input", (), f"{given.name} {_shape(given.shape)}", below))
    for node in case.model.nodes:
        owner = owner_of(case.model, node)
        again = f"the layer of {node.shares} again" if node.shares is not None else _options(owner.config)
        shape = f"{node.name} {_shape(known[node.name])}"
        parts.append(_part(node.name, "layer", owner.layer or "", node.inputs, shape, again))
    losses = [f"loss {index}" for index in range(len(case.losses))]
    for name, loss, output in zip(losses, case.losses, case.model.outputs, strict=True):
        weight = f"loss, weight {loss.weight:g}" if loss.weight is not None else "loss"
        parts.append(_part(name, "loss", loss.name, (output,), weight, _options(loss.config)))
    # A name with a blank is none of a case's.
    options = _options(case.optimizer.config)
    parts.append(_part("the optimizer", "optimizer", case.optimizer.name, tuple(losses), "optimizer", options))
    return parts


def _part(name: str, kind: str, head: str, reads: tuple[str, ...], *lines: str) -> _Part:
    return _Part(name, kind, head, tuple(line for line in lines if line), reads)


def _options(config: Mapping[str, object]) -> str:
    return ", ".join(f"{key}={_told(value)}" for key, value in config.items() if value is not None)


def _shape(shape: Sequence[int]) -> str:
    return f"({', '.join(['batch', *map(str, shape)])})"


def _told(value: object) -> str:
    plain = thaw(value)
    if isinstance(plain, Mapping):
        return " ".join(f"{key} {item}" for key, item in plain.items())
    return str(plain)


def _rows(parts: Sequence[_Part]) -> tuple[list[list[str]], list[list[str]]]:
    """The rows from the top, and each line as the chain of places it passes."""
    depth: dict[str, int] = {}
    for part in parts:
        depth[part.name] = 1 + max((depth[name] for name in part.reads), default=-1)
    # Losses stand side by side, however early their output is made.
    lowest = max(depth[part.name] for part in parts if part.kind == "loss")
    depth |= {part.name: lowest for part in parts if part.kind == "loss"}
    depth["the optimizer"] = lowest + 1
    rows: list[list[str]] = [[] for _ in range(lowest + 2)]
    above: dict[str, list[str]] = {}
    links: list[list[str]] = []
    for part in parts:
        rows[depth[part.name]].append(part.name)
        for name in part.reads:
            chain = [name]
            for passed in range(depth[name] + 1, depth[part.name]):
                free = f"{name} > {part.name} {passed}"
                rows[passed].append(free)
                above.setdefault(free, []).append(chain[-1])
                chain.append(free)
            above.setdefault(part.name, []).append(chain[-1])
            links.append([*chain, part.name])
    for index, row in enumerate(rows[1:], 1):
        order = {name: place for place, name in enumerate(rows[index - 1])}
        row.sort(key=lambda name: _mean([order[other] for other in above.get(name, ()) if other in order]))
    return rows, links


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values) if values else 0.0


def _width(name: str) -> int:
    return FREE if " > " in name else BOX


def _places(rows: Sequence[Sequence[str]]) -> dict[str, tuple[float, float]]:
    """By name the left upper corner; every row is centred."""
    widths = [sum(map(_width, row)) + _APART * (len(row) - 1) for row in rows]
    places = {}
    for index, row in enumerate(rows):
        x = _EDGE + (max(widths) - widths[index]) / 2
        for name in row:
            places[name] = x, float(_EDGE + index * (TALL + _BELOW))
            x += _width(name) + _APART
    return places


def _path(places: Mapping[str, tuple[float, float]], chain: Sequence[str]) -> str:
    """A line from the foot of the first to the head of the last, straight through the places between."""
    x, y = places[chain[0]][0] + _width(chain[0]) / 2, places[chain[0]][1] + TALL
    told = f"M{x:.0f} {y:.0f}"
    for name in chain[1:]:
        to, head = places[name][0] + _width(name) / 2, places[name][1]
        middle = (y + head) / 2
        told += f" C{x:.0f} {middle:.0f} {to:.0f} {middle:.0f} {to:.0f} {head:.0f}"
        x, y = to, head
        if " > " in name:
            y = head + TALL
            told += f" L{x:.0f} {y:.0f}"
    return told
