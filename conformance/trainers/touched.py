"""What a loop on trial did with the model and the optimizer it was given, where that decides whether it can be judged.

A loop that leaves the model alone is judged: it does not train. One that trains variables of other models beside the
model's, which nobody can watch, is unsupported, and told what to change; it is never passed for what was seen of the
rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from conformance.errors import UnsupportedError
from conformance.trainers.forms import Loop
from conformance.training import Setup

Weights = Mapping[str, tuple[Any, ...]]
"""Every weight by its name, on every replica."""

UNKNOWN = "Unknown variable"
"""How Keras begins to say that an optimizer was given variables that it was not built for."""


@contextlib.contextmanager
def watching(setup: Setup, loop: Loop) -> Iterator[None]:
    """Run a loop on trial, and say what of it cannot be judged.

    The optimizer was built for the model before the loop began, so that it refuses the variables of another one, which
    a new optimizer would have taken: that is no exception of the loop's.

    Raises:
        UnsupportedError: when it trains with what cannot be watched.
    """
    recorder = setup.recorder
    before = recorder.weights()
    try:
        yield
    except (ValueError, KeyError) as error:
        if UNKNOWN not in str(error) and not isinstance(error, KeyError):
            raise
        if not recorder.strange:
            if UNKNOWN not in str(error):
                raise
            raise UnsupportedError(
                f"{loop.name} calls an optimizer of its own that was built for another model, and every arm has a model"
                " of its own; take `optimizer` as a parameter, and give what makes it as check(optimizer=...)"
            ) from error
        if recorder.given:
            raise UnsupportedError(
                f"{loop.name} trains {_listed(recorder.strange)} beside the model it was given; put all that is trained"
                " into one keras.Model, and give what makes that as check(model=...)"
            ) from error
    _say(setup, loop, before, recorder.weights())


def _say(setup: Setup, loop: Loop, before: Weights, after: Weights) -> None:
    recorder = setup.recorder
    moved = [name for name in before if not _same(before[name], after[name])]
    if not moved and not recorder.given and "model" not in loop.parameters:
        raise UnsupportedError(
            f"{loop.name} takes no `model` and leaves the one it would be given alone, so it trains one of its own;"
            " take `model` as a parameter, for every arm has a model of its own"
        )


def unmoved(before: Weights, after: Weights) -> bool:
    """Whether no weight is another one than before."""
    return all(_same(before[name], after[name]) for name in before)


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return all(np.array_equal(first, second, equal_nan=True) for first, second in zip(one, other, strict=True))


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
