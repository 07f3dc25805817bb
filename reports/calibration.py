"""A calibration as text, as Markdown and as JSON, written from a run's events alone.

Nothing is left out of the JSON. The text names of many departures under one signature the first, and says how many
there are.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table

from conformance.calibration import BINS, Calibration, Item, Ratios
from conformance.events import CaseCalibrated, Event, Problem, RunEnded, RunStarted, WorkerDied, WorkerReady
from conformance.finding import Environment
from conformance.reports.folder import write_file
from conformance.reports.text import code, markdown, plain
from conformance.stage import STAGES
from conformance.verdict import json_safe

WIDTH = 80
"""The most columns a chart takes."""

_BAR = 44
_MOST = 10
"""So many reasons of one kind are shown; how many more there are is said, and all are in the JSON."""


class Calibrated(msgspec.Struct, frozen=True, kw_only=True):
    """A calibration with all that was done for it.

    Attributes:
        total: what was seen in all cases.
        arms: the arms of every case.
        seed: the seed of the draws.
        asked: how many cases were to be run.
        environment: where; None where no worker came so far.
        seconds: how long it took; None where the run did not end by itself.
        interrupted: whether it was stopped.
        lost: the workers that were lost, and the cases they were running.
        problems: what else the reader must know.
    """

    total: Calibration
    arms: tuple[str, ...] = ()
    seed: int = 0
    asked: int = 0
    environment: Environment | None = None
    seconds: float | None = None
    interrupted: bool = False
    lost: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def calibrated(events: Iterable[Event]) -> Calibrated:
    """The calibration that a run's events tell."""
    told = list(events)
    seen = (event.calibration for event in told if isinstance(event, CaseCalibrated))
    made = Calibrated(total=functools.reduce(Calibration.merged, seen, Calibration()))
    for event in told:
        if isinstance(event, RunStarted):
            changes: dict[str, Any] = {"arms": event.arms, "seed": event.seed, "asked": event.examples or 0}
        elif isinstance(event, WorkerReady):
            changes = {"environment": event.environment}
        elif isinstance(event, WorkerDied):
            changes = {"lost": (*made.lost, f"{event.reason}; {event.path or 'no case was running'}")}
        elif isinstance(event, Problem):
            changes = {"problems": (*made.problems, event.message)}
        elif isinstance(event, RunEnded):
            changes = {"seconds": event.seconds, "interrupted": event.interrupted}
        else:
            continue
        made = msgspec.structs.replace(made, **changes)
    return made


def write(report: Path, events: Iterable[Event]) -> None:
    """Write `calibration.json` and `calibration.md` to a report's directory."""
    made = calibrated(events)
    write_file(report / "calibration.json", json.dumps(to_data(made), indent=2) + "\n")
    write_file(report / "calibration.md", page(made))


def to_data(made: Calibrated) -> dict[str, Any]:
    """The whole calibration as one JSON object; a histogram is a list of counts, one for each of `bins`."""
    total = made.total
    data = {**msgspec.to_builtins(made), **msgspec.to_builtins(total), "arms": list(made.arms)}
    del data["total"]
    data["judged_arms"], data["cases"], data["examples"] = total.arms, total.cases, data.pop("asked")
    data["bins"] = list(BINS)
    data["stages"] = {
        name: {"count": item.count, **msgspec.to_builtins(item)} for name, item in _in_order(total.stages)
    }
    worst = total.worst
    data["worst"] = msgspec.to_builtins(worst)
    data["factor"] = 1 / worst.value if worst is not None and worst.value else None
    data["conclusion"] = conclusion(made)
    safe: dict[str, Any] = json_safe(data)
    return safe


def conclusion(made: Calibrated) -> str:
    """How much of what is allowed was seen, and whether anything is news: the last line."""
    total, worst = made.total, made.total.worst
    if worst is None:
        said = "no seen / allowed was measured"
    elif not worst.value:
        said = "worst seen / allowed: 0"
    else:
        factor = f"below 1 by a factor of {1 / worst.value:.3g}"
        said = f"worst seen / allowed: {worst.value:.2g}, {factor} ({worst.where})"
    wrong = []
    if total.news:
        signatures = _number(len(_grouped(total.news)), "signature")
        wrong.append(f"{_number(len(total.news), 'departure')} under {signatures} that the corpus does not know")
    if total.failures:
        wrong.append(f"the harness failed in {_number(len(total.failures), 'case')}")
    if made.lost:
        wrong.append(f"{_number(len(made.lost), 'worker')} lost")
    if not total.compared:
        wrong.append("nothing was held against the referee")
    if total.cases < made.asked:
        wrong.append(f"only {total.cases:,} of {made.asked:,} cases")
    nothing = "nothing departs but what the corpus knows" if total.known else "nothing departs"
    return plain(f"{said}; {', '.join(wrong) or nothing}")


def text(made: Calibrated, encoding: str = "utf-8") -> str:
    """The calibration for a terminal.

    Args:
        made: the calibration.
        encoding: of the terminal; without line drawing in it, bars are made of minus signs.

    Returns:
        Lines, the last one with a line end. No chart is wider than `WIDTH`; a line that names a file is as long as
        it has to be, so that a path stays one word.
    """
    return "\n".join(_lines(made, encoding)) + "\n"


def _lines(made: Calibrated, encoding: str) -> Iterator[str]:
    total = made.total
    yield f"{_number(total.cases, 'case')}, {_number(total.arms, 'arm')} held against the referee"
    yield f"{_number(total.repeated, 'quantity', 'quantities')} given again bit for bit by arms prepared anew"
    measured = sum(item.count for item in total.stages.values())
    yield f"{_number(total.compared, 'quantity', 'quantities')} held against the referee, {measured:,} with a ratio"
    for name, item in _in_order(total.stages):
        yield ""
        yield f"{name}: {_number(item.count, 'quantity', 'quantities')} by seen / allowed"
        yield from _chart(item, encoding)
        if item.worst is not None and item.worst.value:
            yield plain(f"worst {item.worst.value:.2g}: {item.worst.where}")
    for title, counts in _counted(total):
        yield ""
        yield f"{title}:"
        for reason, count in list(counts.items())[:_MOST]:
            yield f"  {count:,} x {plain(reason)}"
        if len(counts) > _MOST:
            yield f"  and {len(counts) - _MOST:,} more"
    for title, items in (("news", total.news), ("failures of the harness", total.failures)):
        for signature, (first, count) in _grouped(items).items():
            yield ""
            yield plain(f"{title}: {signature} in {_number(count, 'case')}, the first one {first.path}")
            yield f"  {plain(first.message)}"
    for title, told in (("lost", made.lost), ("problem", made.problems)):
        for line in told:
            yield ""
            yield f"{title}: {plain(line)}"
    yield ""
    yield conclusion(made)


def _chart(item: Ratios, encoding: str) -> list[str]:
    """A histogram as bars, from the first bin that holds anything to the last."""
    grid = Table.grid(padding=(0, 1))
    for justify in ("right", "left", "right", "right"):
        grid.add_column(justify=justify, no_wrap=True)
    filled = [number for number, count in enumerate(item.counts) if count]
    for number in range(filled[0], filled[-1] + 1) if filled else ():
        count = item.counts[number]
        # What is there at all is seen, however little it is.
        shown = max(count, 1.01 * item.count / _BAR) if count else 0
        bar = ProgressBar(total=item.count, completed=shown, width=_BAR)
        grid.add_row(BINS[number], bar, f"{count:,}", f"{100 * count / item.count:.1f} %")
    written = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace", newline="\n")
    console = Console(file=written, width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
    console.print(grid)
    written.seek(0)
    return [line.rstrip() for line in written.read().splitlines()]


def page(made: Calibrated) -> str:
    """The calibration as Markdown, ending in a newline."""
    total = made.total
    done = [
        f"- Cases: {total.cases:,} of {made.asked:,}, seed {made.seed}",
        f"- Arms of each: {', '.join(code(arm) for arm in made.arms)}",
        f"- Arms held against the referee: {total.arms:,}",
        f"- Quantities that arms gave again bit for bit when prepared anew: {total.repeated:,}",
        f"- Quantities held against the referee: {total.compared:,}",
    ]
    if made.seconds is None:
        done.append("- **The run did not end by itself**; this is what was known until then.")
    else:
        done.append(f"- Took: {made.seconds:.1f} seconds" + (", interrupted" if made.interrupted else ""))
    if made.environment is not None:
        done += [f"- {name}: {code(value)}" for name, value in msgspec.to_builtins(made.environment).items()]
    blocks = ["# Calibration", markdown(conclusion(made)), "## What was done", "\n".join(done)]
    blocks += ["## Seen / allowed", _histograms(total)]
    for title, counts in _counted(total):
        rows = [f"| {code(reason)} | {count:,} |" for reason, count in counts.items()]
        blocks += [f"## {title[0].upper()}{title[1:]}", "\n".join(["| what | how often |", "| --- | ---: |", *rows])]
    for title, items in (("News", total.news), ("Failures of the harness", total.failures)):
        rows = [f"| {code(i.signature)} | {markdown(i.message)} | {code(i.arm)} | {code(i.path)} |" for i in items]
        blocks += [f"## {title}", "\n".join(["| signature | what | arm | case |", "| --- | --- | --- | --- |", *rows])]
        if not items:
            blocks[-1] = "None."
    for title, told in (("Workers that were lost", made.lost), ("Problems", made.problems)):
        blocks += [f"## {title}", "\n".join(f"- {markdown(line)}" for line in told)] if told else []
    return "\n\n".join(blocks) + "\n"


def _histograms(total: Calibration) -> str:
    head = ("stage", *BINS, "all", "worst", "where")
    rows = [
        (
            name,
            *(f"{count:,}" for count in item.counts),
            f"{item.count:,}",
            f"{item.worst.value:.2g}" if item.worst else "",
            code(item.worst.where) if item.worst else "",
        )
        for name, item in _in_order(total.stages)
    ]
    lines = [tuple(markdown(name) for name in head), ("---", *("---:",) * (len(head) - 2), "---"), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _in_order(stages: Mapping[str, Ratios]) -> list[tuple[str, Ratios]]:
    order = [stage.value for stage in STAGES]
    return sorted(stages.items(), key=lambda item: order.index(item[0]))


def _counted(total: Calibration) -> list[tuple[str, Mapping[str, int]]]:
    """What is only counted, the most frequent first; nothing of what there is none of."""
    kinds = {
        "departs as the corpus says, in cases": total.known,
        "arms that raised": total.raised,
        "arms that are unsupported": total.unsupported,
        "not judged": total.skipped,
    }
    return [
        (title, dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))))
        for title, counts in kinds.items()
        if counts
    ]


def _grouped(items: Iterable[Item]) -> dict[str, tuple[Item, int]]:
    """By signature the first item and how many there are."""
    found: dict[str, tuple[Item, int]] = {}
    for item in items:
        first, count = found.get(item.signature, (item, 0))
        found[item.signature] = first, count + 1
    return found


def _number(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
