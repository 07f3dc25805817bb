"""Workers kept at work: started, listened to, and replaced when they die.

A segmentation fault, an out-of-memory kill or a hang in TensorFlow takes a worker with it. The worker has said before
which case it was about to run, so that case is named and kept, and another worker goes on with the rest.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from conformance.errors import UsageError
from conformance.events import (
    AnyEvent,
    CaseCalibrated,
    CaseJudged,
    CaseStarted,
    Event,
    Problem,
    Refused,
    WorkerDied,
    WorkerSpent,
    from_line,
)
from conformance.job import Job

HANG_SECONDS = 300.0
"""A worker that says nothing for so long is taken for hung; the slowest honest case seen took 40 s."""

STARTS = 3
"""How often a job is started again after its worker died, before it is given up."""

WORKER = (sys.executable, "-m", "conformance.worker")
"""The command of a worker: it takes a `Job` on standard input and tells events on standard output."""


@dataclass
class _Worker:
    job: Job
    process: subprocess.Popen[bytes]
    heard: float = field(default_factory=time.monotonic)
    started: float = field(default_factory=time.monotonic)
    running: CaseStarted | None = None
    judged: int = 0
    starts: int = 1
    spent: WorkerSpent | None = None


def supervise(jobs: Sequence[Job], report: Path, command: Sequence[str] = WORKER) -> Iterator[Event]:
    """Run jobs side by side, one process each, and yield their events as they come.

    Args:
        jobs: the jobs.
        report: where the case of a worker that died is kept, under `crashes`.
        command: starts a worker.

    Raises:
        UsageError: when a worker refuses its job.
    """
    events: queue.Queue[tuple[int, AnyEvent | None]] = queue.Queue()
    workers = {job.worker: _Worker(job, _start(job, events, command)) for job in jobs}
    try:
        while workers:
            if events.empty():
                # All that was said is heard. Not only after a second of silence: others that talk would cover it up.
                _end_hung(workers)
            try:
                number, event = events.get(timeout=1.0)
            except queue.Empty:
                continue
            worker = workers.get(number)
            if worker is None:
                continue
            if event is not None:
                worker.heard = time.monotonic()
            if isinstance(event, Refused):
                raise UsageError(event.message)
            if isinstance(event, CaseStarted):
                worker.running = event
            elif isinstance(event, WorkerSpent):
                worker.running, worker.spent = None, event
            elif isinstance(event, CaseJudged | CaseCalibrated):
                worker.running, worker.judged = None, worker.judged + 1
            if event is not None:
                yield event
                continue
            del workers[number]
            code = worker.process.wait()
            # What a user's code ends with exit code 0 is lost like any other.
            lost = code != 0 or _unfinished(worker)
            if lost:
                yield _died(worker, code, report)
            if lost or worker.spent is not None:
                # Who leaves because it is spent has died of nothing.
                starts = worker.starts + lost
                again = _again(worker)
                if again is not None and starts <= STARTS:
                    workers[number] = _Worker(again, _start(again, events, command), starts=starts)
                elif again is not None:
                    yield Problem(worker=number, message=_given_up(again))
    finally:
        for worker in workers.values():
            worker.process.kill()
            worker.process.wait()


def _start(
    job: Job, events: queue.Queue[tuple[int, AnyEvent | None]], command: Sequence[str]
) -> subprocess.Popen[bytes]:
    report = Path(job.report)
    defaults = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # Hypothesis keeps what it learns of Python and of the code beside what it is started from.
        "HYPOTHESIS_STORAGE_DIRECTORY": str((report / ".hypothesis").absolute()),
    }
    environment = {**defaults, **os.environ}
    report.mkdir(parents=True, exist_ok=True)
    with (report / f"worker-{job.worker}.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter, or what a test gives for it
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            # Ctrl-C is the supervisor's to handle: it keeps what was found and ends the workers itself.
            start_new_session=True,
        )
    assert process.stdin
    assert process.stdout
    process.stdin.write(msgspec.json.encode(job))
    process.stdin.close()
    threading.Thread(target=_listen, args=(job.worker, process, events), daemon=True).start()
    return process


def _listen(number: int, process: subprocess.Popen[bytes], events: queue.Queue[tuple[int, AnyEvent | None]]) -> None:
    assert process.stdout
    with process.stdout:
        for line in process.stdout:
            try:
                events.put((number, from_line(line)))
            except msgspec.DecodeError:
                # A line cut short by the death of its writer; the death itself is reported.
                continue
    events.put((number, None))


def _end_hung(workers: dict[int, _Worker]) -> None:
    for worker in workers.values():
        if time.monotonic() - worker.heard > HANG_SECONDS:
            worker.process.kill()


def _died(worker: _Worker, code: int, report: Path) -> WorkerDied:
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        silent = time.monotonic() - worker.heard
        reason = f"killed by {name}" + (f" after {silent:.0f} s of silence" if silent > HANG_SECONDS else "")
    else:
        reason = f"exit code {code}; see {report / f'worker-{worker.job.worker}.log'}"
    if worker.running is None:
        return WorkerDied(worker=worker.job.worker, reason=reason)
    crashes = report / "crashes"
    crashes.mkdir(parents=True, exist_ok=True)
    path = crashes / f"worker-{worker.job.worker}-case-{worker.running.index}-start-{worker.starts}.json"
    path.write_text(worker.running.case, encoding="utf-8")
    return WorkerDied(worker=worker.job.worker, reason=reason, case=worker.running.case, path=str(path))


def _unfinished(worker: _Worker) -> bool:
    """Whether a worker that ended by itself left something undone: a case it had begun, or files."""
    return worker.spent is None and (worker.running is not None or worker.judged < len(worker.job.paths))


def _given_up(left: Job) -> str:
    cases = len(left.paths) or left.examples
    rest = "the rest of its time was not used" if cases is None else f"{cases} of its cases were not judged"
    return f"worker {left.worker} was lost {STARTS} times and is given up; {rest}"


def _again(worker: _Worker) -> Job | None:
    """What is left of a job whose worker has gone: the case it died of is not tried again, the one it left is."""
    done = worker.judged + (worker.running is not None)
    first = None if worker.spent is None else worker.spent.case
    job = msgspec.structs.replace(worker.job, first=first)
    if job.paths:
        rest = job.paths[done:]
        return msgspec.structs.replace(job, paths=rest) if rest else None
    examples = None if job.examples is None else job.examples - done
    seconds = None if job.seconds is None else job.seconds - (time.monotonic() - worker.started)
    if (examples is not None and examples <= 0) or (seconds is not None and seconds <= 0):
        return None
    # Another seed: the same one would draw the case that killed the worker again.
    return msgspec.structs.replace(job, seed=job.seed + 1_000_003, examples=examples, seconds=seconds)
