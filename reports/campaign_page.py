"""A run as a page, from its events and from the findings that lie in its directory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

from conformance.baseline import Known
from conformance.events import (
    BaselineCompared,
    CaseJudged,
    CaseStarted,
    Event,
    FindingMade,
    Problem,
    RunEnded,
    RunStarted,
    WorkerDied,
    WorkerReady,
)
from conformance.reports.campaign_tables import Tally
from conformance.reports.finding_page import table_of
from conformance.reports.page import CampaignPage, Cell, Table
from conformance.reports.referee import ABOUT, told_of_referee
from conformance.reports.text import quoted
from conformance.reports.words import counted, in_words
from conformance.verdict import CONFORMS, DIVERGES

NOT_MINIMIZED = "seen, and not minimized to a finding of its own"

_OUTCOMES = {
    "conforms": ("conforms", "conform"),
    "diverges": ("diverges", "diverge"),
    "known": ("diverges as known", "diverge as known"),
    "raises": ("raises in every arm", "raise in every arm"),
    "unsupported": ("is not supported", "are not supported"),
}
"""By outcome what one case does, and several."""


def campaign_page(events: Iterable[Event], titles: Mapping[str, str] | None = None) -> CampaignPage:
    """The page of a run.

    Args:
        events: the run's events, in order, gone through once; a run that was cut off may lack its last ones.
        titles: by the name of a finding's folder its title, for findings that lie there.
    """
    tally = Tally()
    told: list[Event] = []
    for event in events:
        tally.add(event)
        if isinstance(event, CaseJudged):
            # The verdict is the bulk of it, and counted already.
            told.append(msgspec.structs.replace(event, verdict=None))
        elif not isinstance(event, CaseStarted):
            told.append(event)
    return _page(told, tally, titles or {})


def _page(told: list[Event], tally: Tally, titles: Mapping[str, str]) -> CampaignPage:
    started = next((event for event in told if isinstance(event, RunStarted)), None)
    ended = next((event for event in told if isinstance(event, RunEnded)), None)
    judged = [event for event in told if isinstance(event, CaseJudged)]
    made = list({event.signature: event for event in told if isinstance(event, FindingMade)}.values())
    counts = Counter(event.outcome for event in judged)
    outcomes = dict(ended.outcomes) if ended is not None else dict(counts)
    ready = next((event for event in told if isinstance(event, WorkerReady)), None)
    about = [told_of_referee(event) for event in made]
    return CampaignPage(
        verdict=_verdict(outcomes, made, ended),
        ran=table_of(_ran(started, ended), code=False),
        outcomes=_outcomes(outcomes),
        findings=_findings(made, judged, ended, _Links(started, titles)),
        baseline=_baseline([event for event in told if isinstance(event, BaselineCompared)]),
        causes=_causes(made),
        about=ABOUT if any(about) else "",
        margins=tally.margins(),
        exact=tally.exact(),
        timing=tally.timing(),
        coverage=tally.coverage(),
        reasons=_reasons(judged),
        deaths=tuple(_death(event) for event in told if isinstance(event, WorkerDied)),
        problems=_problems(event for event in told if isinstance(event, Problem)),
        environment=table_of({} if ready is None else msgspec.to_builtins(ready.environment)),
    )


def _verdict(outcomes: Mapping[str, int], made: list[FindingMade], ended: RunEnded | None) -> str:
    if not outcomes:
        said = "No case was judged."
    else:
        parts = ", ".join(
            f"{count:,} {_OUTCOMES.get(name, (name, name))[count > 1]}"
            for name, count in sorted(outcomes.items(), key=lambda item: -item[1])
        )
        said = f"{counted(sum(outcomes.values()), 'case')} judged: {parts}."
        said += f" {counted(len(made), 'finding')}." if made else " No findings."
    if ended is None:
        return f"{said} The run did not end by itself; this is what was known until then."
    return f"{said} The run was interrupted." if ended.interrupted else said


def _ran(started: RunStarted | None, ended: RunEnded | None) -> dict[str, str]:
    rows = {}
    if started is not None:
        limits = [f"{started.examples} examples" if started.examples is not None else ""]
        limits += [f"{started.seconds:g} seconds" if started.seconds is not None else ""]
        rows = {
            "Arms": "; ".join(f"{quoted(arm)}, {in_words(arm)}" for arm in started.arms),
            "Seed": str(started.seed),
            "Asked for": " or ".join(limit for limit in limits if limit) or "the given cases",
            "Workers": str(started.workers),
        }
    if ended is not None:
        rows["Took"] = f"{ended.seconds:.1f} seconds" + (", interrupted" if ended.interrupted else "")
    return rows


def _outcomes(outcomes: Mapping[str, int]) -> Table:
    total = sum(outcomes.values())
    rows = tuple((Cell(name), Cell(f"{count:,}", count, share=count / total)) for name, count in outcomes.items())
    return Table(("verdict", "cases"), rows, frozenset({1}))


class _Links:
    """Where a finding's page is, seen from the run's page."""

    def __init__(self, started: RunStarted | None, titles: Mapping[str, str]) -> None:
        self._root = Path(started.report) if started is not None else None
        self._titles = titles

    def title(self, event: FindingMade) -> str:
        return self._titles.get(Path(event.folder).name) or event.message

    def link(self, event: FindingMade) -> str:
        """The folder's address relative to the page."""
        path = Path(event.folder)
        if self._root is not None and path.is_relative_to(self._root):
            path = path.relative_to(self._root)
        else:
            path = Path("findings", path.name)
        return quote(path.as_posix(), errors="replace")


def _findings(made: list[FindingMade], judged: list[CaseJudged], ended: RunEnded | None, links: _Links) -> Table:
    counts = Counter(signature for event in judged for signature in event.signatures)
    counts.update({} if ended is None or counts else ended.signatures)
    first = _first_seen(judged)
    rows = [
        (
            Cell(links.title(event), link=links.link(event), note=quoted(event.signature)),
            _count(counts[event.signature]),
            first.get(event.signature, Cell("not recorded", -1.0)),
            Cell(quoted(event.cause)),
            Cell(quoted(event.wrong_arm) if event.wrong_arm else "not decided"),
            Cell(event.repro_status),
        )
        for event in made
    ]
    others = [signature for signature in counts if signature not in {event.signature for event in made}]
    rows += [
        (
            Cell(NOT_MINIMIZED, note=quoted(signature)),
            _count(counts[signature]),
            first.get(signature, Cell("not recorded", -1.0)),
            Cell(_cause_in(signature)),
            Cell(""),
            Cell("none"),
        )
        for signature in others
    ]
    head = ("what", "cases", "first seen", "cause", "wrong arm", "script")
    return Table(head, tuple(rows), frozenset({1}))


def _baseline(told: list[BaselineCompared]) -> Table:
    """What became of the entries of a baseline: of those that a run compares twice, what was said last."""
    rows: dict[str, tuple[Cell, ...]] = {}
    for event in told:
        for item in event.occurred:
            how = item.decided or f"occurs, in {counted(item.cases, 'case')}"
            rows[item.known.signature] = _entry(item.known, how)
        for item in event.gone:
            rows[item.known.signature] = _entry(item.known, f"no longer occurs: {event.how(item)}")
        for item in event.hidden:
            rows[item.known.signature] = _entry(item.known, "not to be seen in the arms of this run")
    source = told[-1].source if told else ""
    return Table(("known", "became of it"), tuple(rows.values()), about=f"The baseline is {quoted(source)}.")


def _entry(known: Known, became: str) -> tuple[Cell, ...]:
    link = f" ({known.link})" if known.link else ""
    return Cell(f"{known.sentence}{link}", note=quoted(known.signature)), Cell(became)


def _count(count: int) -> Cell:
    return Cell(f"{count:,}" if count else "not counted", float(count))


def _cause_in(signature: str) -> str:
    """The cause that a signature names, axis/stage/cause/feature."""
    parts = signature.split("/")
    return quoted(parts[2]) if len(parts) > 2 else ""


def _first_seen(judged: list[CaseJudged]) -> dict[str, Cell]:
    """By signature the first case that showed it: by the time its worker had spent on cases until then."""
    spent: dict[int, float] = {}
    cells: dict[str, Cell] = {}
    for event in judged:
        after = spent[event.worker] = spent.get(event.worker, 0.0) + event.seconds
        where = quoted(Path(event.path).name) if event.path else f"worker {event.worker}, case {event.index}"
        cell = Cell(f"{where} ({after:.0f} s)", after)
        for signature in event.signatures:
            cells.setdefault(signature, cell)
    return cells


def _causes(made: list[FindingMade]) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Each cause once, with what it means and what to do."""
    causes: dict[tuple[str, str], dict[str, None]] = {}
    for event in made:
        lines = causes.setdefault((event.cause, event.explanation), {})
        lines |= dict.fromkeys((*told_of_referee(event), f"Cure: {event.advice}"))
    return tuple((name, sentence, tuple(lines)) for (name, sentence), lines in causes.items())


def _reasons(judged: list[CaseJudged]) -> Table:
    counts = Counter(
        (event.outcome, event.message or "no reason given")
        for event in judged
        if event.outcome not in (CONFORMS, DIVERGES, "known") or (event.message or "").startswith("flaky: ")
    )
    rows = tuple((Cell(name), Cell(f"{count:,}", count), Cell(text)) for (name, text), count in counts.most_common(50))
    left = len(counts) - len(rows)
    about = f"{counted(left, 'more reason')} left out; all are in events.jsonl." if left else ""
    return Table(("verdict", "cases", "reason"), rows, frozenset({1}), about)


def _death(event: WorkerDied) -> str:
    where = f", case kept at {quoted(event.path)}" if event.path else ", no case was running"
    return f"{event.reason}{where}"


def _problems(problems: Iterable[Problem]) -> tuple[str, ...]:
    # Many cases can meet the same problem; it is said once, with how often.
    counts = Counter(event.message for event in problems)
    return tuple(f"{message} ({count} times)" if count > 1 else message for message, count in counts.items())
