"""What TensorFlow's own words say of an error: the operation, the shapes that met, the node, where it was made.

In a graph that is compiled the Python frames of an operation are long gone when it fails, and all that is left of them
is text in the message: the node's name, which has the layers' names in it, and the stack at which it was made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TYPED = re.compile(r"= (?P<operation>\w+)\[(?P<options>[^\]]*)\]\(")
_EAGER = re.compile(r"\[Op:(?P<operation>(?!__)\w+)\]")
_QUOTED = re.compile(r"'(?P<operation>\w+)' Op\b")
_NODE = re.compile(r"\{\{node (?P<node>[^}\s]+)\}\}")
_DETECTED = re.compile(r"Detected at node (?P<node>\S+) defined at")
_FRAME = re.compile(r'^\s*File "(?P<file>[^"\n]+)", line (?P<number>\d+)', re.MULTILINE)
_MET = re.compile(r"with input shapes: (?P<shapes>(?:<unknown>|\[[^\]]*\])(?:, (?:<unknown>|\[[^\]]*\]))*)")
_SHAPE = re.compile(r"(?<![\w\[])\[(?P<sizes>(?:(?:\?|\d+)(?:,(?:\?|\d+))*)?)\]")
_SPEAKS_OF_SHAPES = re.compile(r"shape|size-incompatible", re.IGNORECASE)
_DTYPE = re.compile(r"\bT=DT_(?P<dtype>\w+)")
_NUMBER = re.compile(r"_\d+$")
_DTYPES = {"FLOAT": "float32", "DOUBLE": "float64", "HALF": "float16"}


@dataclass(frozen=True)
class Refusal:
    """What a message says.

    Attributes:
        operation: the operation's type, as in `AddV2`; of a node in a compiled graph the name it was given.
        operands: the shapes that met, with their dtype where the message has it.
        node: the node's name with its scopes, as in `model/dense/MatMul`.
        made: files and line numbers of the stack at which the node was made, outermost first.
    """

    operation: str | None = None
    operands: str | None = None
    node: str | None = None
    made: tuple[tuple[str, int], ...] = ()


def refusal(message: str) -> Refusal:
    """Read a message; of something that TensorFlow did not write nothing is known."""
    found = _DETECTED.search(message) or _NODE.search(message)
    node = found["node"] if found else None
    typed = _TYPED.search(message)
    by_name = typed or _EAGER.search(message) or _QUOTED.search(message)
    operation = by_name["operation"] if by_name else None
    if operation is None and node is not None:
        operation = _NUMBER.sub("", node.rpartition("/")[2])
    return Refusal(operation, _operands(message, typed), node, _made(message) if found else ())


def _operands(message: str, typed: re.Match[str] | None) -> str | None:
    """The shapes, as Python writes them; of what the message counts, with the dtype that all of them have."""
    met = _MET.search(message)
    if met is None and not _SPEAKS_OF_SHAPES.search(message):
        return None
    sizes = [item["sizes"] for item in _SHAPE.finditer(met["shapes"] if met else message)]
    dtype = _DTYPE.search(typed["options"]) if typed else None
    name = "" if dtype is None else f" {_DTYPES.get(dtype['dtype'], dtype['dtype'].lower())}"
    return ", ".join(f"{_shape(item)}{name}" for item in sizes) or None


def _shape(sizes: str) -> str:
    parts = ["None" if part == "?" else part for part in sizes.split(",") if part]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def _made(message: str) -> tuple[tuple[str, int], ...]:
    """The stack of the first node that the message has one of."""
    _, _, text = message.partition("defined at (most recent call last):")
    stack = text.partition("Detected at node ")[0]
    return tuple((found["file"], int(found["number"])) for found in _FRAME.finditer(stack))
