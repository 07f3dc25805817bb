"""Which of two cases is the simpler one: a total order.

The key idea is that "the" minimal case is one case only if any two cases can be compared. What a reader minds most is
compared first: how much of a model there is, then how long it trains on how much, then what was set, then how it is
fed, then the numbers, then the names. What is left is compared as text, so no two different cases are equal.

Placements and trainers are no part of a case; the fewest of them are found before a case is made smaller.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from conformance.case import FEEDS, METRICS, PATTERNS, PRECISIONS, Case, owner_of, shapes, to_json
from conformance.fields import Field, Shape
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.optimizers import COMMON, OPTIMIZERS, optimizer_entry
from conformance.strategies.graph import snake

Key = tuple[Any, ...]

WIDTHS = ("units", "filters", "output_dim")
"""Options that say how wide a layer is, and so no more about a training than a shape does."""

PLAIN_ROWS = 2
"""Rows of the simplest batch: the mean over one row is that row, and hides how it was taken."""


def simplicity(case: Case) -> Key:
    """The key of the order; of two cases, the one with the lesser key is simpler.

    Example:
        >>> from conformance.cases import load
        >>> min(load("dropout"), load("clipnorm"), key=simplicity) == load("clipnorm")
        True
    """
    return (*_model(case), *_training(case), *_settings(case), *_feeding(case), *_values(case), *_names(case))


def _model(case: Case) -> Key:
    owners = [node for node in case.model.nodes if node.layer is not None]
    return (
        sum(LAYERS[node.layer or ""].weights for node in owners),
        len(case.model.nodes),
        len(case.model.inputs),
        len(case.losses),
        case.model.kind != "sequential",
    )


def _training(case: Case) -> Key:
    rows, batch_size = case.data.rows, case.data.batch_size
    largest = min(rows, batch_size)
    return (
        case.steps,
        case.schedule.epochs,
        max(largest, PLAIN_ROWS),
        largest < PLAIN_ROWS,
        rows,
        batch_size,
        case.schedule.steps_per_execution,
    )


def _settings(case: Case) -> Key:
    configs = [node.config for node in case.model.nodes] + [loss.config for loss in case.losses]
    kinds = list(LAYERS)
    layers = sorted(kinds.index(owner_of(case.model, node).layer or "") for node in case.model.nodes)
    return (
        len(case.optimizer.config) + sum(map(len, configs)),
        list(OPTIMIZERS).index(case.optimizer.name),
        tuple(list(LOSSES).index(loss.name) for loss in case.losses),
        tuple(layers),
        not case.optimizer.built_first,
        PRECISIONS.index(case.precision),
    )


def _feeding(case: Case) -> Key:
    return (
        FEEDS.index(case.data.feed),
        case.data.sample_weight is not None,
        sum(loss.weight is not None for loss in case.losses),
        len(case.metrics),
        tuple(METRICS.index(name) for name in case.metrics),
    )


def _values(case: Case) -> Key:
    known = shapes(case.model)
    widths = [int(node.config.get(name, 0)) for node in case.model.nodes for name in WIDTHS]
    rate = (OPTIMIZERS[case.optimizer.name].rates, case.optimizer.config["learning_rate"])
    return (
        sum(len(item.shape) for item in case.model.inputs),
        sum(math.prod(item.shape) + (item.below or 0) for item in case.model.inputs),
        sum(widths),
        PATTERNS.index(case.data.pattern),
        PATTERNS.index(case.data.sample_weight) if case.data.sample_weight else 0,
        _ranks(case.optimizer.config, optimizer_fields(case.optimizer.name)),
        _rank(rate[1], rate[0]),
        tuple(_ranks(loss.config, LOSSES[loss.name].fields) for loss in case.losses),
        tuple(
            _ranks(node.config, LAYERS[node.layer].fields, tuple(known[name] for name in node.inputs))
            for node in case.model.nodes
            if node.layer is not None
        ),
        case.data.seed + case.seed,
        case.data.seed,
    )


def optimizer_fields(name: str) -> Mapping[str, Field]:
    """The options an optimizer may have, its own ones first."""
    return {**optimizer_entry(name, "$.optimizer.name").own, **COMMON}


def _ranks(config: Mapping[str, Any], fields: Mapping[str, Field], incoming: tuple[Shape, ...] = ()) -> Key:
    """How far down its table each option stands, and how far its value among those worth drawing."""
    places = {name: place for place, name in enumerate(fields)}
    # What is registered has a table without an end, in which no option comes before another.
    ranked = sorted(
        (places.get(name, len(places)), _rank(value, fields[name].options(incoming))) for name, value in config.items()
    )
    return tuple(ranked)


def _rank(value: Any, options: Iterable[Any]) -> int:
    """The place of a value among the options; behind them all where it is none of them."""
    # 1, 1.0 and True are one to Python and three to Keras.
    known = [(type(option), option) for option in options]
    return known.index((type(value), value)) if (type(value), value) in known else len(known)


def _names(case: Case) -> Key:
    wanted = canonical_names(case)
    return sum(name != new for name, new in wanted.items()), to_json(case)


def canonical_names(case: Case) -> dict[str, str]:
    """The names that inputs and nodes have of themselves: `input_1`, and a layer's as Keras numbers it.

    Example:
        >>> from conformance.cases import load
        >>> list(canonical_names(load("clipnorm")).values())
        ['input_1', 'dense']
    """
    named = {item.name: f"input_{number}" for number, item in enumerate(case.model.inputs, start=1)}
    taken = set(named.values())
    for node in case.model.nodes:
        layer = owner_of(case.model, node).layer or ""
        stem = re.sub(r"_+$", "", snake(layer)) + ("_call" if node.shares else "")
        named[node.name] = _fresh(stem, taken)
        taken.add(named[node.name])
    return named


def _fresh(stem: str, taken: set[str]) -> str:
    number, name = 0, stem
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    return name


def canonically_named(case: Case) -> Case:
    """The case with its canonical names."""
    new, model = canonical_names(case), case.model
    inputs = tuple(msgspec.structs.replace(item, name=new[item.name]) for item in model.inputs)
    nodes = tuple(
        msgspec.structs.replace(
            node,
            name=new[node.name],
            inputs=tuple(new[name] for name in node.inputs),
            shares=None if node.shares is None else new[node.shares],
        )
        for node in model.nodes
    )
    outputs = tuple(new[name] for name in model.outputs)
    return msgspec.structs.replace(
        case, model=msgspec.structs.replace(model, inputs=inputs, nodes=nodes, outputs=outputs)
    )
