"""Clauses: the numbered sentences of what training means, each with the function that is that sentence as code.

The key idea is that the sentence is the function's docstring and nothing else, so that `docs/semantics.md`, which is
made from the clauses, cannot say anything that the referee does not do.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

CHAPTERS = {
    1: "Batches",
    2: "The forward pass",
    3: "Losses of a sample",
    4: "The loss of a step",
    5: "Gradients",
    6: "The update",
    7: "Update rules",
    8: "States and random streams",
    9: "What is reported",
    10: "Metrics",
}


@dataclass(frozen=True)
class Clause:
    """One numbered sentence of what training means.

    Attributes:
        number: chapter and place, as in `4.3`.
        name: the function's name, by which a deviation replaces it.
        sentence: the first paragraph of the function's docstring.
        source: where that is said: an address in the Keras or TensorFlow documentation, or a paper with its equation.
        function: the sentence as code.
    """

    number: str
    name: str
    sentence: str
    source: str
    function: Callable[..., Any]

    @property
    def place(self) -> tuple[int, int]:
        """Chapter and place as numbers, for sorting."""
        chapter, _, place = self.number.partition(".")
        return int(chapter), int(place)


CLAUSES: dict[str, Clause] = {}
"""Every clause by its number, in no particular order; a module's clauses are here once it is imported."""


def clause(number: str, *, source: str) -> Callable[[Function], Function]:
    """Make a function the clause of that number; the first paragraph of its docstring is the sentence.

    Args:
        number: `chapter.place`, each used once.
        source: an address in the documentation, or author, year, equation.

    Raises:
        ValueError: when the number is taken or malformed, or there is no docstring.
    """

    def register(function: Function) -> Function:
        if not re.fullmatch(r"[1-9]\d*\.[1-9]\d*", number) or int(number.partition(".")[0]) not in CHAPTERS:
            raise ValueError(f"{number!r} is not the number of a clause; write chapter.place, as in 4.3")
        known = CLAUSES.get(number)
        if known is not None and (known.function.__module__, known.name) != (function.__module__, function.__name__):
            raise ValueError(f"clause {number} is {known.name} already, so it cannot be {function.__name__}")
        sentence = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
        if not sentence:
            raise ValueError(f"clause {number}, {function.__name__}, has no docstring")
        CLAUSES[number] = Clause(number, function.__name__, sentence, source, function)
        return function

    return register
