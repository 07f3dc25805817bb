"""What a report says, in words and numbers, before anybody has written it down.

The key idea is that everything is decided here once: a writer of Markdown and one of HTML turn the same sentences,
tables and charts into text, and neither computes anything or knows what a verdict is. A sentence is plain text of which
pieces in backticks are code; it may hold whatever a stranger's exception says, and each writer escapes it in its way.
"""

from __future__ import annotations

from dataclasses import dataclass

from conformance.reports.chart import Heat, Plot
from conformance.reports.graph import Graph


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: a sentence.
        sort: what the cell is sorted by; its text where None.
        link: the folder of a finding as an address relative to the page, percent-encoded; empty where there is none.
        share: a part of 1, shown as a bar; None where there is none.
        note: a sentence that goes with it, shown smaller; may be empty.
    """

    text: str
    sort: float | str | None = None
    link: str = ""
    share: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        head: the columns' names.
        rows: the cells.
        numeric: the columns whose cells are numbers.
        about: a sentence about it; may be empty.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: frozenset[int] = frozenset()
    about: str = ""


@dataclass(frozen=True)
class Definition:
    """The clause that is not kept: its number, its sentence, and its sources as sentences of Markdown and as text."""

    number: str
    sentence: str
    sources: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Reason:
    """Why: the cause's name, its sentence, how sure it is, the evidence, and the cure."""

    name: str
    explanation: str
    certainty: str
    evidence: tuple[str, ...]
    advice: str


@dataclass(frozen=True)
class Recorded:
    """What is on record of a finding: since which version, where in the source of Keras, what is written, the cure."""

    since: str
    where: tuple[str, ...]
    notes: tuple[str, ...]
    cure: str = ""


@dataclass(frozen=True)
class Script:
    """The script: its source, what became of it in a clean process, and what it printed there."""

    source: str
    status: str
    said: str
    output: str


@dataclass(frozen=True)
class FindingPage:
    """A finding, from top to bottom.

    Attributes:
        title: what differs, in a sentence.
        verdict: which arm is wrong, in a sentence.
        wrong: that arm's spelling; empty where it is not decided.
        stage: where it is found.
        happened: what happened, a sentence each.
        numbers: the same as names and values.
        traceback: what Python prints of an exception; empty where there is none.
        expected: what should have happened, a sentence each.
        definition: the clause that is not kept, where one is known.
        reason: why.
        recorded: what is known of it already.
        arms: what became of each arm.
        rounding: differences that are none, as messages.
        heats: seen against allowed by stage and step, the finding's own comparison first.
        alone: why there is none of the finding's own; empty where there is one.
        plot: seen against allowed of the stage where it is found; None where nothing was kept.
        graph: the model; None where there is no case.
        script: the script.
        cases: the cases as (title, JSON).
        tried: how many cases were tried; may be empty.
        environment: names and values.
        words: the words that the report uses, with their meaning.
        signature: the signature.
    """

    title: str
    verdict: str
    wrong: str
    stage: str
    happened: tuple[str, ...]
    numbers: Table
    traceback: str
    expected: tuple[str, ...]
    definition: Definition | None
    reason: Reason
    recorded: Recorded
    arms: Table
    rounding: tuple[str, ...]
    heats: tuple[Heat, ...]
    alone: str
    plot: Plot | None
    graph: Graph | None
    script: Script
    cases: tuple[tuple[str, str], ...]
    tried: str
    environment: Table
    words: Table
    signature: str


@dataclass(frozen=True)
class CampaignPage:
    """A run, from top to bottom.

    Attributes:
        verdict: what came of it, in a sentence.
        ran: what was run, names and values.
        outcomes: cases by verdict.
        findings: a row a signature.
        baseline: what a baseline knows: an entry a row, and whether it occurred; without rows where there was none.
        causes: each cause once: its name, its sentence, and what else is to be said, the cure last.
        about: what the referee is, where one of the findings is held against it; else empty.
        margins: how much of what is allowed was seen: a histogram.
        exact: how many comparisons owed the same bits, and how many kept to it, in a sentence; may be empty.
        timing: the seconds that each arm took.
        coverage: what was drawn, as (title, table).
        reasons: why cases could not be judged.
        deaths: workers that were lost, a sentence each.
        problems: what else the reader must know.
        environment: names and values.
    """

    verdict: str
    ran: Table
    outcomes: Table
    findings: Table
    baseline: Table
    causes: tuple[tuple[str, str, tuple[str, ...]], ...]
    about: str
    margins: Table
    exact: str
    timing: Table
    coverage: tuple[tuple[str, Table], ...]
    reasons: Table
    deaths: tuple[str, ...]
    problems: tuple[str, ...]
    environment: Table
