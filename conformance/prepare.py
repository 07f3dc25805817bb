"""An arm in two verbs: prepared once, run many times.

Tracing is nearly the whole cost of a tiny training (0.8 s against 0.01 s for six steps, measured), so a prepared arm
keeps its compiled functions and can be run again on other data and other weights of the same shapes. The spread of
runs from perturbed weights, the second run that every divergence owes, and the search over data all live on this.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from conformance import devices
from conformance.arm import Arm
from conformance.build import perturbed, policy, weight_variables
from conformance.data import Array, Arrays
from conformance.errors import ConformanceError, UnsupportedError
from conformance.raised import describe
from conformance.recording import Recorder, slot_name
from conformance.referee.base_rules import distinct
from conformance.trace import Trace
from conformance.trainers import TRAINERS
from conformance.training import Logbook, Setup, Training

# What the recorder does by itself, beside passing calls on to the training.
_TAPS = frozenset(
    {"_write", "_write_rows", "_mark", "_end_step", "_allocate", "_local_gradients", "_gradient", "read"}
    | {"_part", "_as_logged", "_first_of", "_before_call", "_after_call", "recorded_outputs", "loss_call", "begin"}
)

# What passes a user's calls on and does nothing by itself: what fails there is the user's call.
_PASSES = frozenset({"watched", "watched_apply", "watched_update_step", "watched_call", "watched_function", "call"})


class PreparedArm:
    """An arm with its model built, compiled and watched.

    Args:
        arm: the arm.
        training: what it trains.
        watched: whether it records; without, only logs and the final weights are in the trace.

    Raises:
        DeviceError: when its placement needs devices this process does not have.
        UnsupportedError: when this combination cannot be run.
    """

    def __init__(self, arm: Arm, training: Training) -> None:
        self.arm, self.training = arm, training
        self._error: Exception | None = None
        self.strategy = devices.strategy(arm.placement)
        self.scope: Callable[[], Any] = (
            self.strategy.scope if self.strategy.num_replicas_in_sync > 1 else contextlib.nullcontext
        )
        with self._conditions():
            try:
                self._build()
            except Exception as error:  # noqa: BLE001 - whatever the user's parts raise is an observation
                self._error = _observed(error)

    @contextlib.contextmanager
    def _conditions(self) -> Any:
        import keras

        filtering = keras.config.is_traceback_filtering_enabled()
        keras.config.disable_traceback_filtering()
        try:
            deterministic = self.arm.execution != "xla"
            with (
                devices.determinism(deterministic),
                devices.unfolded(),
                policy(self.training.precision),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")
                yield
        finally:
            if filtering:
                keras.config.enable_traceback_filtering()

    def _build(self) -> None:
        import keras

        training = self.training
        if training.global_seed:
            keras.utils.set_random_seed(training.seed)
        with self.scope():
            model, optimizer = training.parts.model(), training.parts.optimizer()
            if training.parts.built_first:
                optimizer.build(model.trainable_variables)
            shadow = training.parts.optimizer()
            shadow.build(model.trainable_variables)
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
        initial = [self.recorder.components(v)[0].numpy() for v in model.variables]
        self._initial = training.start.setdefault("variables", initial)
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
        import keras

        lent = (data or self.training.data).copy()
        before, logbook, started = lent.digest(), Logbook(), time.perf_counter()
        error, start = self._error, {}
        with self._conditions():
            if error is None:
                self._reset(weights, moved)
                start = self.recorder.start(self._slot_values)
                if self.training.global_seed:
                    keras.utils.set_random_seed(self.training.seed)
                try:
                    self._train(lent, logbook)
                except Exception as raised:  # noqa: BLE001 - whatever a training raises is an observation
                    error = _observed(raised)
            trace = Trace(self.arm, self.strategy.num_replicas_in_sync)
            if self._error is None:
                trace = self.recorder.read(self.arm)
        logbook.into(trace)
        trace.start = start
        trace.error = None if error is None else describe(error)
        trace.data_intact = lent.digest() == before
        trace.seconds = time.perf_counter() - started
        return trace

    def _reset(self, weights: list[Array] | None, moved: np.random.Generator | None) -> None:
        self.recorder.reset()
        start = list(zip(self.model.variables, self._initial, strict=True))
        start += list(zip(weight_variables(self.model), weights or [], strict=False))
        slots = list(zip(self.optimizer.variables, self._slot_values, strict=True)) if self.optimizer.built else []
        # Layers may compute in half precision; optimizers do not.
        for precision, held in ((self.training.precision, start), ("float32", slots)):
            for variable, value in held:
                self._assign(variable, value if moved is None else perturbed(value, moved, precision))

    def _assign(self, variable: Any, value: Array) -> None:
        for component in self.recorder.components(variable):
            component.assign(value)


def _observed(error: Exception) -> Exception:
    """The error, if the training raised it; what this package raises is raised again, never taken for a finding."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, ConformanceError):
        # Raised while a user's function was traced, it comes wrapped in the lines of that function.
        raise type(error)(str(error).rpartition(f"{type(error).__name__}: ")[2].strip()) from error
    taps = any(f.f_globals.get("__name__") == "conformance.recording" and f.f_code.co_name in _TAPS for f in frames)
    ours = bool(frames) and str(frames[-1].f_globals.get("__name__", "")).startswith("conformance.")
    if taps or (ours and frames[-1].f_code.co_name not in _PASSES):
        raise error
    return error


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
