"""What training means, as two pages: the clauses, and the causes, each of which replaces one.

The key idea is that nothing is written here: the sentences are the docstrings of the functions that the referee runs,
and the cures are those a verdict prints, so that the documentation cannot drift from the code. `docs/make.py` writes
the pages, and a test compares them.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from itertools import groupby

import conformance.referee
from conformance.causes import CAUSES, CauseEntry
from conformance.referee.clause import CHAPTERS, CLAUSES, Clause

_SPECIAL = re.compile(r"[\\*_<>|\[\]#~&$]")
_CODE = re.compile(r"(`[^`]*`)")
_ADDRESS = re.compile(r"https?://[^\s,;]+")
_IN_REPOSITORY = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+), (?P<path>[\w./-]+\.\w+)(?=,|$)")

_CLAUSES_ARE = (
    "This page says what it means to train a model, in numbered sentences: the clauses by which the referee judges a"
    " training. It is made by `python docs/make.py` from the docstrings of the functions in `conformance.referee` that"
    " compute what the sentences say, so it says nothing that the code does not do."
)
_CAUSES_ARE = (
    "This page says why a training differs from what it should be: each cause has a name, which verdicts and signatures"
    " show, and as a rule replaces one clause of [what training means](semantics.md). It is made by"
    " `python docs/make.py` from `conformance.causes`, the table of what verdicts say."
)


def registered() -> list[Clause]:
    """All clauses in the order of their numbers; whatever module holds them is imported first."""
    for module in pkgutil.iter_modules(conformance.referee.__path__):
        if module.name.endswith(("_rules", "_clauses")):
            importlib.import_module(f"{conformance.referee.__name__}.{module.name}")
    return sorted(CLAUSES.values(), key=lambda clause: clause.place)


def escaped(text: str) -> str:
    """Text as Markdown that shows it as it is: formulas keep their stars, code in backticks stays code."""
    parts = _CODE.split(text)
    return "".join(part if _CODE.fullmatch(part) else _SPECIAL.sub(r"\\\g<0>", part) for part in parts)


def sources(clause: Clause) -> list[str]:
    """Where a clause's sentence is said, a source each, addresses as links."""
    return [_source(source) for source in clause.source.split("; ")]


def _source(source: str) -> str:
    """A source as Markdown; a file of a repository, `owner/name, path`, is linked to where it stands."""
    found = _ADDRESS.search(source)
    if found is not None:
        return f"{escaped(source[: found.start()])}<{found[0]}>{escaped(source[found.end() :])}"
    held = _IN_REPOSITORY.match(source)
    if held is not None:
        address = f"https://github.com/{held['repository']}/blob/master/{held['path']}"
        return f"[{escaped(held['path'])}]({address}){escaped(source[held.end() :])}"
    return escaped(source)


def semantics_page() -> str:
    """`docs/semantics.md`: every clause with its sources, its function and the causes that replace it."""
    lines = ["# What training means", "", _CLAUSES_ARE]
    for number, clauses in groupby(registered(), lambda clause: clause.place[0]):
        lines += ["", f"## {number}. {CHAPTERS[number]}"]
        for clause in clauses:
            lines += ["", *_told(clause)]
    return "\n".join(lines) + "\n"


def _told(clause: Clause) -> Iterator[str]:
    yield f'<a id="{clause.number}"></a>**{clause.number}** {escaped(clause.sentence)}'
    yield ""
    module = clause.function.__module__.removeprefix(f"{conformance.referee.__name__}.")
    yield f"- Source: {'; '.join(sources(clause))}"
    yield f"- Function: `{module}.{clause.name}`"
    replacing = [entry.name for entry in CAUSES.values() if entry.clause == clause.number]
    if replacing:
        yield f"- Replaced by: {', '.join(f'[`{name}`](causes.md#{name})' for name in replacing)}"


def causes_page() -> str:
    """`docs/causes.md`: every cause with the clause it replaces, the stage where it enters and its cure."""
    clauses = {clause.number: clause for clause in registered()}
    lines = ["# Causes", "", _CAUSES_ARE, "", "| cause | instead of | enters at |", "|---|---|---|"]
    for entry in CAUSES.values():
        harmless = ", harmless" if entry.harmless else ""
        lines.append(f"| [`{entry.name}`](#{entry.name}) | {_link(entry)} | {_stage(entry)}{harmless} |")
    for entry in CAUSES.values():
        lines += ["", *_explained(entry, clauses)]
    return "\n".join(lines) + "\n"


def _link(entry: CauseEntry) -> str:
    return "" if entry.clause is None else f"[{entry.clause}](semantics.md#{entry.clause})"


def _stage(entry: CauseEntry) -> str:
    # What replaces no clause and is not harmless either is bound to no stage.
    return f"`{entry.stage.value}`" if entry.clause is not None or entry.harmless else "any stage"


def _explained(entry: CauseEntry, clauses: dict[str, Clause]) -> Iterator[str]:
    # The name is the heading, and so the anchor that the other page links to.
    yield f"## `{entry.name}`"
    yield ""
    yield escaped(entry.sentence)
    yield ""
    if entry.clause is not None:
        yield f"- Instead of: {_link(entry)} {escaped(clauses[entry.clause].sentence)}"
    yield f"- Enters at: {_stage(entry)}"
    yield f"- Cure: {escaped(entry.advice)}"
