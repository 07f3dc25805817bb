"""Passes that leave the plainest losses, on the outputs they are defined for."""

from __future__ import annotations

import msgspec

from conformance.case import Case, Model, Node
from conformance.frozen import FrozenMap
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.passes.proposal import Proposals, configured, unweighted, with_changes


def use_mean_squared_error(case: Case) -> Proposals:
    """The plainest loss, on a linear output."""
    losses = tuple(msgspec.structs.replace(loss, name="mean_squared_error", config=FrozenMap()) for loss in case.losses)
    nodes = tuple(
        msgspec.structs.replace(node, config=node.config.without("activation"))
        if node.name in case.model.outputs
        else node
        for node in case.model.nodes
    )
    yield from with_changes(case, losses=losses, model=msgspec.structs.replace(case.model, nodes=nodes))
    for index, loss in enumerate(case.losses):
        plain = msgspec.structs.replace(loss, config=FrozenMap())
        yield from with_changes(case, losses=(*case.losses[:index], plain, *case.losses[index + 1 :]))
    if any(loss.weight is not None for loss in case.losses):
        yield from with_changes(case, losses=tuple(map(unweighted, case.losses)))


def use_an_earlier_loss(case: Case) -> Proposals:
    """One that stands before it in the table, on the output it is defined for."""
    for index, loss in enumerate(case.losses):
        for name in list(LOSSES)[: list(LOSSES).index(loss.name)]:
            config = {option: value for option, value in loss.config.items() if option in LOSSES[name].fields}
            changed = msgspec.structs.replace(loss, name=name, config=FrozenMap(config))
            head = None if config.get("from_logits") else LOSSES[name].head
            model = _activated(case.model, case.model.outputs[index], head)
            yield from with_changes(
                case, model=model, losses=(*case.losses[:index], changed, *case.losses[index + 1 :])
            )


def _activated(model: Model, name: str, activation: str | None) -> Model:
    def change(node: Node) -> Node:
        if node.name != name or node.layer is None or "activation" not in LAYERS[node.layer].fields:
            return node
        bare = node.config.without("activation")
        return msgspec.structs.replace(node, config=bare if activation is None else bare.set(activation=activation))

    return configured(model, change)


def weigh_losses_plainly(case: Case) -> Proposals:
    """The first pair of weights there is to draw."""
    if len(case.losses) > 1 and all(loss.weight is not None for loss in case.losses):
        pairs = zip(case.losses, (0.5, 3.0), strict=False)
        yield from with_changes(
            case, losses=tuple(msgspec.structs.replace(loss, weight=weight) for loss, weight in pairs)
        )
