"""What a training raised, told in terms of the model: the layer, the operation, the shapes, the user's line.

Keras reports an error at the framework frame where it surfaced. What is here is plain data, read off the exception by
`conformance.layer_error`, so that it crosses process borders and every writer tells it in the same words.
"""

from __future__ import annotations

import re

import msgspec

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# Names of nodes and functions, which are counted through in each process, and where a kernel ran.
_NODES = re.compile(
    r"\[\[(?:\{\{[^\]]*|[A-Za-z_][\w/:]*)\]\]|\{\{function_node [^}]*\}\}"
    r"|\[Op:__inference\w*\]|\[Op:\w+\](?: name:\s*$)?"
)
_MADE = re.compile(r" for '\{\{node [^}]*\}\} = \w+\[[^\]]*\]\([^)]*\)'")
_INFERRING = re.compile(r".+?Error encountered:(?P<said>.*)\Z", re.DOTALL)
# Only in front of the frames and behind them is an empty line; the error may have more of its own.
_REWRITTEN = re.compile(r"\s*in user code:\n.*?\n *\n +(?P<kind>[\w.]+):(?: |\n|\Z)(?P<said>.*)\Z", re.DOTALL)
_CALLING = re.compile(
    r"\s*Exception encountered when calling [^\n]*?\.\s*\n(?P<said>.*?)(?:\n\s*Arguments received by .*)?\Z", re.DOTALL
)
_ROOTS = re.compile(r".*?\d+ root error\(s\) found\.\s*\(0\)\s*[A-Z_]+:\s*(?P<said>.*?)(?:\n\s*\(1\).*)?\Z", re.DOTALL)
_WRAPPINGS = (_REWRITTEN, _CALLING, _INFERRING, _ROOTS)
"""What wraps a message, the outermost first."""

_MOST = 300
"""Characters of a message that are shown."""

_LEFT_OUT = " [...] "


class Raised(msgspec.Struct, frozen=True):
    """An exception of a training.

    Attributes:
        kind: the exception's class name.
        message: its message, shortened.
        layer: path of the innermost layer it passed, if any.
        operation: the TensorFlow operation that refused, as in `AddV2`, or the function of TensorFlow or Keras.
        shapes: shapes and dtypes of the layer's inputs, if known.
        line: `file:line: source` of the user's code, if any of it was involved.
        layer_class: the layer's class name.
        operands: shapes and dtypes that met in the operation, if known.
        traceback: the traceback as Python prints it, the middle of a long one left out.
    """

    kind: str
    message: str
    layer: str | None = None
    operation: str | None = None
    shapes: str | None = None
    line: str | None = None
    layer_class: str | None = None
    operands: str | None = None
    traceback: str | None = None

    def __str__(self) -> str:
        where = [
            f"in layer {self.named}" if self.named else "",
            f"operation {self.refused}" if self.refused else "",
            f"inputs {self.shapes}" if self.shapes else "",
            f"at {self.line}" if self.line else "",
        ]
        detail = ", ".join(part for part in where if part)
        return self.said + (f" ({detail})" if detail else "")

    @property
    def said(self) -> str:
        """The exception in a line, without where it was raised."""
        return f"{self.kind}: {self.message}" if self.message else self.kind

    @property
    def named(self) -> str | None:
        """The layer by path and class, as in `model/block/scale (Scale)`."""
        return f"{self.layer} ({self.layer_class})" if self.layer and self.layer_class else self.layer

    @property
    def refused(self) -> str | None:
        """The operation and what met in it, as in `AddV2 of (4, 5) float32, (4, 2) float32`."""
        return f"{self.operation} of {self.operands}" if self.operation and self.operands else self.operation

    @property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """What is known of where it was raised, a word and a text each, the model first and the user's line last."""
        rows = (("layer", self.named), ("operation", self.refused), ("inputs", self.shapes), ("line", self.line))
        return tuple((word, text) for word, text in rows if text)

    @property
    def feature(self) -> str:
        """What makes two exceptions the same finding: the class, the layer's class and the operation; no numbers."""
        return "/".join(part for part in (self.kind, self.layer_class, self.operation) if part)


def shortened(message: str) -> str:
    """The message on one line, without terminal escapes, nodes' names and the framework's frames.

    Of an error in which Keras or TensorFlow wraps another, the inner one's words are what says what is wrong; there may
    be none. Of a long message the middle is left out: it begins with what is wrong, and often ends with what to do.
    """
    plain = _COLOURS.sub("", message)
    said, _ = _unwrapped(plain)
    if not said.strip():
        return ""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(('File "', "Detected at node", "Graph execution error"))]
    text = " ".join(" ".join(_NODES.sub(" ", _MADE.sub("", line)).split()) for line in lines).strip() or plain.strip()
    return ends(text, _MOST)


def ends(text: str, most: int) -> str:
    """A text of at most `most` characters: of a longer one two thirds are its beginning, and the rest is its end."""
    if len(text) <= most:
        return text
    head = 2 * most // 3
    return text[:head].rstrip() + _LEFT_OUT + text[len(text) - (most - head - len(_LEFT_OUT)) :].lstrip()


def rewritten_kind(message: str) -> str | None:
    """The class of the error that AutoGraph tells in the words of a message, the innermost; None where it tells none.

    What AutoGraph cannot make anew with a longer message it raises as an error of its own.
    """
    return _unwrapped(_COLOURS.sub("", message))[1]


def _unwrapped(message: str) -> tuple[str, str | None]:
    """What is left of a message when every layer of wrapping is taken off, and the class that AutoGraph says it has."""
    text, kind = message, None
    while True:
        found = next((found for pattern in _WRAPPINGS if (found := pattern.match(text))), None)
        if found is None or found["said"] == text:
            return text, kind
        text, kind = found["said"], found.groupdict().get("kind") or kind
