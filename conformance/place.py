"""Where a user's function is written, so that a finding can point at it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Place:
    """A function in a file.

    Attributes:
        name: what it is called.
        file: the file's path.
        line: its first line, that of the first decorator where it has any.
        last_line: its last line.
    """

    name: str
    file: str
    line: int
    last_line: int


def place_of(function: Callable[..., Any]) -> Place | None:
    """Where a function, method or callable object is written; None where no file is known, as of what was typed.

    What a decorator of TensorFlow or functools wraps is looked through.
    """
    inner: Any = function
    while True:
        if isinstance(inner, functools.partial):
            inner = inner.func
        elif (wrapped := getattr(inner, "__wrapped__", None) or getattr(inner, "python_function", None)) is not None:
            inner = wrapped
        else:
            break
    if not (inspect.isroutine(inner) or inspect.isclass(inner)):
        inner = type(inner).__call__
    try:
        file = inspect.getsourcefile(inner)
        lines, first = inspect.getsourcelines(inner)
    except (TypeError, OSError):
        return None
    if file is None:
        return None
    return Place(str(getattr(inner, "__name__", inner)), file, first, first + len(lines) - 1)
