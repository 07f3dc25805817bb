"""Passes that leave a layer plainer, or put one in its place that stands before it in the table."""

from __future__ import annotations

from typing import Any

import msgspec

from conformance.case import Case, shapes
from conformance.frozen import FrozenMap
from conformance.layers import LAYERS
from conformance.passes.proposal import Proposals, bare, configured, swapped, with_changes


def plain_layers(case: Case) -> Proposals:
    """Layers without the options they can do without: all of them, one layer's, one option."""
    yield from with_changes(case, model=configured(case.model, bare))
    for node in case.model.nodes:
        if node.layer is None:
            continue
        fewer = (msgspec.structs.replace(node, config=node.config.without(option)) for option in node.config)
        for plainer in (bare(node), *fewer):
            yield from with_changes(case, model=swapped(case.model, plainer))


def use_an_earlier_layer(case: Case) -> Proposals:
    """A layer of the same sort that stands before it in the table, as plain as can be, or with the options of both."""
    known, kinds = shapes(case.model), list(LAYERS)
    for node in case.model.nodes:
        if node.layer is None or node.name in case.model.outputs:
            continue
        incoming = tuple(known[item] for item in node.inputs)
        for name in kinds[: kinds.index(node.layer)]:
            if _sort(name) != _sort(node.layer) or any(len(shape) not in LAYERS[name].ranks for shape in incoming):
                continue
            fields = LAYERS[name].fields
            needed = {option: field.options(incoming) for option, field in fields.items() if field.required}
            if not all(needed.values()):
                continue
            least = {option: values[0] for option, values in needed.items()}
            shared = {option: value for option, value in node.config.items() if option in fields}
            for config in dict.fromkeys((FrozenMap(least), FrozenMap({**least, **shared}))):
                changed = msgspec.structs.replace(node, layer=name, config=config)
                yield from with_changes(case, model=swapped(case.model, changed))


def _sort(layer: str) -> tuple[Any, ...]:
    entry = LAYERS[layer]
    return entry.takes, entry.merges, entry.random, entry.weights, entry.samples, entry.make is None
