"""A case as the code that makes it: the shortest, without what is so by default.

The key idea is that what is printed can be pasted: it evaluates to the same case, and reads from the model down.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from conformance.frozen import FrozenMap

LINE = 110
"""The longest line of a case that is printed."""


def _told(part: msgspec.Struct) -> Iterator[tuple[str, Any]]:
    """The fields of a part that are not what they are by default."""
    for field in msgspec.structs.fields(part):
        value = getattr(part, field.name)
        if field.required or value != field.default:
            yield field.name, value


def _written(value: Any) -> str:
    """A value as code; options as the dictionaries that the parts take for them."""
    if isinstance(value, FrozenMap):
        return f"{{{', '.join(f'{name!r}: {_written(item)}' for name, item in value.items())}}}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_written, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


def line_of(part: msgspec.Struct) -> str:
    """The code that makes a case or a part of one, in one line."""
    return f"{type(part).__name__}({', '.join(f'{name}={_written(value)}' for name, value in _told(part))})"


def code_of(part: msgspec.Struct, width: int = LINE - 4) -> list[str]:
    """The code that makes a case or a part of one, without what is so by default.

    Args:
        part: the case or the part.
        width: characters of a line.

    Returns:
        Its lines. The names in it are those of `conformance.case`.
    """
    return _lines(part, width)


def _lines(value: Any, width: int, before: str = "", after: str = "") -> list[str]:
    """A value as code, in one line where it fits, else a line or more a part, and closed where its last part ends.

    Args:
        value: the value.
        width: characters of a line.
        before: what its first line begins with.
        after: what its last line ends with.
    """
    whole = f"{before}{_written(value)}{after}"
    if len(whole) <= width or not isinstance(value, msgspec.Struct | tuple):
        return [whole]
    if isinstance(value, tuple):
        if len(value) == 1:
            return _lines(value[0], width, f"{before}(", f",){after}")
        opening, items = f"{before}(", [("", item) for item in value]
    else:
        opening, items = f"{before}{type(value).__name__}(", [(f"{name}=", item) for name, item in _told(value)]
        if not any(isinstance(item, msgspec.Struct) or _holds_parts(item) for _, item in items):
            return _filled(opening, [f"{name}{_written(item)}" for name, item in items], f"){after}", width)
    inner = [
        line
        for number, (name, item) in enumerate(items, start=1)
        for line in _lines(item, width - 4, name, "," if number < len(items) else f"){after}")
    ]
    return [opening, *(f"    {line}" for line in inner)]


def _holds_parts(value: Any) -> bool:
    return isinstance(value, tuple) and any(isinstance(item, msgspec.Struct) for item in value)


def _filled(opening: str, items: list[str], closing: str, width: int) -> list[str]:
    """What has no parts of its own: as many items a line as fit."""
    lines = [opening]
    for number, item in enumerate(items, start=1):
        text = f"{item}, " if number < len(items) else f"{item}{closing}"
        if len(lines[-1]) + len(text.rstrip()) > width:
            lines.append("    ")
        lines[-1] += text
    return [line.rstrip() for line in lines]
