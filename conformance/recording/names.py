"""What the things that are recorded are called, whichever arm does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def slot_name(variable: Any) -> str:
    """An optimizer variable's path without the optimizer's own name, which differs from instance to instance."""
    path: str = variable.path
    return path.partition("/")[2] or path


def output_names(model: Any, count: int = 1) -> list[str]:
    """The names of a model's outputs, as `fit` reports them; a subclassed model's are numbered."""
    names = getattr(model, "output_names", None)
    if names and isinstance(model.output, Mapping):
        return sorted(model.output)
    if names:
        return list(names)
    if count == 1:
        return [model.layers[-1].name if model.layers else "output"]
    return [f"output[{index}]" for index in range(count)]


def part_of(name: str) -> str:
    """The part of a batch that one of its arrays belongs to."""
    return name.partition("[")[0]
