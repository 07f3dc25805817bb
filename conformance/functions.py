"""The losses that are plain functions of `(y_true, y_pred)`, as users write them.

They are made from the expressions of `conformance.losses`, so that a repro shows the very code that ran. The
expressions are this package's own constants; nothing of a case file is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.losses import LOSSES


def source(name: str) -> str:
    """The Python source of a function loss, ready to stand in a script that imports `tensorflow as tf`."""
    return f"def {name}(y_true, y_pred):\n    return {LOSSES[name].expression}\n"


def loss_function(name: str) -> Callable[[Any, Any], Any]:
    """The function loss of that name, of tensors (rows, ...) to a scalar or to one value a row."""
    import tensorflow as tf

    scope: dict[str, Any] = {"tf": tf}
    exec(source(name), scope)  # noqa: S102 - the source is a constant of this package, see the docstring
    function: Callable[[Any, Any], Any] = scope[name]
    return function
