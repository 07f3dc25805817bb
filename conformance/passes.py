"""Small named steps that make a case simpler, boldest first.

Hypothesis shrinks what it drew, choice by choice; these look at the case as what it is, a training, and leap: one dense
layer for the whole model, plain SGD for the optimizer, one step for the epoch. Each proposes cases; one is kept if it
still shows the finding. A proposal that is no valid case is not made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from conformance.case import PATTERNS, Case, Input, Loss, Model, Node
from conformance.errors import CaseError
from conformance.frozen import FrozenMap
from conformance.layers import LAYERS
from conformance.losses import LOSSES

Proposals = Iterator[Case]


def _with(case: Case, **changes: Any) -> Proposals:
    try:
        changed: Case = msgspec.structs.replace(case, **changes)
    except CaseError:
        return
    if changed != case:
        yield changed


def keep_only_the_head(case: Case) -> Proposals:
    """One input, one dense layer, one output."""
    for index, loss in enumerate(case.losses):
        given = next((item for item in case.model.inputs if item.below is None), case.model.inputs[0])
        flat = Input(name=given.name, shape=(3,)) if given.below is not None else given
        old = next((n for n in case.model.nodes if n.name == case.model.outputs[index]), None)
        config = old.config if old is not None and old.layer == "Dense" else FrozenMap(units=1)
        nodes = [Node(name="dense", layer="Dense", config=config, inputs=(given.name,))]
        if len(flat.shape) > 1:
            flatten = Node(name="flatten", layer="Flatten", inputs=(given.name,))
            nodes = [flatten, msgspec.structs.replace(nodes[0], inputs=("flatten",))]
        model = Model(kind="sequential", inputs=(flat,), nodes=tuple(nodes), outputs=("dense",))
        yield from _with(case, model=model, losses=(_unweighted(loss),))


def use_one_small_input(case: Case) -> Proposals:
    """A dense model on few features."""
    if len(case.model.inputs) != 1 or case.model.inputs[0].below is not None:
        return
    for shape in ((1,), (2,), (3,)):
        if math.prod(shape) >= math.prod(case.model.inputs[0].shape):
            return
        given = msgspec.structs.replace(case.model.inputs[0], shape=shape)
        nodes = tuple(node for node in case.model.nodes if node.layer != "Flatten")
        first = nodes[0].inputs[0] if nodes else ""
        if first != given.name and nodes:
            nodes = (msgspec.structs.replace(nodes[0], inputs=(given.name,)), *nodes[1:])
        yield from _with(case, model=msgspec.structs.replace(case.model, inputs=(given,), nodes=nodes))


def drop_a_node(case: Case) -> Proposals:
    """Take a node out and put one of its inputs in its place."""
    for node in case.model.nodes:
        if node.name in case.model.outputs or any(other.shares == node.name for other in case.model.nodes):
            continue
        for kept in dict.fromkeys(node.inputs):
            yield from _with(case, model=_without(case.model, node, kept))


def _without(model: Model, node: Node, kept: str) -> Model:
    nodes = tuple(
        msgspec.structs.replace(other, inputs=tuple(kept if name == node.name else name for name in other.inputs))
        for other in model.nodes
        if other.name != node.name
    )
    return _pruned(msgspec.structs.replace(model, nodes=nodes))


def _pruned(model: Model) -> Model:
    """The model without what none of its outputs needs."""
    needed = set(model.outputs)
    for node in reversed(model.nodes):
        if node.name in needed:
            needed.update(node.inputs)
            needed.update({node.shares} if node.shares else ())
    nodes = tuple(node for node in model.nodes if node.name in needed)
    inputs = tuple(item for item in model.inputs if item.name in needed)
    return msgspec.structs.replace(model, nodes=nodes, inputs=inputs)


def drop_an_output(case: Case) -> Proposals:
    """Keep all outputs but one."""
    for index in range(len(case.losses)) if len(case.losses) > 1 else ():
        outputs = tuple(name for i, name in enumerate(case.model.outputs) if i != index)
        losses = tuple(loss for i, loss in enumerate(case.losses) if i != index)
        losses = tuple(map(_unweighted, losses)) if len(losses) == 1 else losses
        model = _pruned(msgspec.structs.replace(case.model, outputs=outputs))
        yield from _with(case, model=model, losses=losses)


def _unweighted(loss: Loss) -> Loss:
    return msgspec.structs.replace(loss, weight=None)


def make_it_sequential(case: Case) -> Proposals:
    """A chain as a Sequential model."""
    if case.model.kind != "sequential":
        yield from _with(case, model=msgspec.structs.replace(case.model, kind="sequential"))


def use_plain_sgd(case: Case) -> Proposals:
    """SGD, first with the options that all optimizers have, then with none."""
    own = {name: value for name, value in case.optimizer.config.items() if name != "learning_rate"}
    for options in ({}, own):
        config = FrozenMap(options, learning_rate=0.125)
        yield from _with(case, optimizer=msgspec.structs.replace(case.optimizer, name="SGD", config=config))


def drop_an_optimizer_option(case: Case) -> Proposals:
    """Keep all options but one."""
    for name in case.optimizer.config:
        config = case.optimizer.config.without(name)
        yield from _with(case, optimizer=msgspec.structs.replace(case.optimizer, config=config))
    yield from _with(case, optimizer=msgspec.structs.replace(case.optimizer, built_first=True))


def use_mean_squared_error(case: Case) -> Proposals:
    """The plainest loss, on a linear output."""
    losses = tuple(msgspec.structs.replace(loss, name="mean_squared_error", config=FrozenMap()) for loss in case.losses)
    nodes = tuple(
        msgspec.structs.replace(node, config=node.config.without("activation"))
        if node.name in case.model.outputs
        else node
        for node in case.model.nodes
    )
    yield from _with(case, losses=losses, model=msgspec.structs.replace(case.model, nodes=nodes))
    for index, loss in enumerate(case.losses):
        plain = msgspec.structs.replace(loss, config=FrozenMap())
        yield from _with(case, losses=(*case.losses[:index], plain, *case.losses[index + 1 :]))
    if any(loss.weight is not None for loss in case.losses):
        yield from _with(case, losses=tuple(map(_unweighted, case.losses)))


def shorten(case: Case) -> Proposals:
    """One epoch, one step an execution, fewer steps, smaller batches; no metrics."""
    schedule = msgspec.structs.replace(case.schedule, epochs=1, steps_per_execution=1)
    yield from _with(case, schedule=schedule, metrics=())
    yield from _with(case, schedule=schedule)
    yield from _with(case, metrics=())
    yield from _with(case, schedule=msgspec.structs.replace(case.schedule, epochs=1))
    yield from _with(case, schedule=msgspec.structs.replace(case.schedule, steps_per_execution=1))
    for batch_size, rows in _sizes(case):
        yield from _with(case, data=msgspec.structs.replace(case.data, batch_size=batch_size, rows=rows))


def _sizes(case: Case) -> Iterator[tuple[int, int]]:
    """Smaller (batch size, rows), smallest first: a single batch, even or odd, then two, the last one partial."""
    for batch_size, rows in ((2, 2), (4, 4), (3, 3), (2, 3), (4, 5), (2, 4), (4, 8), (2, 6)):
        if rows < case.data.rows or (rows == case.data.rows and batch_size < case.data.batch_size):
            yield batch_size, rows


def feed_plainly(case: Case) -> Proposals:
    """Arrays, unweighted, of the simplest values."""
    for changes in ({"feed": "arrays", "sample_weight": None}, {"feed": "arrays"}, {"sample_weight": None}):
        yield from _with(case, data=msgspec.structs.replace(case.data, **changes))
    for pattern in PATTERNS[: PATTERNS.index(case.data.pattern)]:
        yield from _with(case, data=msgspec.structs.replace(case.data, pattern=pattern))
    yield from _with(case, data=msgspec.structs.replace(case.data, seed=0), seed=0)


def plain_layers(case: Case) -> Proposals:
    """Layers without the options they can do without: all of them, one layer's, one option."""
    yield from _with(case, model=_configured(case.model, _bare))
    for node in case.model.nodes:
        if node.layer is None:
            continue
        fewer = (msgspec.structs.replace(node, config=node.config.without(option)) for option in node.config)
        for plainer in (_bare(node), *fewer):
            yield from _with(case, model=_swapped(case.model, plainer))


def narrow(case: Case) -> Proposals:
    """One unit, one filter."""
    least = {name: LOSSES[loss.name].least_units for name, loss in zip(case.model.outputs, case.losses, strict=True)}
    for node in case.model.nodes:
        smallest = least.get(node.name, 1)
        for option in ("units", "filters", "output_dim"):
            if node.config.get(option, 1) > smallest:
                narrower = msgspec.structs.replace(node, config=node.config.set(**{option: smallest}))
                yield from _with(case, model=_swapped(case.model, narrower))


def _swapped(model: Model, new: Node) -> Model:
    """The model with the node of that name replaced."""
    return _configured(model, lambda node: new if node.name == new.name else node)


def _bare(node: Node) -> Node:
    """The layer with its required options, and the activation its loss may want."""
    if node.layer is None:
        return node
    fields = LAYERS[node.layer].fields
    kept = {n: v for n, v in node.config.items() if n == "activation" or (n in fields and fields[n].required)}
    return msgspec.structs.replace(node, config=FrozenMap(kept))


def _configured(model: Model, change: Callable[..., Node]) -> Model:
    return msgspec.structs.replace(model, nodes=tuple(change(node) for node in model.nodes))


PASSES: tuple[Callable[[Case], Proposals], ...] = (
    keep_only_the_head,
    shorten,
    use_plain_sgd,
    drop_an_output,
    drop_a_node,
    feed_plainly,
    use_mean_squared_error,
    plain_layers,
    make_it_sequential,
    use_one_small_input,
    drop_an_optimizer_option,
    narrow,
)


def simplified(case: Case, shows: Callable[[Case], bool]) -> Case:
    """The case after all passes, again and again until none finds anything.

    Args:
        case: a case that shows the finding.
        shows: whether a case still shows it; when time is up it answers no to what it has not seen.
    """
    before: Case | None = None
    # A case that was left behind is not gone back to, so the passes come to an end whatever they propose.
    left: set[Case] = {case}
    while case != before:
        before = case
        for simplify in PASSES:
            found: Case | None = case
            while found is not None:
                case = found
                left.add(case)
                fresh = (proposal for proposal in _valid(simplify, case) if proposal not in left)
                found = next((proposal for proposal in fresh if shows(proposal)), None)
    return case


def _valid(simplify: Callable[[Case], Proposals], case: Case) -> Proposals:
    try:
        yield from simplify(case)
    except CaseError:
        # A part of a proposal was no valid part by itself.
        return
