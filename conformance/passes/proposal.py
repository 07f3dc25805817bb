"""What passes have in common: a case with a change, and models with one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from conformance.case import Case, Loss, Model, Node
from conformance.errors import CaseError
from conformance.frozen import FrozenMap
from conformance.layers import LAYERS

Proposals = Iterator[Case]


def with_changes(case: Case, **changes: Any) -> Proposals:
    """The case with other fields; nothing where that is no valid case, or the same one."""
    try:
        changed: Case = msgspec.structs.replace(case, **changes)
    except CaseError:
        return
    if changed != case:
        yield changed


def unweighted(loss: Loss) -> Loss:
    """The loss without a weight."""
    return msgspec.structs.replace(loss, weight=None)


def swapped(model: Model, new: Node) -> Model:
    """The model with the node of that name replaced."""
    return configured(model, lambda node: new if node.name == new.name else node)


def bare(node: Node) -> Node:
    """The layer with its required options, and the activation its loss may want."""
    if node.layer is None:
        return node
    fields = LAYERS[node.layer].fields
    kept = {n: v for n, v in node.config.items() if n == "activation" or (n in fields and fields[n].required)}
    return msgspec.structs.replace(node, config=FrozenMap(kept))


def configured(model: Model, change: Callable[..., Node]) -> Model:
    """The model with every node changed."""
    return msgspec.structs.replace(model, nodes=tuple(change(node) for node in model.nodes))


def pruned(model: Model) -> Model:
    """The model without what none of its outputs needs."""
    needed = set(model.outputs)
    for node in reversed(model.nodes):
        if node.name in needed:
            needed.update(node.inputs)
            needed.update({node.shares} if node.shares else ())
    nodes = tuple(node for node in model.nodes if node.name in needed)
    inputs = tuple(item for item in model.inputs if item.name in needed)
    return msgspec.structs.replace(model, nodes=nodes, inputs=inputs)
