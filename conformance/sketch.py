"""Tiny cases that have a few traits of a large one: where a case is likely to end, tried before anything is taken away.

The key idea is that most findings need one thing of the case they were found in, an option, a layer, a feed, and that
a tiny training with that one thing is the same whichever case it came from. So instead of taking a large case apart,
which costs a large training an attempt, a tiny one is built up: with what the signature speaks of, with nothing, with
the one half or the other of all there is. What a sketch shows is found from every start, and cheaply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from conformance.case import Case, Data, Input, Loss, Model, Node, Optimizer, Schedule
from conformance.errors import CaseError
from conformance.fields import Shape
from conformance.frozen import FrozenMap
from conformance.layers import LAYERS, LayerEntry
from conformance.losses import LOSSES
from conformance.optimizers import OPTIMIZERS
from conformance.simplicity import WIDTHS, canonically_named, simplicity
from conformance.traits import OF_THE_MODEL, PLAIN_LOSS, PLAIN_OPTIMIZER, Trait, is_spoken_of, traits


class Sketcher:
    """Makes tiny cases with traits of a case.

    Args:
        case: the case.
        replicas: the most replicas an arm has.
    """

    def __init__(self, case: Case, replicas: int = 1) -> None:
        self.case, self.replicas = case, replicas
        self.traits = traits(case, replicas)

    def sketch(self, chosen: Sequence[Trait], *, roomy: bool = True, whole: bool = False) -> Case | None:
        """A tiny case with some traits; None where they make no valid case.

        Args:
            chosen: the traits.
            roomy: with a few features, two full batches where the case has more than one, and the case's own values;
                else as small as can be, and of ones.
            whole: with the case's own model and losses.
        """
        has = {trait.kind for trait in chosen}
        try:
            losses = self.case.losses if whole else self._losses(chosen, "outputs" in has, "loss_weights" in has)
            model = self.case.model if whole else _Draft(chosen, losses, roomy).model()
            made = Case(
                model=model,
                losses=losses,
                optimizer=_optimizer(chosen),
                data=self._data(chosen, has, roomy),
                metrics=self.case.metrics if "metrics" in has else (),
                schedule=Schedule(
                    epochs=2 if "epochs" in has else 1, steps_per_execution=2 if "together" in has else 1
                ),
                seed=self.case.seed if roomy else 0,
                precision=self.case.precision if "precision" in has else "float32",
            )
        except CaseError:
            return None
        return made if whole else canonically_named(made)

    def _losses(self, chosen: Sequence[Trait], two: bool, weighted: bool) -> tuple[Loss, ...]:
        names = {trait.name if trait.kind == "loss" else trait.of for trait in chosen if trait.kind.startswith("loss")}
        options = {(trait.of, trait.name): trait.value for trait in chosen if trait.kind == "loss_option"}
        made = [
            Loss(
                name=loss.name if loss.name in names else PLAIN_LOSS,
                config=FrozenMap({name: value for (of, name), value in options.items() if of == loss.name}),
                weight=loss.weight if weighted else None,
            )
            for loss in self.case.losses
        ]
        if two or weighted:
            return tuple(made)
        return (next((loss for loss in made if loss.name != PLAIN_LOSS or loss.config), made[0]),)

    def _data(self, chosen: Sequence[Trait], has: set[str], roomy: bool) -> Data:
        batch_size, rows = self._sizes(has, roomy)
        given = self.case.data
        feeds = [trait.name for trait in chosen if trait.kind == "feed"]
        return Data(
            rows=rows,
            batch_size=batch_size,
            pattern=given.pattern if roomy else "ones",
            feed=feeds[0] if feeds else "arrays",
            sample_weight=given.sample_weight if "sample_weight" in has else None,
            seed=given.seed if roomy else 0,
        )

    def _sizes(self, has: set[str], roomy: bool) -> tuple[int, int]:
        replicas = self.replicas
        size = replicas + 1 if "uneven" in has else max(2, replicas)
        if "short" in has:
            return size + 1, size
        if "partial" not in has:
            return size, size * (2 if roomy and self.case.steps > 1 else 1)
        last = self.case.last_batch
        if replicas == 1 or last < replicas:
            return size, size + 1
        return 2 * replicas, 3 * replicas + last % replicas


def _optimizer(chosen: Sequence[Trait]) -> Optimizer:
    named = [trait.name if trait.kind == "optimizer" else trait.of for trait in chosen if "optimizer" in trait.kind]
    name = next(filter(None, named), PLAIN_OPTIMIZER)
    options = {trait.name: trait.value for trait in chosen if trait.kind == "optimizer_option"}
    config = FrozenMap(options, learning_rate=OPTIMIZERS[name].rates[0])
    return Optimizer(name=name, config=config, built_first="unbuilt" not in {trait.kind for trait in chosen})


_TIGHT: dict[int, Shape] = {1: (1,), 2: (2, 1), 3: (2, 2, 1)}
_ROOMY: dict[int, Shape] = {1: (3,), 2: (3, 2), 3: (4, 4, 2)}


class _Draft:
    """A chain of the chosen layers from one input to a dense head for each loss."""

    def __init__(self, chosen: Sequence[Trait], losses: tuple[Loss, ...], roomy: bool) -> None:
        self._chosen, self._losses, self._roomy = chosen, losses, roomy
        self._kinds = {trait.kind for trait in chosen}
        names = [trait.name if trait.kind == "layer" else trait.of for trait in chosen if trait.kind[:5] == "layer"]
        self._layers = [LAYERS[name] for name in dict.fromkeys(names)]
        self._nodes: list[Node] = []

    def model(self) -> Model:
        """The model.

        Raises:
            CaseError: when the layers make no chain.
        """
        ranks = self._layers[0].ranks if self._layers else (1,)
        for rank in ranks:
            try:
                return self._from(rank)
            except CaseError:
                if rank == ranks[-1]:
                    raise
        raise CaseError("a layer takes no inputs")

    def _from(self, rank: int) -> Model:
        self._nodes, shapes = [], _ROOMY if self._roomy else _TIGHT
        shape, below = shapes[rank], None
        if self._layers and self._layers[0].takes == "index":
            shape, below = shapes[1], 2
        inputs = [Input(name="input_1", shape=shape, below=below)]
        last = "input_1"
        for entry in self._layers:
            last, shape = self._flat(last, shape) if len(shape) not in entry.ranks else (last, shape)
            config = self._config(entry, shape)
            last = self._add(entry.name, config, *((last, last) if entry.merges else (last,)))
            try:
                shape = tuple(entry.shape(config, (shape, shape) if entry.merges else (shape,)))
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                raise CaseError(f"layer {entry.name} cannot take shape {shape}") from error
        last, shape = self._flat(last, shape)
        if "inputs" in self._kinds:
            inputs.append(Input(name="input_2", shape=shape))
            last = self._add("Concatenate", FrozenMap(), last, "input_2")
        if "shared" in self._kinds:
            first = self._add("Dense", FrozenMap(units=shape[0]), last)
            self._nodes.append(Node(name=f"{first}_call", inputs=(first,), shares=first))
            last = f"{first}_call"
        outputs = tuple(self._add("Dense", self._head(loss), last) for loss in self._losses)
        chain = len(outputs) == 1 and not self._kinds & {"inputs", "shared", "functional"}
        kind = "sequential" if chain and not any(entry.merges for entry in self._layers) else "functional"
        return Model(kind=kind, inputs=tuple(inputs), nodes=tuple(self._nodes), outputs=outputs)

    def _add(self, layer: str, config: FrozenMap, *inputs: str) -> str:
        name = f"layer_{len(self._nodes) + 1}"
        self._nodes.append(Node(name=name, layer=layer, config=config, inputs=inputs))
        return name

    def _flat(self, last: str, shape: Shape) -> tuple[str, Shape]:
        if len(shape) == 1:
            return last, shape
        size = 1
        for length in shape:
            size *= length
        return self._add("Flatten", FrozenMap(), last), (size,)

    def _config(self, entry: LayerEntry, shape: Shape) -> FrozenMap:
        config: dict[str, Any] = {}
        for name, field in entry.fields.items():
            values = field.options((shape,)) if field.required else ()
            if values:
                config[name] = values[min(1, len(values) - 1)] if self._roomy and name in WIDTHS else values[0]
        given = {trait.name: trait.value for trait in self._chosen if trait.of == entry.name}
        return FrozenMap({**config, **given})

    def _head(self, loss: Loss) -> FrozenMap:
        entry = LOSSES[loss.name]
        config = FrozenMap(units=max(entry.least_units, 2 if self._roomy else 1))
        if entry.head is not None and not loss.config.get("from_logits", False):
            config = config.set(activation=entry.head)
        given = {trait.name: trait.value for trait in self._chosen if trait.kind == "head_option"}
        return config.set(**given)


FEW = 3
"""A case with so few traits is taken apart as soon as it is sketched."""

Shows = Callable[[Case], bool]


def sketched(case: Case, shows: Shows, signature: str = "", replicas: int = 1) -> Case:
    """The sketch with the fewest traits that shows the finding, canonically named; the case itself where none does.

    Args:
        case: a case that shows the finding.
        shows: whether another one shows it.
        signature: the finding's signature; traits it speaks of are tried first.
        replicas: the most replicas an arm has.
    """
    sketcher, least = Sketcher(case, replicas), [case]

    def holds(chosen: Sequence[Trait], *, roomy: bool = True, whole: bool = False) -> bool:
        rooms = (True, False) if roomy else (False,)
        made = [sketcher.sketch(chosen, roomy=room, whole=whole) for room in rooms]
        simpler = next((item for item in made if item is not None and simplicity(item) < simplicity(case)), None)
        if simpler is None or not shows(simpler):
            return False
        least.append(simpler)
        return True

    every = sketcher.traits
    if len(every) <= FEW:
        holds((), roomy=False)
        return min(least, key=simplicity)
    # What is named itself goes before what has to do with it.
    spoken = sorted(
        (trait for trait in every if is_spoken_of(trait, signature)),
        key=lambda trait: not trait.name or trait.name.lower() not in signature.lower(),
    )
    training = [trait for trait in every if trait.kind not in OF_THE_MODEL or trait in spoken]
    of_model = [trait for trait in every if trait.kind in OF_THE_MODEL]
    found = any(holds((trait,)) for trait in spoken) or (len(spoken) > 1 and _fewest(spoken, holds))
    if not found and not holds((), roomy=False) and not holds(()):
        _halves(training, of_model, holds)
    return min(least, key=simplicity)


def _halves(training: list[Trait], of_model: list[Trait], holds: Callable[..., bool]) -> None:
    """Which half of a case it takes, the model or how it is trained, and what of it; or of both."""
    if _fewest(training, holds):
        return
    if holds((), whole=True):
        if not any(holds((trait,)) for trait in of_model):
            _fewest(of_model, holds)
        return
    if not _fewest([*training, *of_model], holds):
        _fewest(training, lambda chosen: holds(chosen, whole=True))


def _fewest(chosen: Sequence[Trait], holds: Callable[[Sequence[Trait]], bool]) -> bool:
    """Take traits away, half of them at a time, then fewer; whether all together hold."""
    left = list(chosen)
    if not left or not holds(left):
        return False
    size = len(left) // 2
    while size:
        start = 0
        while start < len(left):
            fewer = left[:start] + left[start + size :]
            if fewer and holds(fewer):
                left = fewer
            else:
                start += size
        size //= 2
    return True
