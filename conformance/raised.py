"""What a training raised, told in terms of the model: the layer, the operation, the shapes, the user's line.

Keras reports an error at the framework frame where it surfaced. The traceback knows more: the innermost frame that
belongs to a layer names the layer, the last TensorFlow operation below it the operation, and the last frame outside
the frameworks the line somebody wrote.
"""

from __future__ import annotations

import linecache
import re
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

_OURS = Path(__file__).resolve().parent


class Raised(msgspec.Struct, frozen=True):
    """An exception of a training.

    Attributes:
        kind: the exception's class name.
        message: its message, shortened.
        layer: path of the innermost layer it passed, if any.
        operation: the TensorFlow operation that refused, if any.
        shapes: shapes and dtypes of the layer's inputs, if known.
        line: `file:line: source` of the user's code, if any of it was involved.
    """

    kind: str
    message: str
    layer: str | None = None
    operation: str | None = None
    shapes: str | None = None
    line: str | None = None

    def __str__(self) -> str:
        where = [
            f"in layer {self.layer}" if self.layer else "",
            f"operation {self.operation}" if self.operation else "",
            f"inputs {self.shapes}" if self.shapes else "",
            f"at {self.line}" if self.line else "",
        ]
        detail = ", ".join(part for part in where if part)
        return f"{self.kind}: {self.message}" + (f" ({detail})" if detail else "")


def describe(error: BaseException) -> Raised:
    """An exception in the model's terms; reads its traceback, keeps no reference to it."""
    layer = operation = shapes = line = None
    for frame, number in _frames(error):
        owner = frame.f_locals.get("self")
        name = frame.f_code.co_name
        if name in ("call", "__call__") and _is_layer(owner):
            layer = getattr(owner, "path", None) or getattr(owner, "name", None)
            shapes = _shapes(frame.f_locals) or shapes
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(("tensorflow.python.ops.", "keras.src.ops.")):
            operation = name.removesuffix("_v2")
        if not module.startswith(("tensorflow.", "keras.", "conformance.")) and _is_users(frame.f_code.co_filename):
            source = linecache.getline(frame.f_code.co_filename, number).strip()
            line = f"{frame.f_code.co_filename}:{number}: {source}"
    return Raised(type(error).__name__, shortened(str(error)), layer, operation, shapes, line)


def _frames(error: BaseException) -> list[tuple[Any, int]]:
    found: list[tuple[Any, int]] = []
    step: TracebackType | None = error.__traceback__
    while step is not None:
        found.append((step.tb_frame, step.tb_lineno))
        step = step.tb_next
    return found


def _is_layer(owner: Any) -> bool:
    return any(base.__module__.startswith("keras.") and base.__name__ == "Layer" for base in type(owner).__mro__)


def _is_users(filename: str) -> bool:
    path = Path(filename)
    outside = not {"site-packages", "dist-packages"} & set(path.parts) and path.is_file()
    return outside and _OURS not in path.resolve().parents and "/lib/python" not in filename


def _shapes(variables: dict[str, Any]) -> str | None:
    args = variables.get("args") or tuple(variables[name] for name in ("inputs", "x") if name in variables)
    items = args if isinstance(args, tuple | list) else (args,)
    told = [
        f"{tuple(item.shape)} {getattr(item.dtype, 'name', item.dtype)}"
        for item in items
        if hasattr(item, "shape") and hasattr(item, "dtype")
    ]
    return ", ".join(told) or None


def shortened(message: str) -> str:
    """The message on one line, without terminal escapes and without the framework frames TensorFlow writes into it."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", message)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(('File "', "Detected at node", "Graph execution error"))]
    text = " ".join(lines) or plain.strip()
    return text if len(text) <= 300 else text[:297] + "..."
