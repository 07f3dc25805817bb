"""A run on the terminal: progress where somebody watches, plain lines elsewhere.

One handler an event. Everything goes to the one stream it is given, as text without markup, and no text of a case or an
exception reaches it with a control character in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TextIO

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from conformance.baseline import CORPUS
from conformance.events import (
    BaselineCompared,
    CaseCalibrated,
    CaseJudged,
    CorpusAsked,
    DivergenceSeen,
    Event,
    FindingMade,
    Problem,
    RunEnded,
    RunStarted,
    WorkerDied,
    WorkerReady,
    WorkerSpent,
)
from conformance.raised import Raised
from conformance.reports.referee import told_of_referee
from conformance.reports.text import plain
from conformance.reports.words import counted


class Terminal:
    """Shows a run on a stream.

    Args:
        stream: where everything is written.
        live: whether the stream is a terminal that a progress line may be redrawn on.
    """

    def __init__(self, stream: TextIO, *, live: bool) -> None:
        self._stream = stream
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._live = live
        self._judged = self._found = 0
        self._calibrates = False
        self._known: set[str] = set()
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            RunStarted: self._started,
            WorkerReady: self._ready,
            CaseJudged: self._case,
            CaseCalibrated: self._calibrated,
            DivergenceSeen: self._seen,
            FindingMade: self._finding,
            WorkerDied: self._died,
            WorkerSpent: self._spent,
            Problem: self._problem,
            CorpusAsked: self._asked,
            BaselineCompared: self._baseline,
            RunEnded: self._ended,
        }

    def __call__(self, event: Event) -> None:
        """Show one event; those of no interest here are passed over."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def close(self) -> None:
        """Give the terminal back; for runs that end without a `RunEnded`."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _line(self, text: str, style: str = "") -> None:
        text = text[: len(text) - len(text.lstrip())] + plain(text)
        if self._progress is not None:
            # Soft-wrapped, so that a path stays one word to whoever copies it.
            self._progress.console.print(Text(text, style=style), soft_wrap=True, highlight=False)
            return
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        self._stream.flush()

    def _started(self, event: RunStarted) -> None:
        limits = [counted(event.examples, "example") if event.examples is not None else ""]
        limits += [f"{event.seconds:g} s" if event.seconds is not None else ""]
        limit = " or ".join(text for text in limits if text)
        workers = counted(event.workers, "worker")
        self._calibrates = event.calibration
        self._line(f"arms: {', '.join(event.arms)}")
        self._line(", ".join(text for text in (f"seed {event.seed}", limit, workers) if text))
        if self._live and self._progress is None:
            console = Console(file=self._stream, force_terminal=True)
            columns = (
                TextColumn("{task.completed:.0f}" + (f"/{event.examples}" if event.examples else "") + " cases"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[found]} " + ("news" if event.calibration else "findings")),
                TimeElapsedColumn(),
            )
            # Nothing else is redirected: whoever prints past the events has to be seen doing it.
            self._progress = Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False)
            self._task = self._progress.add_task("", total=event.examples, found=0)
            self._progress.start()

    def _ready(self, event: WorkerReady) -> None:
        versions = f"TensorFlow {event.environment.tensorflow}, Keras {event.environment.keras}"
        text = f"{versions}, {event.environment.devices}"
        # Workers are alike; one that is not is worth a line.
        if text not in self._known:
            self._known.add(text)
            self._line(text)

    def _case(self, event: CaseJudged) -> None:
        self._judged += 1
        self._update()
        if event.path is not None:
            told = (event.verdict or {}).get("raised")
            raised = None if told is None else msgspec.convert(told, Raised)
            message = event.message if raised is None else raised.said
            said = f": {message}" if message else ""
            self._line(f"{event.outcome} {event.path} ({event.seconds:.1f} s){said}")
            for word, text in () if raised is None else raised.rows:
                self._line(f"  {word}: {text}")

    def _calibrated(self, event: CaseCalibrated) -> None:
        seen = event.calibration
        self._judged += 1
        self._found += len(seen.news)
        self._update()
        if self._progress is None:
            worst = f": worst seen / allowed {seen.worst.value:.2g} ({seen.worst.stage})" if seen.worst else ""
            self._line(f"{seen.outcome} {event.path} ({event.seconds:.1f} s){worst}")
        for item in (*seen.news, *seen.failures):
            self._line(f"{item.signature}: {item.message}; {event.path}", "red")

    def _update(self) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._judged, found=self._found)

    def _seen(self, event: DivergenceSeen) -> None:
        self._line(f"diverges: {event.message}; making it smaller", "yellow")

    def _finding(self, event: FindingMade) -> None:
        self._found += 1
        self._update()
        wrong = event.wrong_arm or "not decided"
        self._line(f"FINDING {event.message}", "bold red")
        for line in told_of_referee(event):
            self._line(f"  {line}")
        self._line(f"  cause: {event.cause}: {event.explanation}")
        self._line(f"  wrong arm: {wrong}")
        self._line(f"  advice: {event.advice}")
        self._line(f"  script: {event.repro} ({event.repro_status})")
        self._line(f"  folder: {event.folder}")

    def _died(self, event: WorkerDied) -> None:
        kept = f"; its case is kept at {event.path}" if event.path else ""
        self._line(f"worker {event.worker} was lost: {event.reason}{kept}", "red")

    def _spent(self, event: WorkerSpent) -> None:
        again = "; its case is judged again there" if event.case else ""
        self._line(f"worker {event.worker} goes on in a new process: {event.reason}{again}")

    def _problem(self, event: Problem) -> None:
        self._line(f"problem: {event.message}", "yellow")

    def _asked(self, event: CorpusAsked) -> None:
        cases = "case" if event.cases == 1 else "cases"
        self._line(f"judging {event.cases} {cases} of the {CORPUS}, for known findings that the run did not see")

    def _baseline(self, event: BaselineCompared) -> None:
        for item in event.occurred:
            how = item.decided or f"in {item.cases} case{'' if item.cases == 1 else 's'}"
            link = f" ({item.known.link})" if item.known.link else ""
            self._line(f"known, {how}: {item.known.signature}: {item.known.sentence}{link}")
        for item in event.told:
            self._line(f"no longer occurs: {item.known.signature}: {item.known.sentence} ({event.how(item)})", "green")
        left = len(event.gone) - len(event.told)
        if left:
            what = "known finding" + ("s" if left != 1 else "") + f" of the {CORPUS}"
            self._line(
                f"{left} {what} did not occur in {event.cases} case{'' if event.cases == 1 else 's'}, which is no"
                " proof; --strict-baseline judges the cases they were recorded with"
            )
        if event.hidden:
            self._line(f"{len(event.hidden)} known cannot be seen in these arms")

    def _ended(self, event: RunEnded) -> None:
        self.close()
        counts = ", ".join(f"{count} {name}" for name, count in event.outcomes.items()) or "no case judged"
        findings = "" if self._calibrates else f"; {event.findings} finding" + ("s" if event.findings != 1 else "")
        self._line(f"{'interrupted' if event.interrupted else 'done'} in {event.seconds:.1f} s: {counts}{findings}")
        if event.report:
            self._line(f"report: {event.report}")
