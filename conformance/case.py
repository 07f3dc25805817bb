"""A case: everything that determines a training, as plain data.

The key idea is that a case is a value. It is frozen, hashable and equal by content, goes to JSON and back without
loss, and holds no code: a layer is a name of a table and numbers. So a case can be drawn, shrunk, stored, mailed and
replayed on another Keras version, and loading one from a stranger executes nothing.

A case is checked whole when it is made: what `Case` accepts can be built.
"""

from __future__ import annotations

import json
import math
import re
from collections import ChainMap
from pathlib import Path
from typing import Annotated, Any

import msgspec

from conformance.case_code import LINE, code_of, line_of
from conformance.errors import CaseError
from conformance.fields import Shape, check_config
from conformance.frozen import FrozenMap, thaw
from conformance.layers import layer_entry
from conformance.losses import loss_entry
from conformance.optimizers import CLIPPING, COMMON, optimizer_entry

FORMAT = 1
"""The version of the case format this package writes; it refuses newer ones."""

PATTERNS = ("ones", "ramp", "small_integers", "normal")
FEEDS = ("arrays", "dataset", "generator")
PRECISIONS = ("float32", "float64", "mixed_bfloat16", "mixed_float16")
"""Keras's dtype policies that a case may name; mixed ones compute in half precision and keep weights in float32."""
METRICS = ("mean_squared_error", "mean_absolute_error", "accuracy")

Count = Annotated[int, msgspec.Meta(ge=1)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*\Z")]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a case; it shows itself as the shortest code that makes it."""

    def __repr__(self) -> str:
        return line_of(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print it over several lines where it is longer than one, for Hypothesis and IPython."""
        lines = code_of(self, LINE - printer.indentation)
        for number, line in enumerate(lines):
            if number:
                printer.break_()
            printer.text(line)


class _Configured(_Part, frozen=True):
    """A part with options; a dictionary will do for them."""

    def __post_init__(self) -> None:
        config = getattr(self, "config")  # noqa: B009 - each part has its own
        if not isinstance(config, FrozenMap):
            msgspec.structs.force_setattr(self, "config", FrozenMap(config))


class Input(_Part, frozen=True, kw_only=True):
    """A model input.

    Attributes:
        name: its name.
        shape: its shape without the batch axis.
        below: None for real values; for indices, the number they stay below.
    """

    name: Name
    shape: tuple[Count, ...]
    below: Count | None = None


class Node(_Configured, frozen=True, kw_only=True):
    """One call of a layer in the model's graph.

    Attributes:
        name: the name of the call, and of the layer it makes.
        layer: the layer's name in `conformance.layers.LAYERS`; None where `shares` is given.
        config: the layer's options.
        inputs: names of inputs or of earlier nodes.
        shares: the name of an earlier node whose layer is called again.
    """

    name: Name
    layer: str | None = None
    config: FrozenMap = FrozenMap()
    inputs: tuple[Name, ...]
    shares: Name | None = None


class Model(_Part, frozen=True, kw_only=True):
    """A model as a graph of layer calls; `kind` is `sequential` or `functional`."""

    kind: str = "sequential"
    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Name, ...]


class Loss(_Configured, frozen=True, kw_only=True):
    """The loss of one output.

    Attributes:
        name: the loss's name in `conformance.losses.LOSSES`.
        config: its options.
        weight: its factor in the total, or None where none is given to `compile`.
    """

    name: str
    config: FrozenMap = FrozenMap()
    weight: float | None = None


class Optimizer(_Configured, frozen=True, kw_only=True):
    """The optimizer.

    Attributes:
        name: the optimizer's name in `conformance.optimizers.OPTIMIZERS`.
        config: its options.
        built_first: whether its slots are made before training, as a careful caller does, or by the first step.
    """

    name: str
    config: FrozenMap = FrozenMap()
    built_first: bool = True


class Data(_Part, frozen=True, kw_only=True):
    """The data and how it is fed.

    Attributes:
        rows: rows in an epoch.
        batch_size: the global batch size; the last batch may be smaller.
        pattern: how values are made, a name of `PATTERNS`.
        feed: `arrays`, `dataset` (`tf.data`) or `generator`.
        sample_weight: None, or the pattern of the sample weights.
        seed: seed of the values.
    """

    rows: Count
    batch_size: Count
    pattern: str = "normal"
    feed: str = "arrays"
    sample_weight: str | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0


class Schedule(_Part, frozen=True, kw_only=True):
    """How long it trains: `epochs`, and the steps `fit` runs in one call of its train function."""

    epochs: Count = 1
    steps_per_execution: Count = 1


class Case(_Part, frozen=True, kw_only=True):
    """Everything that determines a training.

    Attributes:
        model: the model.
        losses: one loss an output, in the order of `model.outputs`.
        optimizer: the optimizer.
        data: the data.
        metrics: names of `METRICS`, computed on every output.
        schedule: how long it trains.
        seed: seed of initial weights and random layers.
        precision: Keras's dtype policy the model is made under, a name of `PRECISIONS`.
        format: the version of this format.

    Raises:
        CaseError: when the parts do not fit together; the message has the value and its path.
    """

    model: Model
    losses: tuple[Loss, ...]
    optimizer: Optimizer
    data: Data
    metrics: tuple[str, ...] = ()
    schedule: Schedule = Schedule()
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0
    precision: str = "float32"
    format: int = FORMAT

    def __post_init__(self) -> None:
        _check(self)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, a partial last one included."""
        return math.ceil(self.data.rows / self.data.batch_size)

    @property
    def steps(self) -> int:
        """Training steps in all epochs together."""
        return self.steps_per_epoch * self.schedule.epochs

    @property
    def last_batch(self) -> int:
        """Rows in the last batch of an epoch."""
        return self.data.rows - (self.steps_per_epoch - 1) * self.data.batch_size


def shapes(model: Model) -> dict[str, Shape]:
    """The shape of every input and node, without the batch axis."""
    known: dict[str, Shape] = {item.name: item.shape for item in model.inputs}
    for node in model.nodes:
        owner = owner_of(model, node)
        entry = layer_entry(owner.layer or "", "$")
        known[node.name] = entry.shape(owner.config, tuple(known[name] for name in node.inputs))
    return known


def owner_of(model: Model, node: Node) -> Node:
    """The node that makes the layer `node` calls: itself, or the one it shares with."""
    if node.shares is None:
        return node
    return next(item for item in model.nodes if item.name == node.shares)


def _check(case: Case) -> None:
    if case.format > FORMAT:
        raise CaseError(
            f"format {case.format} is from a newer release, this one reads up to {FORMAT} - at `$.format`;"
            " upgrade keras-conformance"
        )
    if case.format < 1:
        raise CaseError(f"format {case.format} should be a whole number of at least 1 - at `$.format`")
    _check_model(case.model)
    if len(case.losses) != len(case.model.outputs):
        raise CaseError(f"{len(case.losses)} losses for {len(case.model.outputs)} outputs - at `$.losses`")
    for index, loss in enumerate(case.losses):
        entry = loss_entry(loss.name, f"$.losses[{index}].name")
        check_config(loss.config, entry.fields, f"loss {loss.name}", f"$.losses[{index}].config")
        if loss.weight is not None and not math.isfinite(loss.weight):
            raise CaseError(f"weight={loss.weight} should be a finite number - at `$.losses[{index}].weight`")
    if len({loss.weight is None for loss in case.losses}) > 1:
        raise CaseError("either every loss has a weight or none has - at `$.losses`")
    _check_optimizer(case.optimizer)
    _member(case.data.pattern, PATTERNS, "pattern", "$.data.pattern")
    _member(case.data.feed, FEEDS, "feed", "$.data.feed")
    if case.data.sample_weight is not None:
        _member(case.data.sample_weight, PATTERNS, "sample-weight pattern", "$.data.sample_weight")
    for index, name in enumerate(case.metrics):
        _member(name, METRICS, "metric", f"$.metrics[{index}]")
    _member(case.precision, PRECISIONS, "precision", "$.precision")


def _member(value: str, known: tuple[str, ...], what: str, path: str) -> None:
    if value not in known:
        raise CaseError(f"{value!r} is not a known {what} - at `{path}`; choose among {', '.join(known)}")


def _check_optimizer(optimizer: Optimizer) -> None:
    entry = optimizer_entry(optimizer.name, "$.optimizer.name")
    path = "$.optimizer.config"
    # A registered optimizer's own options are whatever it takes, so what all have is looked up first.
    own: Any = entry.own
    check_config(optimizer.config, ChainMap({**COMMON}, own), f"optimizer {optimizer.name}", path)
    clipped = [name for name in CLIPPING if name in optimizer.config]
    if len(clipped) > 1:
        raise CaseError(f"{' and '.join(clipped)} exclude one another - at `{path}`")


def _check_model(model: Model) -> None:
    _member(model.kind, ("sequential", "functional"), "kind of model", "$.model.kind")
    if not model.inputs or not model.outputs:
        raise CaseError("a model needs an input and an output - at `$.model`")
    known: dict[str, Shape] = {}
    for index, item in enumerate(model.inputs):
        _fresh(item.name, known, f"$.model.inputs[{index}].name")
        known[item.name] = item.shape
    below = {item.name: item.below for item in model.inputs}
    made: set[str] = set()
    for index, node in enumerate(model.nodes):
        path = f"$.model.nodes[{index}]"
        _fresh(node.name, known, f"{path}.name")
        if (node.layer is None) == (node.shares is None):
            raise CaseError(f"node {node.name!r} needs either a layer or the name of one it shares - at `{path}`")
        if node.shares is not None and (node.shares not in made or node.config):
            raise CaseError(
                f"node {node.name!r} can share only an earlier node's own layer, without a config of its own"
                f" - at `{path}.shares`"
            )
        owner = owner_of(model, node)
        entry = layer_entry(owner.layer or "", f"{path}.layer")
        if node.shares is None:
            check_config(node.config, entry.fields, f"layer {entry.name}", f"{path}.config")
            made.add(node.name)
        for name in node.inputs:
            if name not in known:
                raise CaseError(f"{name!r} is no input or earlier node - at `{path}.inputs`")
        incoming = tuple(known[name] for name in node.inputs)
        if (len(incoming) < 2) if entry.merges else (len(incoming) != 1):
            wanted = "two inputs or more" if entry.merges else "one input"
            raise CaseError(f"layer {entry.name} takes {wanted}, not {len(incoming)} - at `{path}.inputs`")
        indices = [name for name in node.inputs if below.get(name) is not None]
        if (entry.takes == "index") != bool(indices):
            wanted = "an input of indices" if entry.takes == "index" else "real values"
            raise CaseError(f"layer {entry.name} takes {wanted} - at `{path}.inputs`")
        known[node.name] = _shape(entry.name, node, owner, incoming, path)
    for index, name in enumerate(model.outputs):
        if name not in known or name in below:
            raise CaseError(f"{name!r} is not the name of a node - at `$.model.outputs[{index}]`")
    if model.kind == "sequential" and not _is_chain(model):
        raise CaseError("a sequential model is one chain from one input to one output - at `$.model.kind`")


def _fresh(name: str, known: dict[str, Shape], path: str) -> None:
    if name in known:
        raise CaseError(f"the name {name!r} is taken - at `{path}`")


def _shape(layer: str, node: Node, owner: Node, incoming: tuple[Shape, ...], path: str) -> Shape:
    entry = layer_entry(layer, path)
    for shape in incoming:
        if len(shape) not in entry.ranks:
            ranks = " or ".join(str(rank) for rank in entry.ranks)
            raise CaseError(f"layer {layer} takes inputs of rank {ranks}, not shape {shape} - at `{path}.inputs`")
    if entry.merges:
        alike = {shape[:-1] if layer == "Concatenate" else shape for shape in incoming}
        if len(alike) > 1:
            raise CaseError(f"layer {layer} cannot merge shapes {incoming} - at `{path}.inputs`")
    try:
        shape = tuple(entry.shape(owner.config, incoming))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise CaseError(f"layer {layer} cannot take shape {incoming}: {error} - at `{path}`") from error
    if not shape or min(shape) < 1:
        raise CaseError(f"layer {layer} leaves nothing of shape {incoming} - at `{path}.config`")
    if layer == "Reshape" and math.prod(shape) != math.prod(incoming[0]):
        raise CaseError(f"target_shape={shape} does not hold shape {incoming[0]} - at `{path}.config.target_shape`")
    return shape


def _is_chain(model: Model) -> bool:
    if len(model.inputs) != 1 or len(model.outputs) != 1 or not model.nodes:
        return False
    previous = model.inputs[0].name
    for node in model.nodes:
        if node.inputs != (previous,) or node.shares is not None:
            return False
        previous = node.name
    return model.outputs[0] == previous


def _encode(value: Any) -> Any:
    if isinstance(value, FrozenMap):
        return thaw(value)
    raise NotImplementedError(type(value).__name__)


def _decode(kind: type, value: Any) -> Any:
    if kind is FrozenMap:
        if not isinstance(value, dict):
            raise CaseError(f"{value!r} should be an object of options")
        return FrozenMap(value)
    raise NotImplementedError(kind.__name__)


def to_data(case: Case) -> dict[str, Any]:
    """The case as plain dictionaries, lists and scalars, with its format version."""
    data: dict[str, Any] = msgspec.to_builtins(case, enc_hook=_encode)
    return {"format": case.format, **data}


def from_data(data: Any) -> Case:
    """The case that plain data describes.

    Raises:
        CaseError: for an unknown field, layer, loss or optimizer, a wrong type, a count below 1, a newer format;
            with the path of the mistake, as in `$.model.nodes[0].config.units`.
    """
    if isinstance(data, dict) and isinstance(data.get("format"), int) and data["format"] > FORMAT:
        # Said before anything else is looked at: a newer format may well have fields this release does not know.
        raise CaseError(
            f"format {data['format']} is from a newer release, this one reads up to {FORMAT} - at `$.format`;"
            " upgrade keras-conformance"
        )
    try:
        return msgspec.convert(data, Case, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise CaseError(_one_line(error, data)) from error


def _one_line(error: msgspec.ValidationError, data: Any) -> str:
    # msgspec reports what __post_init__ raises as its own error and appends the path of the struct: ours is deeper.
    cause = error.__cause__
    if isinstance(cause, CaseError) and " at `" in str(cause):
        return str(cause)
    line = " ".join(str(error).split())
    match = re.search(r"at `\$(.*)`$", line)
    found = _value_at(data, match[1]) if match and "unknown field" not in line else None
    return line if found is None else f"{found}: {line}"


def _value_at(data: Any, path: str) -> str | None:
    """The offending value, shortened, for msgspec names only its type."""
    for key in re.findall(r"\[(\d+)\]|\.(\w+)", path):
        try:
            data = data[int(key[0])] if key[0] else data[key[1]]
        except (LookupError, TypeError):
            return None
    text = json.dumps(data)
    return text if len(text) <= 60 else text[:57] + "..."


def to_json(case: Case) -> str:
    """The case as indented JSON, ending in a newline."""
    return json.dumps(to_data(case), indent=2, ensure_ascii=False) + "\n"


def from_json(text: str | bytes) -> Case:
    """The case that JSON text describes.

    Raises:
        CaseError: when the text is not JSON or not a case.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CaseError(f"not JSON: {error}") from error
    return from_data(data)


def load_case(path: str | Path) -> Case:
    """The case in a file.

    Raises:
        CaseError: when the file cannot be read or does not hold a case; the message begins with the path.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise CaseError(f"{path}: {error.strerror or error}") from error
    try:
        return from_json(text)
    except CaseError as error:
        raise CaseError(f"{path}: {error}") from error


def save_case(case: Case, path: str | Path) -> None:
    """Write a case to a file; a file that is there is replaced whole or not at all."""
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    partial.write_text(to_json(case), encoding="utf-8")
    partial.replace(target)
