"""What is trained, as source: the model with its initial weights, the losses, the optimizer.

Each function mirrors one of `conformance.build` and must give the same bits; the tests hold them
against each other.
"""

from __future__ import annotations

from collections.abc import Mapping

from conformance import build
from conformance.case import Case, Node, owner_of
from conformance.errors import UnsupportedError
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.reports.source import Bracket, Expression, call, indented, listed, literal, names, statement

LOCALS = ("batch", "data", "dataset", "keras", "layer", "model", "np", "os", "rng", "sys", "tf", "v", "w", "x", "y")
_RECURRENT = ("SimpleRNN", "GRU", "LSTM")
_MAKERS = {"l1": "keras.regularizers.L1", "l2": "keras.regularizers.L2", "max_norm": "keras.constraints.MaxNorm"}


def model(case: Case, *, named: bool = True, depth: int = 2) -> list[str]:
    """The statements that make `model`; without names, Keras numbers its variables' paths."""
    spec = case.model
    inputs = [_input(item.shape, item.below is not None) for item in spec.inputs]
    if spec.kind == "sequential":
        layers = [_layer(case, index, named=named) for index in range(len(spec.nodes))]
        name: dict[str, Expression] = {"name": '"model"'} if named else {}
        whole = statement("model = ", call("keras.Sequential", listed([*inputs, *layers]), **name), depth=depth)
        if len(whole) == 1 or len(layers) > 1:
            return whole
        # A layer of many options has a line, or several, of its own.
        whole = statement("model = ", call("keras.Sequential", listed([*inputs, "layer"]), **name), depth=depth)
        return [*statement("layer = ", layers[0], depth=depth), *whole]
    known = names([*(i.name for i in spec.inputs), *(n.name for n in spec.nodes)], [*LOCALS, *LOSSES])
    shared = {node.shares for node in spec.nodes}
    makes = names([f"{name}_layer" for name in shared if name], [*LOCALS, *LOSSES, *known.values()])
    lines = [f"{known[item.name]} = {text}" for item, text in zip(spec.inputs, inputs, strict=True)]
    for index, node in enumerate(spec.nodes):
        incoming = [known[name] for name in node.inputs]
        given = f"({incoming[0]})" if len(incoming) == 1 else f"([{', '.join(incoming)}])"
        if node.shares is None:
            layer = _layer(case, index)
            made = makes.get(f"{node.name}_layer", "layer")
            line = statement(f"{known[node.name]} = ", layer, given)
            if node.name not in shared and len(line) == 1 and len(line[0]) <= 92:
                lines += line
                continue
            lines += statement(f"{made} = ", layer, depth=1)
        else:
            made = makes[f"{node.shares}_layer"]
        lines.append(f"{known[node.name]} = {made}{given}")
    ends = [_bare([known[item.name] for item in spec.inputs]), _bare([known[name] for name in spec.outputs])]
    return [*lines, *statement("return ", call("keras.Model", *ends, name='"model"'), depth=1)]


def _bare(items: list[str]) -> Expression:
    return items[0] if len(items) == 1 else listed(items)


def _input(shape: tuple[int, ...], indices: bool) -> str:
    dtype = ', dtype="int32"' if indices else ""
    return f"keras.Input({literal(shape)}{dtype})"


def _layer(case: Case, index: int, *, named: bool = True) -> Expression:
    node = case.model.nodes[index]
    entry = LAYERS[node.layer or ""]
    # Of Keras's own layers, null is always the default.
    # What is registered has no table of its options.
    order = sorted(node.config) if entry.make else entry.fields
    given = {key: node.config[key] for key in order if key in node.config}
    config = {key: _value(value) for key, value in given.items() if entry.make or value is not None}
    if entry.random:
        config["seed"] = str(build.layer_seed(case, index))
    if not all(key.isidentifier() for key in config):
        raise UnsupportedError(f"layer {entry.name}: options {', '.join(config)} are not all names of parameters")
    function = entry.make.__name__ if entry.make else f"keras.layers.{entry.name}"
    name: dict[str, Expression] = {"name": literal(node.name)} if named else {}
    return call(function, **config, **name)


def weighted(node: Node) -> bool:
    """Whether a node makes a layer that has weights."""
    return node.layer is not None and LAYERS[node.layer].weights


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        ((kind, amount),) = value.items()
        return f"{_MAKERS[kind]}({amount!r})"
    return literal(value)


def registered(case: Case) -> list[str]:
    """The imports of layers that are not Keras's: the one thing a script needs beyond NumPy, TensorFlow and Keras."""
    makers = {entry.make for node in case.model.nodes if node.layer and (entry := LAYERS[node.layer]).make}
    lines = []
    for make in makers:
        module, name = getattr(make, "__module__", ""), getattr(make, "__qualname__", "")
        if not name.isidentifier() or module == "__main__" or not all(map(str.isidentifier, module.split("."))):
            raise UnsupportedError(f"{make!r} cannot be imported by a repro script; define it at the top of a module")
        lines.append(f"from {module} import {name}")
    return sorted(lines)


def needed(case: Case) -> list[str]:
    """What a script says of the modules that it imports layers from which are not Keras's."""
    imports = [line.split() for line in registered(case)]
    return [f"Needs {name} of {module}: run it where `import {module}` works." for _, module, _, name in imports]


def initial_weights(case: Case) -> list[str]:
    """The statements that give `model` its initial weights."""
    nodes: list[Node] = [owner_of(case.model, node) for node in case.model.nodes]
    custom = any(LAYERS[node.layer or ""].make for node in nodes)
    frozen = any(node.config.get("trainable") is False for node in nodes)
    condition = []
    if custom or (frozen and any(node.layer == "BatchNormalization" for node in nodes)):
        condition = ['if not v.name.startswith(("moving_", "seed_")):']
    assign = ["v.assign(rng.normal(size=v.shape) / np.sqrt(np.prod(v.shape[:-1])))"]
    body = [*condition, *(indented(assign) if condition else assign)]
    variables = "weights" if custom or frozen else "trainable_variables"
    return [f"rng = np.random.default_rng({case.seed})", f"for v in model.{variables}:", *indented(body)]


def draws(case: Case) -> bool:
    """Whether any layer may draw from the global generators or seed itself from them."""
    entries = [LAYERS[node.layer] for node in case.model.nodes if node.layer]
    return any(entry.random or entry.make or entry.name in _RECURRENT for entry in entries)


def optimizer(case: Case) -> list[str]:
    """The statements that make `optimizer`."""
    made = statement("optimizer = ", optimizer_expression(case), depth=2)
    return [*made, *(["optimizer.build(model.trainable_variables)"] if case.optimizer.built_first else [])]


def optimizer_expression(case: Case, name: str | None = None) -> Bracket:
    """The expression that makes the optimizer, under a name where one is given."""
    given = case.optimizer.config
    rate = [literal(given["learning_rate"])] if "learning_rate" in given else []
    options = {key: literal(given[key]) for key in sorted(given) if key != "learning_rate"}
    options |= {} if name is None else {"name": literal(name)}
    return call(f"keras.optimizers.{case.optimizer.name}", *rate, **options)


def losses(case: Case, *, lambdas: bool = False) -> list[Expression]:
    """One expression an output: a `keras.losses.Loss`, or the name of a function; or the function itself."""
    made: list[Expression] = []
    for loss in case.losses:
        kind = LOSSES[loss.name].keras_class
        options = {key: literal(value) for key, value in loss.config.items()}
        function = f"lambda y_true, y_pred: {LOSSES[loss.name].expression}" if lambdas else loss.name
        made.append(function if kind is None else call(f"keras.losses.{kind}", **options))
    return made


def metrics(case: Case) -> list[dict[str, str]]:
    """By output, the class of each metric by its name."""
    made = []
    for loss in case.losses:
        target = LOSSES[loss.name].target
        kinds = {
            name: build.METRIC_CLASSES.get(name, build.ACCURACY.get(target))
            for name in case.metrics
            if (name == "accuracy") == (target in ("onehot", "label"))
        }
        made.append({name: kind for name, kind in kinds.items() if kind})
    return made
