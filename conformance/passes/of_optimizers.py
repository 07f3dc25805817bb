"""Passes that take an optimizer back to plain SGD, or near it."""

from __future__ import annotations

import msgspec

from conformance.case import Case
from conformance.frozen import FrozenMap
from conformance.optimizers import OPTIMIZERS
from conformance.passes.proposal import Proposals, with_changes
from conformance.simplicity import optimizer_fields


def use_plain_sgd(case: Case) -> Proposals:
    """SGD, first with the options that all optimizers have, then with none."""
    own = {name: value for name, value in case.optimizer.config.items() if name != "learning_rate"}
    for options in ({}, own):
        config = FrozenMap(options, learning_rate=0.125)
        yield from with_changes(case, optimizer=msgspec.structs.replace(case.optimizer, name="SGD", config=config))


def use_an_earlier_optimizer(case: Case) -> Proposals:
    """One that stands before it in the table, with the options that both have, or with the first of its own."""
    for name in list(OPTIMIZERS)[: list(OPTIMIZERS).index(case.optimizer.name)]:
        fields, rate = optimizer_fields(name), OPTIMIZERS[name].rates[0]
        shared = {option: value for option, value in case.optimizer.config.items() if option in fields}
        config = FrozenMap(shared, learning_rate=rate)
        yield from with_changes(case, optimizer=msgspec.structs.replace(case.optimizer, name=name, config=config))
    own = len(case.optimizer.config) - 1
    if case.optimizer.name != "SGD" and not own:
        # An optimizer with slots is no simpler than SGD with one, and stands behind it.
        config = FrozenMap(learning_rate=0.125, momentum=0.5)
        yield from with_changes(case, optimizer=msgspec.structs.replace(case.optimizer, name="SGD", config=config))


def drop_an_optimizer_option(case: Case) -> Proposals:
    """Keep all options but one."""
    for name in case.optimizer.config:
        config = case.optimizer.config.without(name)
        yield from with_changes(case, optimizer=msgspec.structs.replace(case.optimizer, config=config))
    yield from with_changes(case, optimizer=msgspec.structs.replace(case.optimizer, built_first=True))
