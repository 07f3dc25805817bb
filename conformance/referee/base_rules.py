"""What the update rules share: what they are given, what they give back, and what slots are called.

The key idea is that a rule is one formula for any precision. Every hyperparameter is rounded to the dtype of the
variable before it is used, so that the formula in float64 is the referee's answer and the same formula in float32
shows how far honest rounding lies from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Slices:
    """A gradient in parts: one for each use of a row of a variable, as an embedding's is before equal rows are summed.

    Attributes:
        values: the parts, (uses, ...).
        rows: the row each part belongs to, (uses,).
    """

    values: Array
    rows: Array

    def summed(self, like: Array) -> Array:
        """What belongs to each row, summed, in the shape of the variable."""
        total = np.zeros_like(like)
        np.add.at(total, self.rows, self.values.astype(like.dtype))
        return total


@dataclass(frozen=True)
class UpdateStep:
    """What an update rule is given.

    Attributes:
        gradients: by variable path, as the rule receives them: reduced, accumulated, clipped. A variable without a
            gradient is absent.
        variables: by path, in the order the optimizer was built for them, after weight decay.
        slots: the optimizer's variables before the step, called as in a trace; see `slot_key` and `distinct`.
        learning_rate: of this step.
        iterations: the updates made before this one.
        config: the optimizer's `get_config()`.
        slices: by path the gradients whose parts are squared one by one; none by the clauses.
    """

    gradients: Mapping[str, Array]
    variables: Mapping[str, Array]
    slots: Mapping[str, Array]
    learning_rate: float
    iterations: int
    config: Mapping[str, Any]
    slices: Mapping[str, Slices] = field(default_factory=dict)


@dataclass(frozen=True)
class Updated:
    """What an update rule gives back.

    Attributes:
        variables: every variable of the step by path; those without a gradient are as they were.
        slots: the rule's own slots of the variables with a gradient.
    """

    variables: dict[str, Array]
    slots: dict[str, Array]


UpdateRule = Callable[[UpdateStep], Updated]


def slot_key(path: str, slot: str) -> str:
    """The name in a trace of a variable's slot: `model/dense/kernel`, `momentum` is `model_dense_kernel_momentum`."""
    return f"{path.replace('/', '_')}_{slot}"


def distinct(names: Iterable[str]) -> list[str]:
    """The names of an optimizer's variables, with those that occur more than once numbered in order.

    Adafactor calls both averages of a matrix by the matrix's own name, and an optimizer around another has counters of
    its own: `kernel[0]`, `kernel[1]`; `iteration[0]`, `iteration[1]`.
    """
    ordered = list(names)
    count, seen = Counter(ordered), Counter[str]()
    told = []
    for name in ordered:
        told.append(name if count[name] == 1 else f"{name}[{seen[name]}]")
        seen[name] += 1
    return told


class Numbers:
    """A step's scalars in one dtype.

    Args:
        step: the step.
        dtype: of the variable they are combined with.
        path: the variable, where its gradient may be in slices.

    Attributes:
        one: 1, for `one - beta`: a Python 1 would widen float32 under NumPy 1.
        learning_rate: of the step.
        t: the number of this update, 1 at the first.
    """

    def __init__(self, step: UpdateStep, dtype: npt.DTypeLike, path: str = "") -> None:
        self._slices = step.slices.get(path)
        self._type: Any = np.dtype(dtype).type
        self._config = step.config
        self.one = self(1)
        self.learning_rate = self(step.learning_rate)
        self.t = self(step.iterations + 1)

    def __call__(self, value: float) -> Any:
        """A number in this dtype."""
        return self._type(value)

    def __getitem__(self, name: str) -> Any:
        """A hyperparameter in this dtype."""
        return self._type(self._config[name])

    def rest(self, name: str) -> Any:
        """1 less a hyperparameter, rounded once: `one - beta` with 0.999 is wrong by a part in 20,000 in float32.

        Some of Keras's rules have the one and some the other, and what honest rounding is depends on it.
        """
        return self._type(1 - self._config[name])

    def squared(self, gradient: Array) -> Array:
        """The square of each element of a gradient; of slices, the sum of the squares of its parts."""
        if self._slices is None:
            return np.asarray(gradient * gradient)
        return Slices(self._slices.values**2, self._slices.rows).summed(gradient)

    def magnitude(self, gradient: Array) -> Array:
        """The magnitude of each element of a gradient; of slices, the sum of the magnitudes of its parts."""
        if self._slices is None:
            return np.abs(gradient)
        return Slices(np.abs(self._slices.values), self._slices.rows).summed(gradient)


def updated(step: UpdateStep, slots: Sequence[str], rule: Callable[..., Sequence[Array]]) -> Updated:
    """Treat every variable with a gradient by itself.

    Args:
        step: the step.
        slots: the names of a variable's slots.
        rule: (numbers, gradient, variable, *slots) to (variable, *slots), in the variable's dtype.
    """
    variables, left = dict(step.variables), dict[str, Array]()
    for path, gradient in step.gradients.items():
        variable = np.asarray(step.variables[path])
        keys = [slot_key(path, slot) for slot in slots]
        given = [np.asarray(value).astype(variable.dtype) for value in (gradient, *(step.slots[key] for key in keys))]
        made = [
            np.asarray(value) for value in rule(Numbers(step, variable.dtype, path), given[0], variable, *given[1:])
        ]
        variables[path] = made[0]
        left.update(zip(keys, made[1:], strict=True))
    return Updated(variables, left)
