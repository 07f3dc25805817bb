"""Planting faults in Keras's own code, and taking them out again.

The key idea: a fault is one function in the place of one of Keras's. It is given that one and what that one was called
with, so it says only what it does otherwise. Where it stands decides who has it: in the trainer and the data adapters
`fit` alone, in optimizers, losses and layers `fit` and the reference loop alike, unless it misbehaves only inside of
`train_step` (`in_step`). The recorder's taps sit on the instances, around the classes' methods, so a planted fault is
watched as a real one is.

Faults are planted before an arm is prepared: what is traced or bound stays as it was then.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Method = Callable[..., Any]
Replacement = tuple[Any, str, Method]
"""A class or module, the name of one of its functions, and a function from that one to what takes its place."""
Place = tuple[str, Method]
"""Where in `keras.src`, as in `losses.loss:Loss.__call__`, and a function of the original and of its arguments."""

TRAINER = "backend.tensorflow.trainer:TensorFlowTrainer"
OPTIMIZER = "optimizers.base_optimizer:BaseOptimizer"
TF_OPTIMIZER = "backend.tensorflow.optimizer:TFOptimizer"

_ABSENT = object()


@dataclass(frozen=True)
class Fault:
    """A fault of Keras.

    Attributes:
        name: its name.
        tells: what goes wrong, as a sentence.
        stage: the stage where it is first visible in a step that starts from what was recorded before it.
        places: the functions it replaces, and by what.
        cause: the cause a perfect diagnosis names, or `unexplained` where no name of the contract fits.
        replicas: the replicas it takes to show.
        shared: whether the reference loop has it as well as `fit`.
    """

    name: str
    tells: str
    stage: str
    places: tuple[Place, ...]
    cause: str = "unexplained"
    replicas: int = 1
    shared: bool = False

    def __str__(self) -> str:
        return self.name

    def replacements(self) -> list[Replacement]:
        """What is replaced; found when asked for, since Keras is imported late."""
        return [(*_found(target), functools.partial(_around, body)) for target, body in self.places]

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Keras with the fault; without it again afterwards, whatever happens."""
        with contextlib.ExitStack() as undo:
            for owner, name, make in self.replacements():
                undo.enter_context(_replaced(owner, name, make))
            yield


def fault(
    *targets: str,
    stage: str,
    cause: str = "unexplained",
    replicas: int = 1,
    shared: bool = False,
    within_step: bool = False,
    also: Sequence[Place] = (),
) -> Callable[[Method], Fault]:
    """Make a function a fault that stands in the place of the targets; its name and its docstring are the fault's.

    Args:
        targets: functions, methods or properties of `keras.src`, as in `losses.loss:Loss.__call__`.
        stage: see `Fault`.
        cause: see `Fault`.
        replicas: see `Fault`.
        shared: see `Fault`.
        within_step: whether it misbehaves only while `train_step` runs, which is only in `fit`.
        also: what else it takes.
    """

    def made(body: Method) -> Fault:
        places = [(target, in_step(body) if within_step else body) for target in targets]
        noting = [STEP] if within_step else []
        tells = " ".join((body.__doc__ or "").split())
        return Fault(body.__name__, tells, stage, (*noting, *also, *places), cause, replicas, shared)

    return made


def _found(target: str) -> tuple[Any, str]:
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    return functools.reduce(getattr, owners, importlib.import_module(f"keras.src.{module}")), name


def _around(body: Method, original: Any) -> Any:
    if isinstance(original, property):
        return property(functools.partial(body, original.fget), original.fset, original.fdel)

    # Keras looks at signatures: `training`, `mask` and masks of its inputs are given to whom asks for them.
    @functools.wraps(original)
    def replaced(*args: Any, **kwargs: Any) -> Any:
        return body(original, *args, **kwargs)

    return replaced


@contextlib.contextmanager
def _replaced(owner: Any, name: str, make: Method) -> Iterator[None]:
    own = vars(owner).get(name, _ABSENT)
    setattr(owner, name, make(getattr(owner, name)))
    try:
        yield
    finally:
        if own is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


# The models whose train_step is running, the innermost one last.
running: list[Any] = []


def _noting_step(original: Method, model: Any, data: Any) -> Any:
    running.append(model)
    try:
        return original(model, data)
    finally:
        running.pop()


STEP: Place = (f"{TRAINER}.train_step", _noting_step)
"""`train_step` as it is, with the model noted for as long as it runs."""


def in_step(body: Method) -> Method:
    """The function where `train_step` runs, and the original elsewhere; it takes `STEP` beside it."""

    @functools.wraps(body)
    def only(original: Method, *args: Any, **kwargs: Any) -> Any:
        return body(original, *args, **kwargs) if running else original(*args, **kwargs)

    return only


@dataclass
class Fit:
    """A call of `fit`: the batch size it was given, or None, and how many epochs it has begun."""

    batch_size: int | None
    epochs: int = 0


# The calls of `fit` that are running, the innermost one last.
fits: list[Fit] = []


def _noting_fit(original: Method, model: Any, *args: Any, **kwargs: Any) -> Any:
    fits.append(Fit(kwargs.get("batch_size")))
    try:
        return original(model, *args, **kwargs)
    finally:
        fits.pop()


FIT: Place = (f"{TRAINER}.fit", _noting_fit)
"""`fit` as it is, noted for as long as it runs."""


def begins_later_epoch() -> bool:
    """To be asked once where `fit` begins an epoch, in `reset_metrics`: whether it is not the first one."""
    fits[-1].epochs += 1
    return fits[-1].epochs > 1


def dense(gradients: Sequence[Any]) -> list[Any]:
    """Gradients as tensors: those of an Embedding come as slices, which cannot be calculated with."""
    import tensorflow as tf

    return [None if gradient is None else tf.convert_to_tensor(gradient) for gradient in gradients]


def each(gradients: Sequence[Any], change: Callable[[Any], Any]) -> list[Any]:
    """Gradients with every number changed; slices stay slices, for optimizers treat them otherwise."""
    import tensorflow as tf

    def one(gradient: Any) -> Any:
        if isinstance(gradient, tf.IndexedSlices):
            return tf.IndexedSlices(change(gradient.values), gradient.indices, gradient.dense_shape)
        return None if gradient is None else change(gradient)

    return [one(gradient) for gradient in gradients]


def rounded(tensor: Any) -> Any:
    """A tensor as bfloat16 holds it."""
    import tensorflow as tf

    return tf.cast(tf.cast(tensor, "bfloat16"), tensor.dtype)


def row_count(tensors: Any, dtype: str = "float32") -> Any:
    """The rows of a batch, of whatever structure."""
    import tensorflow as tf

    return tf.cast(tf.shape(tf.nest.flatten(tensors)[0])[0], dtype)
