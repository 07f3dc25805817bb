"""Small named steps that make a case simpler, boldest first.

Hypothesis shrinks what it drew, choice by choice; these look at the case as what it is, a training, and leap: one dense
layer for the whole model, plain SGD for the optimizer, one step for the epoch. Each proposes cases; one is kept if it
is simpler by the total order of `simplicity` and still shows the finding. So the passes come to an end, and where two
things will do, every start ends with the one that the tables have first. A proposal that is no valid case is not made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from conformance.case import FEEDS, METRICS, PATTERNS, PRECISIONS, Case, Input, Loss, Model, Node, shapes
from conformance.errors import CaseError
from conformance.fields import Field, Shape
from conformance.frozen import FrozenMap
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.optimizers import OPTIMIZERS
from conformance.simplicity import WIDTHS, canonically_named, optimizer_fields, simplicity
from conformance.strategies.options import settings

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
        yield from (canonically_named(only) for only in _with(case, model=model, losses=(_unweighted(loss),)))


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


def use_an_earlier_optimizer(case: Case) -> Proposals:
    """One that stands before it in the table, with the options that both have, or with the first of its own."""
    for name in list(OPTIMIZERS)[: list(OPTIMIZERS).index(case.optimizer.name)]:
        fields, rate = optimizer_fields(name), OPTIMIZERS[name].rates[0]
        shared = {option: value for option, value in case.optimizer.config.items() if option in fields}
        config = FrozenMap(shared, learning_rate=rate)
        yield from _with(case, optimizer=msgspec.structs.replace(case.optimizer, name=name, config=config))
    own = len(case.optimizer.config) - 1
    if case.optimizer.name != "SGD" and not own:
        # An optimizer with slots is no simpler than SGD with one, and stands behind it.
        config = FrozenMap(learning_rate=0.125, momentum=0.5)
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


def use_an_earlier_loss(case: Case) -> Proposals:
    """One that stands before it in the table, on the output it is defined for."""
    for index, loss in enumerate(case.losses):
        for name in list(LOSSES)[: list(LOSSES).index(loss.name)]:
            config = {option: value for option, value in loss.config.items() if option in LOSSES[name].fields}
            changed = msgspec.structs.replace(loss, name=name, config=FrozenMap(config))
            head = None if config.get("from_logits") else LOSSES[name].head
            model = _activated(case.model, case.model.outputs[index], head)
            yield from _with(case, model=model, losses=(*case.losses[:index], changed, *case.losses[index + 1 :]))


def _activated(model: Model, name: str, activation: str | None) -> Model:
    def change(node: Node) -> Node:
        if node.name != name or node.layer is None or "activation" not in LAYERS[node.layer].fields:
            return node
        bare = node.config.without("activation")
        return msgspec.structs.replace(node, config=bare if activation is None else bare.set(activation=activation))

    return _configured(model, change)


SIZES = (
    *((2, 2, 1), (3, 2, 1), (3, 3, 1), (4, 4, 1)),
    *((2, 3, 1), (2, 4, 1), (3, 4, 1), (3, 5, 1), (4, 5, 1), (4, 8, 1), (2, 2, 2)),
    *((2, 5, 1), (2, 6, 1), (2, 2, 3), (2, 3, 2), (2, 4, 2)),
)
"""Canonical (batch size, rows, epochs): one step, even, short or odd, then two, the last one partial, then more."""


def shorten(case: Case) -> Proposals:
    """Fewer steps, epochs and rows; one step an execution; no metrics."""
    one = msgspec.structs.replace(case.schedule, steps_per_execution=1)
    yield from _with(case, schedule=one, metrics=())
    yield from _with(case, schedule=one)
    for index in range(len(case.metrics)):
        yield from _with(case, metrics=(*case.metrics[:index], *case.metrics[index + 1 :]))
    for schedule in dict.fromkeys((one, case.schedule)):
        for batch_size, rows, epochs in SIZES:
            yield from _with(
                case,
                data=msgspec.structs.replace(case.data, batch_size=batch_size, rows=rows),
                schedule=msgspec.structs.replace(schedule, epochs=epochs),
            )
    yield from _with(case, schedule=msgspec.structs.replace(case.schedule, epochs=1))


def use_the_first_metric(case: Case) -> Proposals:
    """Metrics of the front of their table."""
    for index, name in enumerate(case.metrics):
        for earlier in METRICS[: METRICS.index(name)]:
            yield from _with(case, metrics=(*case.metrics[:index], earlier, *case.metrics[index + 1 :]))


def use_plain_precision(case: Case) -> Proposals:
    """Single precision, or one that stands before it in the table."""
    for precision in PRECISIONS[: PRECISIONS.index(case.precision)]:
        yield from _with(case, precision=precision)


def feed_plainly(case: Case) -> Proposals:
    """Arrays, unweighted."""
    for changes in ({"feed": "arrays", "sample_weight": None}, {"sample_weight": None}):
        yield from _with(case, data=msgspec.structs.replace(case.data, **changes))
    for feed in FEEDS[: FEEDS.index(case.data.feed)]:
        yield from _with(case, data=msgspec.structs.replace(case.data, feed=feed))


def use_simple_values(case: Case) -> Proposals:
    """Ones, then a ramp, then small integers; seeds from nought up."""
    data = case.data
    nought = msgspec.structs.replace(data, seed=0)
    patterns = PATTERNS[: PATTERNS.index(data.pattern)]
    for pattern in patterns:
        yield from _with(case, data=msgspec.structs.replace(nought, pattern=pattern), seed=0)
    for pattern in PATTERNS[: PATTERNS.index(data.sample_weight)] if data.sample_weight else ():
        yield from _with(case, data=msgspec.structs.replace(data, sample_weight=pattern))
    yield from _with(case, data=nought, seed=0)
    for pattern in patterns:
        yield from _with(case, data=msgspec.structs.replace(data, pattern=pattern))
    yield from _with(case, data=nought)
    for seed in range(min(case.seed, SEEDS)):
        yield from _with(case, seed=seed)
    for seed in range(1, min(data.seed, SEEDS)):
        yield from _with(case, data=msgspec.structs.replace(data, seed=seed))


SEEDS = 4
"""Seeds tried in their order; what none of so many shows hangs on a number."""


def plain_layers(case: Case) -> Proposals:
    """Layers without the options they can do without: all of them, one layer's, one option."""
    yield from _with(case, model=_configured(case.model, _bare))
    for node in case.model.nodes:
        if node.layer is None:
            continue
        fewer = (msgspec.structs.replace(node, config=node.config.without(option)) for option in node.config)
        for plainer in (_bare(node), *fewer):
            yield from _with(case, model=_swapped(case.model, plainer))


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
                yield from _with(case, model=_swapped(case.model, changed))


def _sort(layer: str) -> tuple[Any, ...]:
    entry = LAYERS[layer]
    return entry.takes, entry.merges, entry.random, entry.weights, entry.samples, entry.make is None


def use_earlier_options(case: Case) -> Proposals:
    """Options and values of the front of their tables: an L2 penalty of the kernel for an L1 penalty of the bias."""
    optimizer = case.optimizer
    rates = {"learning_rate": OPTIMIZERS[optimizer.name].rates}
    for config in _earlier(optimizer.config, optimizer_fields(optimizer.name), (), rates):
        yield from _with(case, optimizer=msgspec.structs.replace(optimizer, config=config))
    for index, loss in enumerate(case.losses):
        for config in _earlier(loss.config, LOSSES[loss.name].fields, ()):
            changed = msgspec.structs.replace(loss, config=config)
            yield from _with(case, losses=(*case.losses[:index], changed, *case.losses[index + 1 :]))
    known = shapes(case.model)
    for node in case.model.nodes:
        if node.layer is not None:
            incoming = tuple(known[name] for name in node.inputs)
            for config in _earlier(node.config, LAYERS[node.layer].fields, incoming):
                yield from _with(case, model=_swapped(case.model, msgspec.structs.replace(node, config=config)))


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


def regularize_the_head(case: Case) -> Proposals:
    """A penalty of the head's kernel, or of what it gives, for one of any other layer."""
    if not any(_penalized(node) for node in case.model.nodes if node.name not in case.model.outputs):
        return
    for option in ("kernel_regularizer", "activity_regularizer"):
        for head in keep_only_the_head(case):
            dense = head.model.nodes[-1]
            config = dense.config.set(**{option: FrozenMap(l2=0.125)})
            model = _swapped(head.model, msgspec.structs.replace(dense, config=config))
            yield from _with(case, model=model, losses=head.losses)


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
                    yield from _with(case, model=_swapped(case.model, narrower))


SMALLEST: dict[int, tuple[Shape, ...]] = {1: ((1,), (2,), (3,)), 2: ((2, 1), (2, 2), (3, 2)), 3: ((2, 2, 1), (4, 4, 1))}
"""The inputs tried, by their rank."""


def use_smaller_inputs(case: Case) -> Proposals:
    """Fewer features, shorter sequences, smaller images, fewer indices."""
    for index, given in enumerate(case.model.inputs):
        smaller = [msgspec.structs.replace(given, shape=shape) for shape in SMALLEST.get(len(given.shape), ())]
        for item in smaller:
            inputs = (*case.model.inputs[:index], item, *case.model.inputs[index + 1 :])
            yield from _with(case, model=msgspec.structs.replace(case.model, inputs=inputs))


def weigh_losses_plainly(case: Case) -> Proposals:
    """The first pair of weights there is to draw."""
    if len(case.losses) > 1 and all(loss.weight is not None for loss in case.losses):
        pairs = zip(case.losses, (0.5, 3.0), strict=False)
        yield from _with(case, losses=tuple(msgspec.structs.replace(loss, weight=weight) for loss, weight in pairs))


def use_canonical_names(case: Case) -> Proposals:
    """Names that say which layer it is."""
    yield canonically_named(case)


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
    use_simple_values,
    use_mean_squared_error,
    plain_layers,
    make_it_sequential,
    use_one_small_input,
    drop_an_optimizer_option,
    use_plain_precision,
    narrow,
    use_smaller_inputs,
    regularize_the_head,
    use_an_earlier_layer,
    use_an_earlier_optimizer,
    use_an_earlier_loss,
    use_earlier_options,
    use_the_first_metric,
    weigh_losses_plainly,
    use_canonical_names,
)


def simplified(case: Case, shows: Callable[[Case], bool]) -> Case:
    """The case after all passes, again and again until none finds anything.

    Args:
        case: a case that shows the finding.
        shows: whether a case still shows it; when time is up it answers no to what it has not seen.
    """
    before: Case | None = None
    while case != before:
        before = case
        for simplify in PASSES:
            found: Case | None = case
            while found is not None:
                case = found
                found = next((proposal for proposal in simpler(simplify, case) if shows(proposal)), None)
    return case


def simpler(simplify: Callable[[Case], Proposals], case: Case) -> Proposals:
    """The proposals of a pass that are simpler than the case."""
    key = simplicity(case)
    try:
        for proposal in simplify(case):
            if simplicity(proposal) < key:
                yield proposal
    except CaseError:
        # A part of a proposal was no valid part by itself.
        return
