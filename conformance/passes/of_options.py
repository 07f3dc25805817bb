"""Options and values of the front of their tables, for optimizers, losses and layers alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from conformance.case import Case, shapes
from conformance.fields import Field, Shape
from conformance.frozen import FrozenMap
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.optimizers import OPTIMIZERS
from conformance.passes.proposal import Proposals, swapped, with_changes
from conformance.simplicity import WIDTHS, optimizer_fields
from conformance.strategies.options import settings


def use_earlier_options(case: Case) -> Proposals:
    """Options and values of the front of their tables: an L2 penalty of the kernel for an L1 penalty of the bias."""
    optimizer = case.optimizer
    rates = {"learning_rate": OPTIMIZERS[optimizer.name].rates}
    for config in _earlier(optimizer.config, optimizer_fields(optimizer.name), (), rates):
        yield from with_changes(case, optimizer=msgspec.structs.replace(optimizer, config=config))
    for index, loss in enumerate(case.losses):
        for config in _earlier(loss.config, LOSSES[loss.name].fields, ()):
            changed = msgspec.structs.replace(loss, config=config)
            yield from with_changes(case, losses=(*case.losses[:index], changed, *case.losses[index + 1 :]))
    known = shapes(case.model)
    for node in case.model.nodes:
        if node.layer is not None:
            incoming = tuple(known[name] for name in node.inputs)
            for config in _earlier(node.config, LAYERS[node.layer].fields, incoming):
                yield from with_changes(case, model=swapped(case.model, msgspec.structs.replace(node, config=config)))


def _earlier(
    config: FrozenMap,
    fields: Mapping[str, Field],
    incoming: tuple[Shape, ...],
    other: Mapping[str, tuple[Any, ...]] | None = None,
) -> Iterator[FrozenMap]:
    worth = {name: [value for key, value in settings(fields, incoming) if key == name] for name in fields}
    for name, value in config.items():
        bare = config.without(name)
        for earlier in fields if not fields[name].required else ():
            if earlier == name:
                break
            if earlier not in config and fields[earlier].wants == fields[name].wants:
                yield from (bare.set(**{earlier: better}) for better in worth[earlier][:1])
        values = (other or {}).get(name) or (
            fields[name].options(incoming) if fields[name].required else worth.get(name, [])
        )
        before = values[: values.index(value)] if value in values else values
        yield from (config.set(**{name: better}) for better in before if name not in WIDTHS)
