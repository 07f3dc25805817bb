"""Do the known findings still occur?

A run that sees a known finding has the proof that it does. One that does not see it has none that it is gone: it may
have drawn too few cases, or its arms cannot show it. So what these arms cannot show is told apart, and a finding that
the corpus has a case of can be decided by that case, in the arms it was recorded in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from conformance import cases
from conformance.arm import parse_placement
from conformance.baseline import Baseline, Known
from conformance.campaign import Closing, share
from conformance.errors import UsageError
from conformance.events import BaselineCompared, CaseJudged, CorpusAsked, Event, Occurrence, Problem, WorkerDied
from conformance.job import Job
from conformance.supervisor import supervise


def compared(baseline: Baseline, source: str, job: Job, counted: Mapping[str, int], judged: int) -> BaselineCompared:
    """What a run saw of its baseline.

    Args:
        baseline: the entries that concern the versions that are installed.
        source: what the baseline is called.
        job: the run's.
        counted: how many cases showed a signature.
        judged: how many cases there were.
    """
    occurred: list[Occurrence] = []
    gone: list[Occurrence] = []
    hidden: list[Occurrence] = []
    for known in baseline.findings:
        item = Occurrence(known=known, cases=counted.get(known.signature, 0))
        place = occurred if item.cases else gone if _can_show(job, known) else hidden
        place.append(item)
    return BaselineCompared(
        source=source, cases=judged, occurred=tuple(occurred), gone=tuple(gone), hidden=tuple(hidden)
    )


def decided(told: BaselineCompared, job: Job, workers: int = 1) -> Iterator[Event]:
    """Judge the cases of the corpus that entries were recorded with which a run did not see.

    Args:
        told: what the run saw.
        job: the run's; what its workers say is kept below its report, in `baseline`.
        workers: how many processes.

    Yields:
        `CorpusAsked` where there are any, `WorkerDied` or `Problem` where one could not be judged, and `told` at the
        end, with what was decided.
    """
    open_ = {item.known.signature: cases.entries_showing(item.known.signature) for item in (*told.gone, *told.hidden)}
    entries = {entry.name: entry for found in open_.values() for entry in found}
    if entries:
        yield CorpusAsked(cases=len(entries))
    shown: dict[str, tuple[str, ...]] = {}
    for (placements, executions), group in _grouped(list(entries.values())).items():
        paths = {str(cases.path(entry.name)): entry.name for entry in group}
        part = Job(
            report=str(Path(job.report, "baseline")),
            placements=placements,
            executions=executions,
            paths=tuple(paths),
            write=False,
        )
        try:
            for event in supervise(share(part, workers), Path(part.report)):
                if isinstance(event, CaseJudged) and event.path is not None:
                    shown[paths[event.path]] = event.signatures
                elif isinstance(event, WorkerDied):
                    yield event
        except UsageError as error:
            # What the run itself has found is kept, whatever its baseline comes to.
            yield Problem(message=f"cases of the corpus could not be judged: {error}")
    occurred = list(told.occurred)
    gone: list[Occurrence] = []
    hidden: list[Occurrence] = []
    for item, place in (*((item, gone) for item in told.gone), *((item, hidden) for item in told.hidden)):
        names = [entry.name for entry in open_[item.known.signature] if entry.name in shown]
        still = [name for name in names if item.known.signature in shown[name]]
        if still:
            occurred.append(_by(item, still, "still shows it", "still show it"))
        elif names and len(names) == len(open_[item.known.signature]):
            gone.append(_by(item, names, "no longer shows it", "no longer show it"))
        else:
            place.append(item)
    yield msgspec.structs.replace(told, occurred=tuple(occurred), gone=tuple(gone), hidden=tuple(hidden))


def _by(item: Occurrence, names: Sequence[str], one: str, several: str) -> Occurrence:
    text = f"its case {names[0]} of the corpus {one}"
    if len(names) > 1:
        text = f"its cases {', '.join(names)} of the corpus {several}"
    return msgspec.structs.replace(item, decided=text)


def _grouped(
    entries: Sequence[cases.Entry],
) -> dict[tuple[tuple[str, ...], tuple[str, ...]], list[cases.Entry]]:
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[cases.Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.placements, entry.executions), []).append(entry)
    return groups


def _can_show(job: Job, known: Known) -> bool:
    needed = _NEEDED.get(known.signature.partition("/")[0])
    return needed is None or needed(job)


def _replicated(job: Job) -> bool:
    return any(parse_placement(placement).mirrored for placement in job.placements)


_NEEDED: dict[str, Callable[[Job], bool]] = {
    "trainer": lambda job: len(job.trainers) > 1,
    "distribution": _replicated,
    "both": lambda job: len(job.trainers) > 1 and _replicated(job),
    "execution": lambda job: len(job.executions) > 1,
}
"""By the axis, with which a signature begins: whether the arms of a job can show such a finding."""


def closing(
    baseline: Baseline, source: str, job: Job, *, strict: bool = False, partial: bool = False, workers: int = 1
) -> Closing:
    """What a run tells of its baseline before it ends; nothing where there is none.

    Args:
        baseline: the entries that concern the versions that are installed.
        source: what the baseline is called.
        job: the run's.
        strict: whether what the run did not see is decided by the corpus where it can be.
        partial: whether only what occurred is told: a few cases that somebody chose say nothing of all others.
        workers: how many processes judge cases of the corpus.
    """

    def told(counted: Mapping[str, int], judged: int, more: bool) -> Iterator[Event]:
        if not baseline.findings:
            return
        seen = compared(baseline, source, job, counted, judged)
        if partial or not more:
            yield msgspec.structs.replace(seen, gone=(), hidden=())
        elif strict:
            yield from decided(seen, job, workers)
        else:
            yield seen

    return told
