"""Tables and lists of sentences as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from conformance.reports.page import Cell, Table
from conformance.reports.text import prose


def table(made: Table) -> str:
    """A table as Markdown."""
    rule = tuple("---:" if index in made.numeric else "---" for index in range(len(made.head)))
    rows = [tuple(map(_cell, row)) for row in made.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (made.head, rule, *rows))


def listed(sentences: Iterable[str]) -> str:
    """Sentences as a list."""
    return "\n".join(f"- {prose(sentence)}" for sentence in sentences)


def _cell(cell: Cell) -> str:
    said = f"[{prose(cell.text)}](<{cell.link}/report.md>)" if cell.link else prose(cell.text)
    return f"{said} ({prose(cell.note)})" if cell.note else said
