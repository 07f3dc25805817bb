"""A run, told by a stream of events: the engine yields them, and every output is one consumer.

Events are plain data and cross process borders as JSON lines, so that a worker that dies has already said what it was
doing, and a report can be written from the stream alone.
"""

from __future__ import annotations

from typing import Any

import msgspec

from conformance.baseline import CORPUS, Known
from conformance.calibration import Calibration
from conformance.finding import Environment
from conformance.verdict import json_safe


class Event(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The base of all events; `worker` says which process it comes from (0 is the first)."""

    worker: int = 0


class RunStarted(Event, frozen=True, kw_only=True):
    """A run begins. `examples` is None where the time alone limits it; `seconds` None where the examples do.

    `calibration` says that cases are calibrated with, and not judged.
    """

    arms: tuple[str, ...]
    seed: int
    workers: int
    report: str
    examples: int | None = None
    seconds: float | None = None
    calibration: bool = False


class WorkerReady(Event, frozen=True, kw_only=True):
    """A worker has TensorFlow loaded and its devices set up."""

    environment: Environment


class CaseStarted(Event, frozen=True, kw_only=True):
    """A case is about to run; `case` is its JSON, so that a crash can name it."""

    index: int
    case: str


class CaseJudged(Event, frozen=True, kw_only=True):
    """A case was judged. `path` is its file where it came from one; `verdict` is the JSON object of the contract."""

    index: int
    seconds: float
    outcome: str
    signatures: tuple[str, ...] = ()
    message: str | None = None
    path: str | None = None
    verdict: dict[str, Any] | None = None


class CaseCalibrated(Event, frozen=True, kw_only=True):
    """A case was calibrated with. `path` is its file; `calibration` is what was seen in it alone."""

    index: int
    seconds: float
    path: str
    calibration: Calibration


class DivergenceSeen(Event, frozen=True, kw_only=True):
    """A divergence with a new signature was found, confirmed by a second run, and is about to be minimized."""

    signature: str
    message: str


class FindingMade(Event, frozen=True, kw_only=True):
    """A finding is minimized, its script written and run. `folder` holds it."""

    signature: str
    message: str
    cause: str
    explanation: str
    advice: str
    wrong_arm: str | None
    folder: str
    repro: str
    repro_status: str
    layers: int
    attempts: int
    seconds: float


class WorkerDied(Event, frozen=True, kw_only=True):
    """A worker was lost; `case` is the JSON of the case it was running, kept at `path`."""

    reason: str
    case: str | None = None
    path: str | None = None


class WorkerSpent(Event, frozen=True, kw_only=True):
    """A worker can train nothing more on replicas, and ends; a new one goes on in its place.

    `case` is the JSON of a case that it had begun, which is judged from the beginning by the new one.
    """

    reason: str
    case: str | None = None


class Refused(Event, frozen=True, kw_only=True):
    """A worker cannot do what was asked; the message says what to change."""

    message: str


class Problem(Event, frozen=True, kw_only=True):
    """Something the reader must know that is neither a case nor a finding: what was left out, and why."""

    message: str


class TrialLoaded(Event, frozen=True, kw_only=True):
    """The user's loop was found: what it is called, and where it is written, the first line and the last."""

    name: str
    file: str
    line: int
    last_line: int


class CorpusAsked(Event, frozen=True, kw_only=True):
    """Cases of the corpus are about to be judged, for what the run did not see of its baseline."""

    cases: int


class Occurrence(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a known finding in a run.

    Attributes:
        known: the entry of the baseline.
        cases: how many cases of the run showed it.
        decided: how it was decided where the run's own cases were no proof: what its case of the corpus showed.
    """

    known: Known
    cases: int = 0
    decided: str = ""


class BaselineCompared(Event, frozen=True, kw_only=True):
    """What a run saw of its baseline, of the entries that concern the versions that are installed.

    Attributes:
        source: the baseline: a file, or `corpus`.
        cases: how many cases were judged.
        occurred: the entries that occurred.
        gone: those that did not; in few cases that is no proof, and `Occurrence.decided` says where there is one.
        hidden: those that the arms of the run cannot show.
    """

    source: str
    cases: int
    occurred: tuple[Occurrence, ...] = ()
    gone: tuple[Occurrence, ...] = ()
    hidden: tuple[Occurrence, ...] = ()

    @property
    def told(self) -> tuple[Occurrence, ...]:
        """Those of `gone` that are worth a line each; most runs miss most of the corpus by chance."""
        return tuple(item for item in self.gone if item.decided or self.source != CORPUS)

    def how(self, item: Occurrence) -> str:
        """How it is known that an entry of `gone` no longer occurs."""
        return item.decided or f"not seen in {self.cases} case{'' if self.cases == 1 else 's'}, which is no proof"


class RunEnded(Event, frozen=True, kw_only=True):
    """A run is over. `outcomes` counts cases by verdict, `signatures` cases by signature."""

    outcomes: dict[str, int]
    signatures: dict[str, int]
    findings: int
    seconds: float
    report: str
    interrupted: bool = False


AnyEvent = (
    RunStarted
    | WorkerReady
    | CaseStarted
    | CaseJudged
    | CaseCalibrated
    | DivergenceSeen
    | FindingMade
    | WorkerDied
    | WorkerSpent
    | Refused
    | Problem
    | TrialLoaded
    | CorpusAsked
    | BaselineCompared
    | RunEnded
)

_decoder = msgspec.json.Decoder(AnyEvent)


def to_line(event: Event) -> bytes:
    """An event as one line of JSON."""
    return msgspec.json.encode(json_safe(msgspec.to_builtins(event))) + b"\n"


def from_line(line: bytes) -> AnyEvent:
    """The event of one line.

    Raises:
        msgspec.DecodeError: when the line is no event.
    """
    event: AnyEvent = _decoder.decode(line)
    return event
