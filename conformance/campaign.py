"""A run: workers' events, counted, kept on disk as they come, and closed with a summary.

Everything is written when it happens, to `events.jsonl` in the report's directory, so a run that is killed has lost
nothing but what was not yet found.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from conformance.errors import UsageError
from conformance.events import CaseJudged, Event, FindingMade, RunEnded, RunStarted, to_line
from conformance.job import Job
from conformance.reports.markdown import summary
from conformance.supervisor import supervise


def share(job: Job, workers: int) -> list[Job]:
    """A job divided among workers: examples and files are shared out, each worker draws with a seed of its own."""
    import msgspec

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


def run(job: Job, workers: int) -> Iterator[Event]:
    """Run a job on several workers.

    Args:
        job: the whole job.
        workers: how many processes.

    Yields:
        `RunStarted`, the workers' events, and `RunEnded` at the very end, also when interrupted by Ctrl-C.

    Raises:
        UsageError: when a worker refuses the job.
    """
    report = Path(job.report)
    made = not report.exists()
    report.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    outcomes: Counter[str] = Counter()
    signatures: Counter[str] = Counter()
    kept: list[Event] = []
    interrupted = False
    with (report / "events.jsonl").open("ab", buffering=0) as record:

        def note(event: Event) -> Event:
            record.write(to_line(event))
            kept.append(event)
            return event

        yield note(
            RunStarted(
                arms=tuple(_arms(job)),
                seed=job.seed,
                workers=workers,
                report=str(report),
                examples=job.examples if not job.paths else len(job.paths),
                seconds=job.seconds,
            )
        )
        try:
            for event in supervise(share(job, workers), report):
                if isinstance(event, CaseJudged):
                    outcomes[event.outcome] += 1
                    signatures.update(event.signatures)
                yield note(event)
        except KeyboardInterrupt:
            interrupted = True
        except UsageError:
            # Nothing was run: no half of a report is left.
            if made:
                shutil.rmtree(report, ignore_errors=True)
            raise
        findings = len({event.signature for event in kept if isinstance(event, FindingMade)})
        ended = RunEnded(
            outcomes=dict(outcomes),
            signatures=dict(signatures),
            findings=findings,
            seconds=time.monotonic() - started,
            report=str(report),
            interrupted=interrupted,
        )
        note(ended)
    _write(report / "report.md", summary(kept))
    yield ended


def _arms(job: Job) -> Sequence[str]:
    return [f"{t}/{p}/{e}" for e in job.executions for p in job.placements for t in job.trainers]


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
