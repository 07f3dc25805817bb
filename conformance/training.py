"""What an arm is given: the parts of a training, its data and its schedule, and nothing of how to run it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conformance import build
from conformance.case import Case
from conformance.data import Array, Arrays, arrays
from conformance.recording import Recorder
from conformance.trace import Trace
from conformance.validation import Validation


@dataclass(frozen=True)
class Training:
    """A training to be run in several arms.

    Attributes:
        parts: makes model, optimizer, losses and metrics anew for every arm.
        data: the rows of one epoch.
        batch_size: the global batch size.
        epochs: how many epochs.
        steps_per_execution: steps `fit` runs in one call of its train function.
        feed: how `fit` is fed, a name of `conformance.case.FEEDS`.
        seed: the global seed.
        global_seed: whether to set it before an arm is prepared and before every run, for parts that may draw from the
            global generators. It makes TensorFlow forget its kernels (150 ms in the next step, measured), and a case
            seeds its layers.
        trial: the user's loop, or None.
        precision: the dtype policy its models are made under.
        class_weight: the weight of each class, or None; only without sample weights, and with one output.
        validation: what is evaluated after every epoch, or None.
        reading: the median of the seconds that the user's data took to give a batch; None for arrays.
        callbacks: makes the callbacks of a run, or None.
        names: the variables' names, by the first arm that was prepared; Keras numbers unnamed layers through, so each
            arm's model would have names of its own, and variables are told apart by their place.
        start: the variables' initial values, by the first arm that was prepared.
        half: the policies in half precision that its layers were made with, by the same.
    """

    parts: build.Parts
    data: Arrays
    batch_size: int
    epochs: int = 1
    steps_per_execution: int = 1
    feed: str = "arrays"
    seed: int = 0
    global_seed: bool = True
    trial: Callable[..., Any] | None = None
    precision: str = "float32"
    class_weight: Mapping[int, float] | None = None
    validation: Validation | None = None
    reading: float | None = None
    callbacks: Callable[[], list[Any]] | None = None
    names: dict[str, list[str]] = field(default_factory=dict, compare=False)
    start: dict[str, list[Array]] = field(default_factory=dict, compare=False)
    half: list[str] = field(default_factory=list, compare=False)

    @property
    def rounding(self) -> str:
        """The policy by whose precision layers round: the half one that a layer was made with, else what was set."""
        return next(iter(self.half), self.precision)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, a partial last one included."""
        return math.ceil(self.data.rows / self.batch_size)

    @property
    def rows_a_step(self) -> list[int]:
        """The rows of every step's global batch."""
        rows, size = self.data.rows, self.batch_size
        return [min(size, rows - start) for start in range(0, rows, size)] * self.epochs

    @property
    def steps(self) -> int:
        """Steps in all epochs together."""
        return self.steps_per_epoch * self.epochs


def training(case: Case, trial: Callable[..., Any] | None = None) -> Training:
    """The training a case describes."""
    return Training(
        build.parts(case),
        arrays(case),
        case.data.batch_size,
        case.schedule.epochs,
        case.schedule.steps_per_execution,
        case.data.feed,
        case.seed,
        trial is not None,
        trial,
        case.precision,
    )


@dataclass
class Logbook:
    """What a trainer reports, by step and by epoch, in the trace's own form; and how long each step took."""

    durations: list[float] = field(default_factory=list)
    trace_logs: dict[tuple[int, str], float] = field(default_factory=dict)
    epoch_logs: dict[tuple[int, str], float] = field(default_factory=dict)

    def step(self, step: int, logs: dict[str, Any]) -> None:
        """Note what was reported after a step."""
        self.trace_logs.update({(step, name): value for name, value in numbered(logs).items()})

    def epoch(self, epoch: int, logs: dict[str, Any]) -> None:
        """Note what was reported after an epoch."""
        self.epoch_logs.update({(epoch, name): value for name, value in numbered(logs).items()})

    @contextlib.contextmanager
    def timed(self, steps: int = 1) -> Iterator[None]:
        """Note how long so many steps take, which is what is done meanwhile."""
        started = time.perf_counter()
        yield
        self.took(time.perf_counter() - started, steps)

    def took(self, seconds: float, steps: int = 1) -> None:
        """Note how long so many steps took together."""
        self.durations += [seconds / steps] * steps

    def into(self, trace: Trace) -> None:
        """Hand the notes over to a trace."""
        trace.logs, trace.epoch_logs = self.trace_logs, self.epoch_logs
        trace.durations = self.durations


def numbered(logs: Mapping[str, Any]) -> dict[str, float]:
    """What is reported as one number a name: a metric of several, as of one a class, has its place behind the name.

    Examples:
        >>> numbered({"loss": 0.5, "f1_score": [0.25, 1.0]})
        {'loss': 0.5, 'f1_score[0]': 0.25, 'f1_score[1]': 1.0}
    """
    found: dict[str, float] = {}
    for name, value in logs.items():
        numbers = np.asarray(value, np.float64)
        several = numbers.size != 1
        found |= {f"{name}[{i}]" if several else name: float(number) for i, number in enumerate(numbers.ravel())}
    return found


@dataclass(frozen=True)
class Setup:
    """An arm's objects, made under its strategy, as a trainer receives them.

    Attributes:
        training: what is to be run.
        strategy: the `tf.distribute` strategy.
        scope: enters the strategy's scope; enters nothing on one device.
        execution: `graph`, `eager` or `xla`.
        model: the built, uncompiled model.
        optimizer: the optimizer.
        losses: one loss an output.
        metrics: the metrics of each output.
        recorder: watches them; the trainer says which taps its way of training needs.
    """

    training: Training
    strategy: Any
    scope: Callable[[], Any]
    execution: str
    model: Any
    optimizer: Any
    losses: list[Any]
    metrics: list[list[Any]]
    recorder: Recorder


Run = Callable[[Arrays, Logbook], None]
"""Trains once on the given rows, from whatever state the model is in, and notes what is reported."""
