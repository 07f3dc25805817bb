"""A worker: a process with TensorFlow in it that does one job and tells it in events.

Run as `python -m conformance.worker` with a `Job` as JSON on standard input; events go to standard output, a line
each, and nothing else does: whatever TensorFlow or a user's code prints is sent to standard error.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from conformance import devices
from conformance.arm import parse_placement
from conformance.case import Case, from_json, load_case, to_json
from conformance.errors import ABORTED, UsageError
from conformance.events import (
    CaseCalibrated,
    CaseStarted,
    Event,
    Refused,
    TrialLoaded,
    WorkerReady,
    WorkerSpent,
    to_line,
)
from conformance.imports import find_here, import_modules
from conformance.job import Job
from conformance.place import place_of
from conformance.verdict import Verdict


def main() -> int:
    """Do the job on standard input; the process's exit code: 0 done, 2 refused."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    events = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def emit(event: Event) -> None:
        events.write(to_line(msgspec.structs.replace(event, worker=job.worker)))

    try:
        work(job, emit)
    except UsageError as error:
        emit(Refused(message=str(error)))
        return 2
    return 0


def work(job: Job, emit: Callable[[Event], None]) -> None:
    """Do a job.

    Raises:
        UsageError: when the job cannot be done as asked.
    """
    from conformance.environment import environment
    from conformance.plan import Plan

    plan = Plan(job.trainers, tuple(map(parse_placement, job.placements)), job.executions)
    devices.set_up(plan.replicas, one_thread=True)
    import_modules(job.imports)
    trial = None if job.loop is None else load_loop(job.loop)
    emit(WorkerReady(environment=environment()))
    place = None if trial is None else place_of(trial)
    if place is not None:
        emit(TrialLoaded(name=place.name, file=place.file, line=place.line, last_line=place.last_line))
    if job.calibrate:
        _calibrate(job, plan, emit)
    elif job.paths:
        judge(job, plan, trial, emit)
    else:
        _search(job, plan, emit)


def _search(job: Job, plan: Any, emit: Callable[[Event], None]) -> None:
    from conformance import findings
    from conformance.search import Search

    report = Path(job.report)

    def found(verdict: Verdict, original: Case, attempts: int, seconds: float) -> None:
        emit(findings.write(report, verdict, original, attempts, seconds))

    left = Search(
        plan,
        worker=job.worker,
        examples=job.examples,
        seconds=job.seconds,
        seed=job.seed,
        shrink_seconds=job.shrink_seconds,
        known=frozenset(job.known),
        claim=lambda signature: findings.claim(report, signature),
        emit=emit,
        found=found,
        first=None if job.first is None else from_json(job.first),
    ).run()
    if left is not None:
        emit(WorkerSpent(reason=ABORTED, case=to_json(left)))


def judge(job: Job, plan: Any, trial: Callable[..., Any] | None, emit: Callable[[Event], None]) -> None:
    """Judge the cases of a job, and make findings of what is news where that is asked for.

    Args:
        job: the job.
        plan: its arms.
        trial: the user's loop, if any.
        emit: takes the events.
    """
    from conformance import findings
    from conformance.judge import judge_case
    from conformance.search import judged

    known = frozenset(job.known)
    for index, path in enumerate(job.paths):
        case = load_case(path)
        if devices.aborted():
            emit(WorkerSpent(reason=ABORTED))
            return
        emit(CaseStarted(index=index, case=to_json(case)))
        started = time.monotonic()
        verdict = judge_case(case, plan, trial)
        if _again(index):
            emit(WorkerSpent(reason=ABORTED, case=to_json(case)))
            return
        news = [item for item in verdict.observations if item.signature not in known]
        if job.write and trial is None and news:
            # What is known may be graver, and is no reason to keep silent about the rest.
            others = tuple(item for item in verdict.observations if item is not news[0])
            first = msgspec.structs.replace(verdict, observations=(news[0], *others))
            made = findings.write(Path(job.report), first, case, 0, 0.0)
            emit(made)
            verdict = msgspec.structs.replace(verdict, repro=made.repro)
        emit(judged(index, verdict, time.monotonic() - started, known, path))


def _calibrate(job: Job, plan: Any, emit: Callable[[Event], None]) -> None:
    from conformance.calibrator import calibrate

    known = frozenset(job.known)
    for index, path in enumerate(job.paths):
        case = load_case(path)
        if devices.aborted():
            emit(WorkerSpent(reason=ABORTED))
            return
        emit(CaseStarted(index=index, case=to_json(case)))
        started = time.monotonic()
        seen = calibrate(case, plan, known, path)
        if _again(index):
            emit(WorkerSpent(reason=ABORTED, case=to_json(case)))
            return
        emit(CaseCalibrated(index=index, seconds=time.monotonic() - started, path=path, calibration=seen))


def _again(index: int) -> bool:
    """Whether a case has to be judged again in a new process; of the first one of this one that would say the same."""
    return index > 0 and devices.aborted()


def _said(error: BaseException) -> str:
    return f"it ends the program, {error!r}" if isinstance(error, SystemExit) else " ".join(str(error).split())


def loop_name(text: str) -> tuple[str, str]:
    """The module and the function of `package.module:function`.

    Raises:
        UsageError: when it is not written so.
    """
    module, _, name = text.partition(":")
    if module.endswith(".py") or "/" in module:
        dotted = module.removesuffix(".py").strip("./").replace("/", ".")
        raise UsageError(f"--loop {text!r} names a file; write its module, as in {dotted}:{name or 'function'}")
    if not module or not name:
        raise UsageError(f"--loop {text!r} is not package.module:function")
    return module, name


def load_loop(text: str) -> Callable[..., Any]:
    """The user's loop named by `package.module:function`, found from the current directory too.

    Raises:
        UsageError: when there is no such module or function, or it has not a loop's parameters.
    """
    from conformance.trainers.forms import loop_of

    module, name = loop_name(text)
    find_here()
    try:
        function = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # The user's module may raise anything.
        raise UsageError(f"--loop {text!r} cannot be imported: {_said(error)}") from error
    return loop_of(function).function


if __name__ == "__main__":
    sys.exit(main())
