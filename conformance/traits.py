"""What a case has that the simplest case has not, one thing at a time, and whether a signature speaks of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from conformance.case import Case, Node
from conformance.frozen import FrozenMap
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.optimizers import OPTIMIZERS

PLAIN_LOSS = next(iter(LOSSES))
PLAIN_OPTIMIZER = next(iter(OPTIMIZERS))


@dataclass(frozen=True)
class Trait:
    """One thing that a case has and the simplest case has not.

    Attributes:
        kind: what it is, a name of `ABOUT`.
        name: of the layer, option, loss or optimizer.
        value: of the option.
        of: the layer, loss or optimizer that the option is one of.
    """

    kind: str
    name: str = ""
    value: Any = None
    of: str = ""


ABOUT: dict[str, str] = {
    "partial": "partial mean means divisor tail skipped unweighted dropped last",
    "uneven": "mean means divisor skipped",
    "short": "partial mean means divisor skipped",
    "epochs": "epoch epochs metric reset cross",
    "together": "steps execution",
    "feed": "feed dataset generator batch partial order misaligned",
    "sample_weight": "sample weight",
    "metrics": "metric metrics",
    "precision": "precision scaling",
    "unbuilt": "built",
    "optimizer": "optimizer state",
    "optimizer_option": "",
    "head_option": "",
    "loss": "loss label shape axis",
    "loss_option": "",
    "loss_weights": "weights outputs",
    "outputs": "weights outputs reported",
    "inputs": "inputs",
    "shared": "shared",
    "functional": "functional",
    "layer": "",
    "layer_option": "",
    "random": "training random stream seed called",
    "statistics": "training statistics state called",
}
"""What the signature of a finding may speak of where a trait is to blame, beside the trait's own name."""

OF_THE_MODEL = frozenset({"outputs", "loss_weights", "inputs", "shared", "functional", "layer", "layer_option"})
"""Those that belong to the model; the others to the training."""


def traits(case: Case, replicas: int = 1) -> tuple[Trait, ...]:
    """What a case has beyond the simplest one.

    Args:
        case: the case.
        replicas: the most replicas an arm has; they decide which batches are special.
    """
    return tuple(dict.fromkeys((*_of_training(case, replicas), *_of_losses(case), *_of_model(case))))


def _of_training(case: Case, replicas: int) -> list[Trait]:
    data, schedule, optimizer = case.data, case.schedule, case.optimizer
    special = {
        "partial": data.rows > data.batch_size and case.last_batch < data.batch_size,
        "uneven": data.batch_size % replicas != 0,
        "short": data.rows < data.batch_size,
        "epochs": schedule.epochs > 1,
        "together": schedule.steps_per_execution > 1,
        "unbuilt": not optimizer.built_first,
    }
    found = [Trait(kind) for kind, holds in special.items() if holds]
    found += [Trait("feed", data.feed)] if data.feed != "arrays" else []
    found += [Trait("sample_weight", "", data.sample_weight)] if data.sample_weight else []
    found += [Trait("metrics")] if case.metrics else []
    found += [Trait("precision", case.precision)] if case.precision != "float32" else []
    found += [Trait("optimizer", optimizer.name)] if optimizer.name != PLAIN_OPTIMIZER else []
    own = OPTIMIZERS[optimizer.name].own
    return found + [
        Trait("optimizer_option", name, value, optimizer.name if name in own else "")
        for name, value in optimizer.config.items()
        if name != "learning_rate"
    ]


def _of_losses(case: Case) -> list[Trait]:
    found: list[Trait] = []
    for loss in case.losses:
        found += [Trait("loss", loss.name)] if loss.name != PLAIN_LOSS else []
        found += [Trait("loss_option", name, value, loss.name) for name, value in loss.config.items()]
    return found


def _of_model(case: Case) -> list[Trait]:
    model = case.model
    shared = any(node.shares for node in model.nodes)
    forks = shared or len(model.inputs) > 1 or len(model.outputs) > 1
    special = {
        "outputs": len(model.outputs) > 1,
        "loss_weights": any(loss.weight is not None for loss in case.losses),
        "inputs": len(model.inputs) > 1,
        "shared": shared,
        "functional": model.kind == "functional" and not forks,
    }
    found = [Trait(kind) for kind, holds in special.items() if holds]
    for node in model.nodes:
        if node.layer is None:
            continue
        head = node.name in model.outputs and node.layer == "Dense"
        if not head and node.layer not in ("Flatten", "Dense"):
            found.append(Trait("layer", node.layer))
        found += [_option(node, name, value) for name, value in node.config.items() if _is_telling(node, name)]
    return found


def _is_telling(node: Node, name: str) -> bool:
    fields = LAYERS[node.layer or ""].fields
    return name != "activation" and not (name in fields and fields[name].required)


def _option(node: Node, name: str, value: Any) -> Trait:
    """An option as the head has it, where the head can: the regularizer of an Embedding is one of a kernel."""
    dense, fields = LAYERS["Dense"].fields, LAYERS[node.layer or ""].fields
    alike = [other for other in dense if dense[other].wants == fields[name].wants]
    if node.layer == "ActivityRegularization":
        return Trait("head_option", "activity_regularizer", FrozenMap({name: value}))
    if LAYERS[node.layer or ""].make is not None:
        # What an option of a layer of one's own means is not known, whatever it is called.
        return Trait("layer_option", name, value, node.layer or "")
    if name in dense and name != "trainable":
        return Trait("head_option", name, value)
    if alike and isinstance(value, FrozenMap):
        return Trait("head_option", alike[0], value)
    return Trait("layer_option", name, value, node.layer or "")


def is_spoken_of(trait: Trait, signature: str) -> bool:
    """Whether a signature's cause or feature has a word of the trait.

    Example:
        >>> is_spoken_of(Trait("optimizer_option", "clipnorm"), "distribution/gradient/clip_order/clipnorm")
        True
    """
    said = _words(signature.split("/", 2)[-1])
    entry = LAYERS.get(trait.of or trait.name)
    about = f"{trait.name} {trait.of} {ABOUT[trait.kind]}"
    if entry is not None:
        about += ABOUT["random"] if entry.random else "" if entry.samples else ABOUT["statistics"]
    if trait.name == "trainable":
        about += " frozen"
    return any(one == other or (len(one) > 4 and one[:5] == other[:5]) for one in said for other in _words(about))


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", text.lower().replace("_", " "))) | set(re.findall(r"[a-z0-9]+", text.lower()))
