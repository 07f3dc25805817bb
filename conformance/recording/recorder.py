"""What a run left: the state between its steps, and the trace of it all."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.arm import Arm
from conformance.data import Array
from conformance.recording.logs import APPLIES, CALLS
from conformance.recording.names import output_names, part_of, slot_name
from conformance.recording.taps import Taps
from conformance.stage import FINAL, Stage
from conformance.trace import Trace

_BY_OPTIMIZER = frozenset({Stage.LOCAL_GRADIENT, Stage.GRADIENT, Stage.UPDATE})


class Recorder(Taps):
    """Records the stages of every step of one prepared arm, from before its first to the trace."""

    @property
    def by_hand(self) -> set[str]:
        """The names of the weights that anybody but the optimizer assigns."""
        return set() if self._assigned is None else self._assigned.by_hand

    @property
    def partly_by_hand(self) -> bool:
        """Whether the optimizer trains a part of the model and another part is trained in another way.

        Its gradients and slots are those of a part then, and what is judged of the whole are its weights.
        """
        return bool(self.given) and bool(self.by_hand - self.given)

    def _owned(self) -> list[tuple[Stage, str, Any]]:
        """The variables of the optimizers that are the model's own: as many as have been made by now."""
        owned: list[tuple[Stage, str, Any]] = []
        for optimizer, variables in self._optimizers.variables().items():
            paths = [f"{optimizer}/{slot_name(variable)}" for variable in variables]
            names = self._names.setdefault(f"slots of {optimizer}", paths)
            owned += [(Stage.UPDATE, name, variable) for name, variable in zip(names, variables, strict=True)]
        return owned

    def weights(self) -> dict[str, tuple[Array, ...]]:
        """Every weight as it is now, on every replica."""
        return {name: tuple(c.numpy() for c in self.components(v)) for name, v in self._held[Stage.WEIGHTS]}

    def begin(self) -> None:
        """Before the first step, outside of any graph: record what it begins with. Later calls do nothing."""
        if not self._begun:
            self._begun = self._held_now()

    def _slots(self) -> list[tuple[str, Any]]:
        """The optimizer's variables by name; one that is not built has some already, which need not be the first."""
        variables = list(self.optimizer.variables)
        if len(variables) == len(self._slot_names):
            return list(zip(self._slot_names, variables, strict=True))
        named = {slot_name(variable): variable for variable in variables}
        return [(name, named[name]) for name in self._slot_names if name in named]

    def _held_now(self) -> dict[tuple[Stage, str], tuple[Array, ...]]:
        """Every weight and state as it is now, on every replica."""
        return {
            (stage, name): tuple(c.numpy() for c in self.components(v))
            for stage, held in self._held.items()
            for name, v in held
        }

    def between(self) -> None:
        """After a callback: record what the next step begins with, slots included where they are built."""
        if self._assigned is not None:
            self._assigned.forget()
        step = self.ended()
        built = {(Stage.UPDATE, name): tuple(c.numpy() for c in self.components(v)) for name, v in self._slots()}
        held = self._held_now()
        self._callbacks_left.update({(step, *key): value for key, value in {**built, **held}.items()})
        if step == 0:
            self._begun = held

    def evaluating(self) -> None:
        """After callbacks that were told of an evaluation: record what the model is evaluated with."""
        step = self.ended() - 1
        self._evaluated.update({(step, *key): value for key, value in self._held_now().items()})

    def ending(self) -> None:
        """After training and before the last of the callbacks: note the weights."""
        self._at_end = self.weights()

    def ended_by(self, stopped: bool) -> None:
        """After the last of the callbacks: note whether they stopped the training, and whether they moved weights."""
        self._stopped = stopped
        self._moved_at_end = any(
            not same_values(self._at_end.get(name, ()), now) for name, now in self.weights().items()
        )

    def stopped_early(self) -> None:
        """After training: note that a callback has stopped it."""
        self._stopped = True

    def settle(self, *, last: bool = False) -> None:
        """Between steps of a whole loop, outside of any graph: end the step that assignments have ended, if they have.

        Args:
            last: training has ended.
        """
        if not self.in_step:
            return
        for replica in range(len(self.devices)):
            self._settle(replica, last=last)

    def end_step(self) -> None:
        """Between steps: record what the step left behind and go to the next one."""
        if self.in_step:
            return
        step = self._ended
        for stage, name, variable in (*self._left(), *self._owned()):
            self._between[step, stage, name] = tuple(c.numpy() for c in self.components(variable))
        self._ended += 1
        for row in self._cursor.rows:
            row.assign([self._ended])
        self._reached = Stage.STATE

    def ended(self) -> int:
        """How many steps have ended."""
        return int(self._cursor.read()[0][0])

    def log_name(self, name: str) -> str:
        """The name of something reported, with the output it is of called as in the first arm."""
        if self.opaque:
            return name
        for ours, theirs in zip(output_names(self.model, len(self.output_names)), self.output_names, strict=True):
            for prefix in (f"{ours}_", f"val_{ours}_"):
                if name.startswith(prefix):
                    return prefix.replace(ours, theirs) + name.removeprefix(prefix)
        return name

    def reset(self) -> None:
        """Forget the last run."""
        logs = [self._cursor, self._tails, self._rows, self._rates, self._sizes, *self._filled.values()]
        logs += [*self._counts.values(), *self._logs.values()]
        for log in (*logs, *(log for *_, log in self._first), *(log for *_, log in self._carried)):
            log.clear()
        self._between.clear()
        for variable, value in (*self._optimizers.beginning(self.strategy), *self._beside_at_first):
            for component in self.components(variable):
                component.assign(value)
        self._callbacks_left.clear()
        self._evaluated.clear()
        self._stopped = self._moved_at_end = False
        self._begun = {}
        self._ended = 0

    def start(self, slot_values: list[Array]) -> dict[tuple[Stage, str], tuple[Array, ...]]:
        """What a run starts from; `slot_values` are those of an optimizer that is not built yet."""
        left = [(Stage.UPDATE, name, variable) for name, variable in self._slots()]
        left += [item for item in self._left() if item[0] is not Stage.UPDATE]
        held = {(stage, name): tuple(c.numpy() for c in self.components(v)) for stage, name, v in left}
        unbuilt = {
            (Stage.UPDATE, name): (value,) * len(self.devices)
            for name, value in zip(self._slot_names, slot_values, strict=True)
        }
        return {**unbuilt, **held}

    def read(self, arm: Arm) -> Trace:
        """The trace of the run that has ended."""
        ended = self.ended()
        trace = Trace(arm, len(self.devices), steps=ended, reached=self._reached)
        trace.applied, trace.foreign = self.applied or self.opaque, () if self.given else self.strange
        trace.by_hand, trace.handed = frozenset(self.by_hand), tuple(self._handed_in)
        hidden = _BY_OPTIMIZER if self.partly_by_hand else frozenset()
        counts = {name: log.read() for name, log in self._counts.items()}
        rows = self._rows.read()
        trace.parts = self._in_parts(rows)
        last = self.steps + (ended > self.steps)
        if self._by_calls and self.in_step:
            # What no `apply` has ended was no step.
            last = min(last, ended)
        for (stage, name), log in self._logs.items():
            if stage in hidden:
                continue
            written = counts[stage.value if stage is not Stage.BATCH or name.startswith("x") else part_of(name)]
            if not any(count[:last].any() for count in written):
                continue
            values = log.read()
            for step in range(last):
                if not any(count[step] for count in written):
                    continue
                kept = tuple(value[step] for value in values)
                if stage is Stage.LOSS and self.in_step and step in trace.parts:
                    # That of the first part is not the step's.
                    continue
                if stage in (Stage.BATCH, Stage.OUTPUTS):
                    kept = tuple(value[: rows[index][step]] for index, value in enumerate(kept))
                trace.values[step, stage, name] = kept
        trace.values.update({key: value for key, value in self._between.items() if key[1] not in hidden})
        for stage, name, variable in (*self._left(), *self._owned()):
            if stage in hidden:
                continue
            trace.values[FINAL, stage, name] = tuple(c.numpy() for c in self.components(variable))
        self._read_beside(trace, counts, last)
        return trace

    def _in_parts(self, rows: list[Array]) -> dict[int, tuple[tuple[int, ...], ...]]:
        """By step on every replica the rows of the parts in which its batch goes through the model, if in several.

        Args:
            rows: by replica the rows of every step; of a whole loop those of the first part, and then those of all.
        """
        if not self._by_calls:
            return {}
        filled, sizes, found = self._filled[CALLS].read(), self._sizes.read(), {}
        for step, due in enumerate(self._due):
            whole = due if self.in_step else sum(given[step] for given in rows)
            parts = tuple(tuple(int(size) for size in held[step] if size) for held in sizes)
            if max(map(len, parts)) > 1 and whole == sum(map(sum, parts)) == sum(given[step] for given in filled):
                found[step] = parts
        if self.in_step:
            for given, all_of_them in zip(rows, filled, strict=True):
                given[list(found)] = all_of_them[list(found)]
        return found

    def _read_beside(self, trace: Trace, counts: dict[str, list[Array]], last: int) -> None:
        """What is recorded beside the compared quantities."""
        (rates, *_) = self._rates.read()
        (updates, *_), (applies, *_) = counts[Stage.GRADIENT.value], counts[APPLIES]
        trace.handed_a_step = int(applies[0])
        trace.rates = {step: float(rates[step]) for step in range(last) if updates[step]}
        trace.carried = {
            (step, name): tuple(value[step] for value in log.read())
            for name, _, log in self._carried
            for step in range(trace.steps)
        }
        trace.first = dict(self._begun)
        trace.begun, trace.evaluated = dict(self._callbacks_left), dict(self._evaluated)
        trace.stopped = self._stopped
        weights = trace.stage(trace.steps - 1, Stage.WEIGHTS) if trace.steps else {}
        left = {name: trace.begun.get((trace.steps, Stage.WEIGHTS, name), value) for name, value in weights.items()}
        moved = any(not same_values(left[name], value) for name, value in weights.items())
        trace.moved_at_end = self._moved_at_end or moved
        if not self._by_calls:
            return
        calls = counts[CALLS]
        trace.calls = {
            step: tuple(1 if step in trace.parts else int(count[step]) for count in calls)
            for step in range(min(last, trace.steps))
        }
        if any(count[0] for count in (*calls, *counts[Stage.OUTPUTS.value])):
            trace.first |= {(stage, n): tuple(value[0] for value in log.read()) for stage, n, _, log in self._first}


def same_values(one: tuple[Array, ...], other: tuple[Array, ...]) -> bool:
    """Whether two quantities are the same on every replica, NaN included."""
    return len(one) == len(other) and all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))
