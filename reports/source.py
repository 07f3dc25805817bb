"""Python source, laid out as `ruff format --line-length 100` leaves it.

Only what the repro scripts need: a statement is a prefix, an expression and a suffix, an expression is text or a
bracket of expressions. A bracket is kept on one line where it fits; a call's arguments move to one line of their own;
else every item has a line.
"""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

WIDTH = 100
INDENT = "    "


@dataclass(frozen=True)
class Bracket:
    """`head` up to and with its opening bracket, the items, the closing bracket."""

    head: str
    items: tuple[Expression, ...]
    close: str = ")"

    @property
    def is_call(self) -> bool:
        """Whether it is a call, whose arguments may share a line of their own."""
        return self.head not in ("[", "(")


Expression = str | Bracket


def call(function: str, *args: Expression, **named: Expression) -> Bracket:
    """`function(*args, **named)`."""
    return Bracket(f"{function}(", (*args, *(_named(name, value) for name, value in named.items())))


def listed(items: Iterable[Expression]) -> Bracket:
    """`[items]`."""
    return Bracket("[", tuple(items), "]")


def _named(name: str, value: Expression) -> Expression:
    if isinstance(value, Bracket):
        return Bracket(f"{name}={value.head}", value.items, value.close)
    return f"{name}={value}"


def flat(expression: Expression) -> str:
    """The expression on one line."""
    if isinstance(expression, str):
        return expression
    return expression.head + ", ".join(map(flat, expression.items)) + expression.close


def statement(prefix: str, expression: Expression, suffix: str = "", depth: int = 0) -> list[str]:
    """The lines of `prefix expression suffix`, indented only by its own structure; `depth` is where it will stand."""
    line = prefix + flat(expression) + suffix
    if isinstance(expression, str) or depth * len(INDENT) + len(line) <= WIDTH or not expression.items:
        return [line]
    inner = (depth + 1) * len(INDENT)
    together = ", ".join(map(flat, expression.items))
    literal = expression.head.endswith(("[", "=(")) or not expression.is_call
    if not literal and inner + len(together) <= WIDTH:
        body = [together]
    elif len(expression.items) == 1 and not literal:
        body = statement("", expression.items[0], "", depth + 1)
    else:
        body = [line for item in expression.items for line in statement("", item, ",", depth + 1)]
    return [prefix + expression.head, *indented(body), expression.close + suffix]


def indented(lines: Iterable[str]) -> list[str]:
    """The lines one level deeper; empty ones stay empty."""
    return [INDENT + line if line else line for line in lines]


def literal(value: object) -> str:
    """A number, string, flag, None or (nested) tuple of them as source."""
    if isinstance(value, list | tuple):
        items = [literal(item) for item in value]
        return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
    if isinstance(value, str):
        # As ruff quotes: double quotes, unless that means escaping.
        text = repr(value)
        return f'"{text[1:-1]}"' if text[0] == "'" and '"' not in text and "\\" not in text else text
    return repr(value)


def names(wanted: Iterable[str], taken: Iterable[str]) -> Mapping[str, str]:
    """A variable name for each wanted one: no keyword, no built-in, none that is taken, no two alike."""
    used = {*taken, *dir(builtins), *keyword.kwlist, *keyword.softkwlist}
    given: dict[str, str] = {}
    for name in wanted:
        free = name
        while free in used:
            free += "_"
        used.add(free)
        given[name] = free
    return given
