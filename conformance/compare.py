"""Two traces, quantity by quantity: total, in the order of training, first difference first.

Every quantity that either trace holds gets an answer. Where the same bits are due there is no tolerance at all; a NaN
equals only a NaN; what only one of the two has is a difference too, unless that arm never records it, which is said.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from conformance.arm import Arm
from conformance.data import Array
from conformance.margin import Margins, Meter
from conformance.stage import FINAL, Stage
from conformance.tolerance import Allowance, constant_ratio, distance
from conformance.trace import Trace


@dataclass(frozen=True)
class Difference:
    """A quantity in which two traces differ by more than is allowed.

    Attributes:
        step: the step, `FINAL`, or None where it is no step's.
        stage: the stage.
        name: the variable's path or the quantity's name.
        magnitude: the largest absolute difference.
        allowed: what would have been allowed.
        seen: the suspect's values, merged over the replicas.
        wanted: the reference's.
        ulps: largest distance in units in the last place, or None.
        ratio: the constant c with seen = c x wanted, or None.
        epoch: the epoch of an epoch's logs.
        note: what is to be said where numbers do not say it.
        raised: the arm that raised alone, where that is the difference.
    """

    step: int | None
    stage: Stage
    name: str
    magnitude: float
    allowed: float
    seen: Array | None = None
    wanted: Array | None = None
    ulps: int | None = None
    ratio: float | None = None
    epoch: int | None = None
    note: str = ""
    raised: Arm | None = None

    @property
    def place(self) -> tuple[float, int, str]:
        """Where it stands in the order of training; what is no step's comes last, an exception first."""
        if self.raised is not None:
            return -1.0, self.stage.order, self.name
        step = float("inf") if self.step is None or self.step == FINAL else float(self.step)
        return step, self.stage.order, self.name


@dataclass(frozen=True)
class Comparison:
    """What comparing two traces gave.

    Attributes:
        first: the first difference, or None.
        compared: how many quantities were compared.
        skipped: what only one of the two records at all.
        worst: the largest seen / allowed among what was within its allowance, 0 where the same bits were due.
        margins: what was seen and allowed, a row a step and stage; the arms are the caller's to name.
    """

    first: Difference | None
    compared: int
    skipped: tuple[str, ...] = ()
    worst: float = 0.0
    margins: Margins = field(default=Margins(arms=("", "")), compare=False)


def compare(suspect: Trace, reference: Trace, allowance: Allowance | None = None) -> Comparison:
    """Compare two traces.

    Args:
        suspect: the trace that is asked about.
        reference: the trace it is held against.
        allowance: None where the same bits are due, which also means replica by replica; else what rounding explains.

    Returns:
        The first difference in the order of training, and how much was compared. Nothing compared at all is itself a
        difference.
    """
    whole = _whole_run(suspect, reference)
    if whole is not None:
        return Comparison(whole, 1)
    if suspect.error is not None and reference.error is not None:
        return Comparison(None, 1)
    run = _Run(suspect, reference, allowance)
    if bool(suspect.steps) != bool(reference.steps):
        # One has made no step at all, so there is nothing beside the other's but what is left of the weights.
        first = run.final(Stage.WEIGHTS)
    else:
        first = run.values() or run.step_logs()
        later = run.final() or run.epoch_logs()
        first = first or later
    if run.compared == 0:
        first = Difference(None, Stage.BATCH, "everything", np.inf, 0.0, note="nothing could be compared")
    return Comparison(first, run.compared, tuple(sorted(run.skipped)), run.worst, run.meter.margins())


def _whole_run(suspect: Trace, reference: Trace) -> Difference | None:
    """What is wrong with a run as a whole: it raised alone, or wrote into its caller's arrays."""
    if (suspect.error is None) != (reference.error is None):
        failed, other = (suspect, reference) if suspect.error is not None else (reference, suspect)
        note = f"{failed.arm} raises {failed.error}; {other.arm} trains"
        kind = failed.error.kind if failed.error else ""
        return Difference(None, failed.furthest(), kind, np.inf, 0.0, note=note, raised=failed.arm)
    for trace, other in ((suspect, reference), (reference, suspect)):
        if not trace.data_intact and other.data_intact:
            note = f"{trace.arm} wrote into the arrays it was given; {other.arm} left them as they were"
            return Difference(None, Stage.BATCH, "the caller's arrays", np.inf, 0.0, note=note)
    return None


class _Run:
    def __init__(self, suspect: Trace, reference: Trace, allowance: Allowance | None) -> None:
        self.suspect, self.reference, self.allowance = suspect, reference, allowance
        self.compared, self.worst = 0, 0.0
        self.meter = Meter()
        self.skipped: set[str] = set()
        self._recorded = [{key[1:] for key in trace.values} for trace in (suspect, reference)]

    def values(self) -> Difference | None:
        """The first difference in what was recorded step by step."""
        merged = Trace(self.suspect.arm, 1, values={**self.reference.values, **self.suspect.values})
        first: Difference | None = None
        for key in merged.keys():  # noqa: SIM118 - `keys` of a trace is its order of training
            if key[0] == FINAL:
                continue
            found = self._value(key)
            # Later quantities are looked at too: all of them get an answer, and the count is of all.
            first = first or found
        return first

    def final(self, *stages: Stage) -> Difference | None:
        """The first difference in what is left when training has returned, of some stages or of all."""
        first: Difference | None = None
        for key in sorted(k for k in {**self.reference.values, **self.suspect.values} if k[0] == FINAL):
            if not stages or key[1] in stages:
                first = first or self._value(key)
        return first

    def _value(self, key: tuple[int, Stage, str]) -> Difference | None:
        has = [key in trace.values for trace in (self.suspect, self.reference)]
        if not all(has):
            absent = self._recorded[has.index(False)]
            if key[1:] not in absent:
                self.skipped.add(f"{key[1].value} {key[2]}: only {self._arm(has)} records it")
                return None
            self.compared += 1
            self.meter.note(*key, np.inf, 0.0)
            return Difference(
                key[0], key[1], key[2], np.inf, 0.0, note=f"only {self._arm(has)} has {key[1].value} here"
            )
        self.compared += 1
        for trace in (self.suspect, self.reference):
            if trace.copies_differ(key):
                first, second = trace.values[key][:2]
                self.meter.note(*key, distance(first, second), 0.0)
                note = f"the replicas of {trace.arm} hold different values"
                return replace(self._difference(key, first, second, 0.0), note=note)
        if self.allowance is None:
            pairs = zip(self.suspect.values[key], self.reference.values[key], strict=True)
            unlike = [(a, b) for a, b in pairs if not _same_bits(a, b)]
            if not unlike:
                self.meter.note(*key, 0.0, 0.0)
                return None
            seen, wanted = self.suspect.merged(key), self.reference.merged(key)
            if distance(seen, wanted) == 0.0:
                seen, wanted = unlike[0]
            found = self._difference(key, seen, wanted, 0.0)
            self.meter.note(*key, found.magnitude, 0.0)
            if seen.dtype == wanted.dtype:
                return found
            note = f"{key[1].value}[step {key[0]}] {key[2]} is {seen.dtype}, and {wanted.dtype} in the other"
            return replace(found, note=note)
        seen, wanted = self.suspect.merged(key), self.reference.merged(key)
        allowed = self.allowance.of(key, wanted)
        apart = distance(seen, wanted)
        self.meter.note(*key, apart, allowed)
        if apart <= allowed:
            self.worst = max(self.worst, apart / allowed if allowed else 0.0)
            return None
        return self._difference(key, seen, wanted, allowed)

    def _difference(self, key: tuple[int, Stage, str], seen: Array, wanted: Array, allowed: float) -> Difference:
        step, stage, name = key
        ratio = constant_ratio(seen, wanted, allowed)
        return Difference(
            step, stage, name, distance(seen, wanted), allowed, seen, wanted, ulps_apart(seen, wanted), ratio
        )

    def _arm(self, has: list[bool]) -> str:
        return str((self.suspect if has[0] else self.reference).arm)

    def step_logs(self) -> Difference | None:
        """The first difference in what was reported after a step, where both report it."""
        first: Difference | None = None
        for when, name in sorted(set(self.suspect.logs) & set(self.reference.logs)):
            found = self._log("step", when, name, self.suspect.logs[when, name], self.reference.logs[when, name])
            first = first or found
        self._skip({name for _, name in self.suspect.logs}, {name for _, name in self.reference.logs}, "a step")
        return first

    def epoch_logs(self) -> Difference | None:
        """The first difference in what was reported after an epoch."""
        names = [{name for _, name in trace.epoch_logs} for trace in (self.suspect, self.reference)]
        self._skip(names[0], names[1], "an epoch")
        first: Difference | None = None
        for when, name in sorted({*self.suspect.epoch_logs, *self.reference.epoch_logs}):
            if name not in names[0] & names[1]:
                continue
            values = [trace.epoch_logs.get((when, name)) for trace in (self.suspect, self.reference)]
            if None in values:
                self.compared += 1
                self.meter.note(None, Stage.LOGS, name, np.inf, 0.0, epoch=when)
                has = [value is not None for value in values]
                note = f"only {self._arm(has)} reports epoch {when}"
                found: Difference | None = Difference(None, Stage.LOGS, name, np.inf, 0.0, epoch=when, note=note)
            else:
                found = self._log("epoch", when, name, float(values[0] or 0.0), float(values[1] or 0.0))
            first = first or found
        return first

    def _skip(self, ours: set[str], theirs: set[str], when: str) -> None:
        for name in ours ^ theirs:
            arm = self.suspect.arm if name in ours else self.reference.arm
            self.skipped.add(f"logs {name} of {when}: only {arm} reports it")

    def _log(self, kind: str, when: int, name: str, seen: float, wanted: float) -> Difference | None:
        self.compared += 1
        allowed = 0.0 if self.allowance is None else self.allowance.of_log(kind, when, name, wanted)
        a, b = np.asarray(seen, np.float32), np.asarray(wanted, np.float32)
        apart = distance(a, b)
        step, epoch = (when, None) if kind == "step" else (None, when)
        self.meter.note(step, Stage.LOGS, name, apart, allowed, epoch=epoch)
        if apart <= allowed:
            self.worst = max(self.worst, apart / allowed if allowed else 0.0)
            return None
        found = self._difference((when, Stage.LOGS, name), a, b, allowed)
        return found if kind == "step" else replace(found, step=None, epoch=when)


def _same_bits(first: Array, second: Array) -> bool:
    return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")


def ulps_apart(first: Array, second: Array) -> int | None:
    """The largest distance in units in the last place, counted along the floats between the two; None for others.

    Floats of one sign are ordered like the whole numbers their bits spell, so the distance of two floats is the
    distance of those numbers, with the negative ones mirrored.
    """
    if first.shape != second.shape or first.dtype != second.dtype or first.dtype.kind != "f" or not first.size:
        return None
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return None
    width = first.dtype.itemsize
    if width not in (2, 4, 8):
        return None
    lowest = -(2 ** (8 * width - 1))
    places = []
    for array in (first, second):
        bits = np.ascontiguousarray(array).view(f"i{width}").astype(object)
        places.append(np.where(bits < 0, lowest - bits, bits))
    return int(np.max(np.abs(places[0] - places[1])))
