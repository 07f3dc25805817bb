"""Passes that take a model apart: its head alone, without a node, an output, a unit, a feature."""

from __future__ import annotations

import math

import msgspec

from conformance.case import Case, Input, Model, Node
from conformance.fields import Shape
from conformance.frozen import FrozenMap
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.passes.proposal import Proposals, pruned, swapped, unweighted, with_changes
from conformance.simplicity import WIDTHS, canonically_named


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
        yield from (canonically_named(only) for only in with_changes(case, model=model, losses=(unweighted(loss),)))


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
        yield from with_changes(case, model=msgspec.structs.replace(case.model, inputs=(given,), nodes=nodes))


def drop_a_node(case: Case) -> Proposals:
    """Take a node out and put one of its inputs in its place."""
    for node in case.model.nodes:
        if node.name in case.model.outputs or any(other.shares == node.name for other in case.model.nodes):
            continue
        for kept in dict.fromkeys(node.inputs):
            yield from with_changes(case, model=_without(case.model, node, kept))


def _without(model: Model, node: Node, kept: str) -> Model:
    nodes = tuple(
        msgspec.structs.replace(other, inputs=tuple(kept if name == node.name else name for name in other.inputs))
        for other in model.nodes
        if other.name != node.name
    )
    return pruned(msgspec.structs.replace(model, nodes=nodes))


def drop_an_output(case: Case) -> Proposals:
    """Keep all outputs but one."""
    for index in range(len(case.losses)) if len(case.losses) > 1 else ():
        outputs = tuple(name for i, name in enumerate(case.model.outputs) if i != index)
        losses = tuple(loss for i, loss in enumerate(case.losses) if i != index)
        losses = tuple(map(unweighted, losses)) if len(losses) == 1 else losses
        model = pruned(msgspec.structs.replace(case.model, outputs=outputs))
        yield from with_changes(case, model=model, losses=losses)


def make_it_sequential(case: Case) -> Proposals:
    """A chain as a Sequential model."""
    if case.model.kind != "sequential":
        yield from with_changes(case, model=msgspec.structs.replace(case.model, kind="sequential"))


def regularize_the_head(case: Case) -> Proposals:
    """A penalty of the head's kernel, or of what it gives, for one of any other layer."""
    if not any(_penalized(node) for node in case.model.nodes if node.name not in case.model.outputs):
        return
    for option in ("kernel_regularizer", "activity_regularizer"):
        for head in keep_only_the_head(case):
            dense = head.model.nodes[-1]
            config = dense.config.set(**{option: FrozenMap(l2=0.125)})
            model = swapped(head.model, msgspec.structs.replace(dense, config=config))
            yield from with_changes(case, model=model, losses=head.losses)


def _penalized(node: Node) -> bool:
    return node.layer == "ActivityRegularization" or any(name.endswith("_regularizer") for name in node.config)


def narrow(case: Case) -> Proposals:
    """One unit, one filter, then two; of a layer of one's own, which may take only so many, also one less."""
    least = {name: LOSSES[loss.name].least_units for name, loss in zip(case.model.outputs, case.losses, strict=True)}
    for node in case.model.nodes:
        smallest = least.get(node.name, 1)
        for option in WIDTHS:
            own = node.layer is not None and LAYERS[node.layer].make is not None
            less = (node.config[option] - 1,) if own and isinstance(node.config.get(option), int) else ()
            for width in (smallest, smallest + 1, *less):
                if node.config.get(option, 1) > width:
                    narrower = msgspec.structs.replace(node, config=node.config.set(**{option: width}))
                    yield from with_changes(case, model=swapped(case.model, narrower))


SMALLEST: dict[int, tuple[Shape, ...]] = {1: ((1,), (2,), (3,)), 2: ((2, 1), (2, 2), (3, 2)), 3: ((2, 2, 1), (4, 4, 1))}
"""The inputs tried, by their rank."""


def use_smaller_inputs(case: Case) -> Proposals:
    """Fewer features, shorter sequences, smaller images, fewer indices."""
    for index, given in enumerate(case.model.inputs):
        smaller = [msgspec.structs.replace(given, shape=shape) for shape in SMALLEST.get(len(given.shape), ())]
        for item in smaller:
            inputs = (*case.model.inputs[:index], item, *case.model.inputs[index + 1 :])
            yield from with_changes(case, model=msgspec.structs.replace(case.model, inputs=inputs))


def use_canonical_names(case: Case) -> Proposals:
    """Names that say which layer it is."""
    yield canonically_named(case)
