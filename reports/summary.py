"""A run's own page, written from its events alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

from conformance.events import (
    CaseJudged,
    Event,
    FindingMade,
    Problem,
    RunEnded,
    RunStarted,
    WorkerDied,
    WorkerReady,
)
from conformance.reports.referee import ABOUT, told_of_referee
from conformance.reports.text import code, markdown


def summary(events: Iterable[Event]) -> str:
    """A run as Markdown: what ran, what came of it, the findings, what crashed, what the reader must know.

    Args:
        events: the run's events, in order; a run that was cut off may lack its last ones.

    Returns:
        Markdown, ending in a newline.
    """
    told = list(events)
    started = next((event for event in told if isinstance(event, RunStarted)), None)
    ended = next((event for event in told if isinstance(event, RunEnded)), None)
    blocks = [
        "# Conformance run",
        *_ran(started, ended, told),
        *_outcomes(ended, told),
        *_findings([event for event in told if isinstance(event, FindingMade)], started),
        *_deaths([event for event in told if isinstance(event, WorkerDied)]),
        *_problems([event for event in told if isinstance(event, Problem)]),
    ]
    return "\n\n".join(blocks) + "\n"


def _ran(started: RunStarted | None, ended: RunEnded | None, told: list[Event]) -> list[str]:
    lines = []
    if started is not None:
        limits = [f"{started.examples} examples" if started.examples is not None else ""]
        limits += [f"{started.seconds:g} seconds" if started.seconds is not None else ""]
        lines += [
            f"- Arms: {', '.join(code(arm) for arm in started.arms)}",
            f"- Seed: {started.seed}",
            f"- Asked for: {' or '.join(limit for limit in limits if limit) or 'the given cases'}",
            f"- Workers: {started.workers}",
        ]
    if ended is not None:
        lines.append(f"- Took: {ended.seconds:.1f} seconds" + (", interrupted" if ended.interrupted else ""))
    else:
        lines.append("- **The run did not end by itself**; this is what was known until then.")
    ready = next((event for event in told if isinstance(event, WorkerReady)), None)
    if ready is not None:
        lines += [f"- {name}: {code(value)}" for name, value in msgspec.to_builtins(ready.environment).items()]
    return ["## What ran", "\n".join(lines)]


def _outcomes(ended: RunEnded | None, told: list[Event]) -> list[str]:
    counted = Counter(event.outcome for event in told if isinstance(event, CaseJudged))
    outcomes = dict(ended.outcomes) if ended is not None else dict(counted)
    if not outcomes:
        return ["## Outcomes", "No case was judged."]
    rows = [f"| {markdown(name)} | {count} |" for name, count in outcomes.items()]
    return ["## Outcomes", "\n".join(["| verdict | cases |", "| --- | ---: |", *rows])]


def _findings(made: list[FindingMade], started: RunStarted | None) -> list[str]:
    if not made:
        return ["## Findings", "None."]
    root = Path(started.report) if started is not None else None
    rows = [
        f"| {markdown(event.message)} | {code(event.cause)} | {_wrong(event)} | {markdown(event.repro_status)} |"
        f" [{markdown(Path(event.folder).name)}](<{_link(event.folder, root)}>) |"
        for event in made
    ]
    head = ["| what | cause | wrong arm | script | folder |", "| --- | --- | --- | --- | --- |"]
    return ["## Findings", "\n".join([*head, *rows]), *_reasons(made)]


def _reasons(made: list[FindingMade]) -> list[str]:
    """Each cause once, with what it means and what to do, and what the referee is where there is one."""
    about = {event.signature: told_of_referee(event) for event in made}
    lines: dict[str, None] = {}
    for event in made:
        told = [f"  - {markdown(line)}" for line in (*about[event.signature], f"advice: {event.advice}")]
        lines["\n".join([f"- {code(event.cause)}: {markdown(event.explanation)}", *told])] = None
    return ["\n".join(lines), *([markdown(ABOUT)] if any(about.values()) else [])]


def _wrong(event: FindingMade) -> str:
    return code(event.wrong_arm) if event.wrong_arm else "not decided"


def _link(folder: str, root: Path | None) -> str:
    """A folder as the page, which lies in `root`, links to it."""
    path = Path(folder)
    if root is not None and path.is_relative_to(root):
        path = path.relative_to(root)
    text = path.as_posix()
    for char, escaped in (("%", "%25"), ("<", "%3C"), (">", "%3E"), ("|", "%7C"), ("\\", "%5C"), ("\n", "%0A")):
        text = text.replace(char, escaped)
    return text


def _deaths(died: list[WorkerDied]) -> list[str]:
    if not died:
        return []
    kept = [f", case kept at {code(event.path)}" if event.path else ", no case was running" for event in died]
    lines = [f"- {markdown(event.reason)}{where}" for event, where in zip(died, kept, strict=True)]
    return ["## Workers that were lost", "\n".join(lines)]


def _problems(problems: list[Problem]) -> list[str]:
    # Many cases can meet the same problem; it is said once, with how often.
    counted = Counter(event.message for event in problems)
    lines = [
        f"- {markdown(message)}" + (f" ({count} times)" if count > 1 else "") for message, count in counted.items()
    ]
    return ["## Problems", "\n".join(lines)] if lines else []
