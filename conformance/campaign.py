"""A run: workers' events, counted, kept on disk as they come, and closed with a summary.

Everything is written when it happens, to `events.jsonl` in the report's directory, so a run that is killed has lost
nothing but what was not yet found.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from conformance.arm import parse_placement
from conformance.case import save_case
from conformance.errors import UsageError
from conformance.events import (
    CaseCalibrated,
    CaseJudged,
    Event,
    FindingMade,
    Problem,
    RunEnded,
    RunStarted,
    to_line,
)
from conformance.job import Job
from conformance.occupied import leave, occupy
from conformance.reports.render import EVENTS, read_events, write_run
from conformance.supervisor import supervise


def share(job: Job, workers: int) -> list[Job]:
    """A job divided among workers: examples and files are shared out, each worker draws with a seed of its own."""
    jobs = []
    for number in range(workers):
        examples = None if job.examples is None else len(range(number, job.examples, workers))
        paths = job.paths[number::workers]
        if examples == 0 or (job.paths and not paths):
            continue
        jobs.append(
            msgspec.structs.replace(job, worker=number, examples=examples, paths=paths, seed=job.seed * 1_000 + number)
        )
    return jobs


Closing = Callable[[Mapping[str, int], int, bool], Iterator[Event]]
"""What is to be told last: given the cases by signature, how many were judged and whether there is time for more."""


def run(job: Job, workers: int, closing: Closing | None = None) -> Iterator[Event]:
    """Run a job on several workers.

    Args:
        job: the whole job. Cases to calibrate with are drawn first, and each is kept as a file below `cases`, so which
            ones they are does not depend on the number of workers.
        workers: how many processes.
        closing: gives the last events before `RunEnded`.

    Yields:
        `RunStarted`, the workers' events, those of `closing`, and `RunEnded` at the very end, also when interrupted by
        Ctrl-C.

    Raises:
        UsageError: when a worker refuses the job.
    """
    report = Path(job.report)
    made = not report.exists()
    try:
        report.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the report directory {report}: {error.strerror or error}") from None
    occupy(report)
    started = time.monotonic()
    asked = job.examples
    if job.calibrate and not job.paths:
        job = _drawn(job, report)
    outcomes: Counter[str] = Counter()
    signatures: Counter[str] = Counter()
    found: set[str] = set()
    interrupted = False
    with (report / EVENTS).open("ab", buffering=0) as record:

        def note(event: Event) -> Event:
            record.write(to_line(event))
            return event

        yield note(
            RunStarted(
                arms=tuple(_arms(job)),
                seed=job.seed,
                workers=workers,
                report=str(report),
                examples=job.examples if not job.paths else len(job.paths),
                seconds=job.seconds,
                calibration=job.calibrate,
            )
        )
        if job.calibrate and asked is not None and len(job.paths) < asked:
            yield note(Problem(message=f"{asked} cases were asked for, and only {len(job.paths)} different ones drawn"))
        try:
            for event in supervise(share(job, workers), report):
                if isinstance(event, CaseJudged):
                    outcomes[event.outcome] += 1
                    signatures.update(event.signatures)
                elif isinstance(event, CaseCalibrated):
                    outcomes[event.calibration.outcome] += 1
                    signatures.update(event.calibration.signatures)
                elif isinstance(event, FindingMade):
                    found.add(event.signature)
                yield note(event)
            if closing is not None:
                for event in closing(signatures, outcomes.total(), True):
                    yield note(event)
        except KeyboardInterrupt:
            interrupted = True
            if closing is not None:
                for event in closing(signatures, outcomes.total(), False):
                    yield note(event)
        except UsageError:
            # Nothing was run: no half of a report is left.
            if made:
                shutil.rmtree(report, ignore_errors=True)
            raise
        ended = RunEnded(
            outcomes=dict(outcomes),
            signatures=dict(signatures),
            findings=len(found),
            seconds=time.monotonic() - started,
            report=str(report),
            interrupted=interrupted,
        )
        note(ended)
    # From the disk: a long run with all that was compared is more than memory should hold.
    write_run(report, read_events(report / EVENTS))
    leave(report)
    yield ended


def _drawn(job: Job, report: Path) -> Job:
    from conformance.search import draw

    assert job.examples is not None
    replicas = max(parse_placement(placement).replicas for placement in job.placements)
    folder = report / "cases"
    folder.mkdir(exist_ok=True)
    paths = []
    for number, case in enumerate(draw(job.examples, job.seed, replicas)):
        path = folder / f"{number:0{len(str(job.examples))}}.case.json"
        save_case(case, path)
        paths.append(str(path))
    return msgspec.structs.replace(job, paths=tuple(paths), examples=None)


def _arms(job: Job) -> Sequence[str]:
    return [f"{t}/{p}/{e}" for e in job.executions for p in job.placements for t in job.trainers]
