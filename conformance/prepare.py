"""An arm in two verbs: prepared once, run many times.

Tracing is nearly the whole cost of a tiny training (0.8 s against 0.01 s for six steps, measured), so a prepared arm
keeps its compiled functions and can be run again on other data and other weights of the same shapes. The spread of
runs from perturbed weights, the second run that every divergence owes, and the search over data all live on this.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from conformance import devices
from conformance.arm import Arm
from conformance.build import half_policies, perturbed, policy, weight_variables
from conformance.data import Array, Arrays
from conformance.errors import ABORTED, AbortedError, ConformanceError, UnsupportedError
from conformance.layer_error import describe
from conformance.model_state import carried_states, variables_of
from conformance.place import place_of
from conformance.raised import Raised
from conformance.recording import Recorder, slot_name
from conformance.referee.base_rules import distinct
from conformance.retracing import Retracing
from conformance.seeding import draws, seed_all, seed_python
from conformance.trace import Trace
from conformance.trainers import TRAINERS
from conformance.trainers.forms import STEP, loop_of
from conformance.training import Logbook, Setup, Training

# What passes a user's calls on and does nothing by itself: what fails there is the user's call.
_PASSES = frozenset(
    {"watched", "watched_apply", "watched_update_step", "watched_finalize", "watched_call", "watched_function", "call"}
)


@contextlib.contextmanager
def whole_tracebacks() -> Iterator[None]:
    """Keras and TensorFlow leave their frames in tracebacks, for it is there that an operation has its arguments."""
    import keras
    import tensorflow as tf

    config, debugging = keras.config, tf.debugging
    before = config.is_traceback_filtering_enabled(), debugging.is_traceback_filtering_enabled()
    config.disable_traceback_filtering()
    debugging.disable_traceback_filtering()
    try:
        yield
    finally:
        if before[0]:
            config.enable_traceback_filtering()
        if before[1]:
            debugging.enable_traceback_filtering()


class _Retracing(logging.Filter):
    """Keeps back TensorFlow's warnings of retracing: every arm is traced, on purpose, and the verdict counts."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in str(record.msg)


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """What libraries warn of is about the harness's many trainings, not about the user's one."""
    logger, retracing = logging.getLogger("tensorflow"), _Retracing()
    logger.addFilter(retracing)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeFilter(retracing)


class PreparedArm:
    """An arm with its model built, compiled and watched.

    Args:
        arm: the arm.
        training: what it trains.
        watched: whether it records; without, only logs and the final weights are in the trace.

    Attributes:
        seconds: the time it took to prepare.

    Raises:
        DeviceError: when its placement needs devices this process does not have.
        UnsupportedError: when this combination cannot be run.
    """

    def __init__(self, arm: Arm, training: Training) -> None:
        started = time.perf_counter()
        self.arm, self.training = arm, training
        self._own = place_of(training.trial) if arm.trainer == "trial" and training.trial is not None else None
        self._error: Raised | None = None
        self._graphs: list[Any] = []
        self._draws: bool | None = None
        self.strategy = devices.strategy(arm.placement)
        self.scope: Callable[[], Any] = (
            self.strategy.scope if self.strategy.num_replicas_in_sync > 1 else contextlib.nullcontext
        )
        with self._conditions():
            try:
                self._build()
            except Exception as error:  # noqa: BLE001 - whatever the user's parts raise is an observation
                # As text: the exception's frames would keep every arm's model alive.
                self._error = describe(_observed(error))
        self.seconds = time.perf_counter() - started

    def _layers(self) -> list[Any]:
        """The model and its layers, those within layers too."""
        return list(self.model._flatten_layers())

    @contextlib.contextmanager
    def _conditions(self) -> Any:
        deterministic = self.arm.execution != "xla"
        with (
            whole_tracebacks(),
            devices.determinism(deterministic),
            devices.unfolded(),
            policy(self.training.precision),
            without_warnings(),
        ):
            yield

    def _build(self) -> None:
        training = self.training
        if training.global_seed:
            seed_all(training.seed)
        with self.scope():
            model, optimizer = training.parts.model(), training.parts.optimizer()
            if training.parts.built_first:
                optimizer.build(model.trainable_variables)
            shadow = training.parts.optimizer()
            shadow.build(model.trainable_variables)
        # Looking at a model may run it, which moves them.
        carried = [np.array(state) for _, state in carried_states(model)]
        names = distinct(slot_name(v) for v in shadow.variables)
        opaque = training.parts.compile is not None
        kept = [] if opaque else list(zip(names, shadow.variables, strict=True))
        slots = [(name, tuple(v.shape), v.dtype) for name, v in kept]
        self._slot_values = [np.array(v) for _, v in kept]
        self.recorder = Recorder(
            strategy=self.strategy,
            # A training that runs several steps at a time may run past an epoch's end.
            steps=training.steps + training.epochs * (training.steps_per_execution - 1),
            model=model,
            optimizer=optimizer,
            slots=slots,
            sample=next(training.data.class_weighted(training.class_weight).batches(training.batch_size)),
            names=training.names,
            due=training.rows_a_step,
            opaque=opaque,
        )
        with self.scope():
            losses, metrics = training.parts.losses(), training.parts.metrics()
        setup = Setup(
            training,
            self.strategy,
            self.scope,
            self.arm.execution,
            model,
            optimizer,
            losses,
            metrics,
            self.recorder,
        )
        self.model, self.optimizer = model, optimizer
        # Every arm starts from the first one's values: a user's model is made anew for each, and draws anew.
        initial = [self.recorder.components(v)[0].numpy() for v in model.variables] + carried
        if "variables" not in training.start:
            training.half[:] = half_policies(model)
        self._initial = training.start.setdefault("variables", initial)
        # A layer before its own ones, and those before their variables: what is set of one holds for all below it.
        self._flags = [(item, item.trainable) for item in (*model._flatten_layers(), *variables_of(model))]
        self.recorder.watch_carried()
        self._train = TRAINERS[self.arm.trainer](setup)

    def run(
        self,
        data: Arrays | None = None,
        weights: list[Array] | None = None,
        moved: np.random.Generator | None = None,
    ) -> Trace:
        """Train once from the beginning.

        Args:
            data: rows of the shapes it was prepared for; the training's own by default.
            weights: initial weights; the model's own by default.
            moved: moves every float the training starts from, weights, statistics, slots, learning rate, by one ulp.

        Returns:
            The trace. What the training raises is in the trace; nothing is raised for it.

        Raises:
            UnsupportedError: when the run cannot be watched.
        """
        lent = (data or self.training.data).copy()
        before, logbook, started = lent.digest(), Logbook(), time.perf_counter()
        error, start = self._error, {}
        retracing = Retracing(self._own)
        with self._conditions():
            if error is None:
                self._reset(weights, moved)
                start = self.recorder.start(self._slot_values)
                self._seed()
                try:
                    with retracing:
                        self._train(lent, logbook)
                except Exception as raised:  # noqa: BLE001 - whatever a training raises is an observation
                    error = describe(_observed(raised), self._layers())
            if retracing.graphs and self._compiled:
                self._graphs += retracing.graphs
                self._draws = None
            trace = Trace(self.arm, self.strategy.num_replicas_in_sync)
            if self._error is None:
                trace = self.recorder.read(self.arm)
        logbook.into(trace)
        trace.start = start
        trace.error = error
        trace.functions = retracing.functions
        trace.data_intact = lent.digest() == before
        trace.seconds = time.perf_counter() - started
        return trace

    @property
    def _compiled(self) -> bool:
        """Whether Python runs nothing of the user's between steps, and nothing of a step but to trace it."""
        trial = self.training.trial if self.arm.trainer == "trial" else None
        return self.arm.execution == "graph" and (trial is None or loop_of(trial).form == STEP)

    def _seed(self) -> None:
        """Seed what a run may draw from; TensorFlow's generators only where something may."""
        if not self.training.global_seed:
            return
        if self._graphs and self._draws is None:
            self._draws = draws(self._graphs)
        (seed_python if self._draws is False else seed_all)(self.training.seed)

    def _reset(self, weights: list[Array] | None, moved: np.random.Generator | None) -> None:
        self.recorder.reset()
        for item, trainable in self._flags:
            # A loop or a callback may freeze a part halfway.
            if item.trainable != trainable:
                item.trainable = trainable
        start = list(zip(variables_of(self.model), self._initial, strict=True))
        start += list(zip(weight_variables(self.model), weights or [], strict=False))
        slots = list(zip(self.optimizer.variables, self._slot_values, strict=True)) if self.optimizer.built else []
        # Layers may compute in half precision; optimizers do not.
        for precision, held in ((self.training.rounding, start), ("float32", slots)):
            for variable, value in held:
                self._assign(variable, value if moved is None else perturbed(value, moved, precision))

    def _assign(self, variable: Any, value: Array) -> None:
        with self.recorder.of_no_step():
            for component in self.recorder.components(variable):
                component.assign(value)


_ABORTED = "Restart your program to reset"
"""What TensorFlow says once an exception on one replica has ended the collective operations of the whole process."""


def _observed(error: Exception) -> Exception:
    """The error, if the training raised it; what this package raises is raised again, never taken for a finding."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, ConformanceError):
        # Raised while a user's function was traced, it comes wrapped in the lines of that function.
        raise type(error)(str(error).rpartition(f"{type(error).__name__}: ")[2].strip()) from error
    if _ABORTED in str(error):
        # Of this training it says nothing: it is so of every one on replicas from then on.
        devices.note_aborted()
        raise AbortedError(ABORTED) from error
    # What the recorder does by itself, beside passing calls on to the training.
    taps = any(_module(f).startswith("conformance.recording.") and f.f_code.co_name not in _PASSES for f in frames)
    ours = bool(frames) and _module(frames[-1]).startswith("conformance.")
    if taps or (ours and frames[-1].f_code.co_name not in _PASSES):
        raise error
    return error


def _module(frame: types.FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def prepare(arm: Arm, training: Training) -> PreparedArm:
    """Prepare an arm; see `PreparedArm`."""
    return PreparedArm(arm, training)


RELEASES_A_COLLECTION = 8
"""A full collection takes 0.15 s, a tenth of a small case, and what eight cases leave behind is some tens of MB."""

_releases = itertools.count(1)


def release() -> None:
    """Let go of what Keras and TensorFlow keep of models that are no longer used."""
    import keras

    keras.backend.clear_session(free_memory=False)
    if next(_releases) % RELEASES_A_COLLECTION == 0:
        gc.collect()


__all__ = ["PreparedArm", "UnsupportedError", "prepare", "release"]
