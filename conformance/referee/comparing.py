"""What an arm recorded, held against what the clauses give: everything that is further off than rounding explains.

How much that is, the case itself says: the same clauses are evaluated in the arm's precision from inputs that are
moved by a unit in the last place, and their distance from the exact evaluation, many times over, is the allowance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from conformance.build import HALF_DIGITS
from conformance.data import Array
from conformance.margin import Meter
from conformance.referee.departure import Judgement, Ratio
from conformance.referee.evaluate import Evaluator, Values
from conformance.referee.scene import Rules
from conformance.stage import Stage
from conformance.tolerance import distance, ulp
from conformance.trace import Trace

SAFETY = 16.0
HALF_SAFETY = 4.0
"""What is computed in half precision is evaluated with the arm's own roundings (measured: the arm's very bits in graph
and eager), and sums inside of an operation are float32: little is left that the evaluations do not show."""
FLOOR = 8.0
SAMPLED = 5
"""At first, every so many steps' allowance is measured."""
SLIGHT, NOTHING = 1e-4, 1e-6
"""Parts of the largest quantity of a stage: what is slight beside it, and what is nothing but what rounding leaves."""
CLEAR = 100.0
"""A departure so many times what is allowed is no matter of how well the allowance was measured."""
STAYS = 0.25
"""The part of a departure that is left by what does not explain it."""

Wanted = Callable[[Evaluator, int, Rules], Values | None]
"""What a stage should have given at a step."""


@dataclass(frozen=True)
class Off:
    """One quantity beyond its allowance.

    Attributes:
        step: the step.
        name: the variable's path or the quantity's name.
        seen: the arm's value, on the replica that is off.
        wanted: the referee's.
        magnitude: the largest absolute difference.
        allowed: what rounding explains.
        scale: the largest element of the stage at that step, where its quantities are comparable with one another.
        replica: the replica that is off.
    """

    step: int
    name: str
    seen: Array
    wanted: Array
    magnitude: float
    allowed: float
    scale: float = 0.0
    replica: int = 0

    @property
    def excess(self) -> float:
        """How many times what is allowed was seen."""
        return self.magnitude / self.allowed if self.allowed else np.inf

    @property
    def clear(self) -> bool:
        """Whether it is no matter of how well the allowance was measured."""
        return self.excess >= CLEAR and self.magnitude >= SLIGHT * self.scale


class Comparing:
    """One trace beside the clauses.

    Args:
        trace: the trace.
        exact: the clauses in float64.
        rounded: the same in the arm's precision, perturbed.
        more: those that are asked before a departure near its allowance is believed.
        first: how many of `rounded` are asked at first.
        judgement: where it is counted what was compared, and how much of its allowance each quantity took.
    """

    def __init__(
        self,
        trace: Trace,
        exact: Evaluator,
        rounded: Sequence[Evaluator],
        more: Sequence[Evaluator],
        first: int,
        judgement: Judgement,
    ) -> None:
        self.trace, self.exact, self.reading, self.judgement = trace, exact, exact.reading, judgement
        self._rounded, self._more, self._first = rounded, more, first
        self._relative: dict[tuple[str, int], float] = {}

    def off(
        self, stage: Stage, wanted: Wanted, steps: Sequence[int], rules: Rules, *, count: bool = False
    ) -> list[Off]:
        """What is beyond its allowance, in order."""
        # One rounded evaluation allows less than several: what it lets pass, they would too. And what one step allows
        # says nearly what the next ones do.
        quick = self._measured(
            stage,
            wanted,
            steps,
            rules,
            self._rounded[: self._first],
            count=count,
            every=1 if self._first > 1 else SAMPLED,
        )
        suspected = sorted({item.step for item in quick})
        off = quick and self._measured(stage, wanted, suspected, rules, self._rounded, again=count)
        if off and not any(item.clear for item in off):
            # Near the allowance a departure is believed only after that was measured thoroughly.
            suspected = sorted({item.step for item in off})
            return self._measured(stage, wanted, suspected, rules, [*self._rounded, *self._more], again=count)
        return off

    def leaves(self, off: Sequence[Off], wanted: Wanted, rules: Rules) -> bool:
        """Whether rules leave of a step's departures so much that no allowance needs to be measured to see it.

        Measuring takes many evaluations, and of all deviations that are tried hardly one brings a departure down.

        Args:
            off: what is off at one step.
            wanted: what the stage should have given.
            rules: the clauses, some of them replaced.
        """
        given = wanted(self.exact, off[0].step, rules)
        if given is None:
            return False
        for item in off:
            due = given[item.name][item.replica] if item.name in given else None
            if due is None or due.dtype.kind != "f" or not np.isfinite(item.magnitude):
                continue
            apart = distance(item.seen, due)
            least = max(item.allowed, FLOOR * ulp(due.astype(np.float32)))
            # What overflows in the arm's precision is for those who measure to say.
            if np.isfinite(apart) and apart > CLEAR * least and apart >= STAYS * item.magnitude:
                return True
        return False

    def _measured(
        self,
        stage: Stage,
        wanted: Wanted,
        steps: Sequence[int],
        rules: Rules,
        evaluators: Sequence[Evaluator],
        *,
        count: bool = False,
        again: bool = False,
        every: int = 1,
    ) -> list[Off]:
        """What is beyond its allowance, which is measured at every so many steps and carried over to the others."""
        found: list[Off] = []
        meter = self.judgement.meter if count or again else None
        if meter is not None and again:
            meter.forget(stage, steps)
        self._relative.clear()
        for index, step in enumerate(steps):
            exact = wanted(self.exact, step, rules)
            rounded = [wanted(evaluator, step, rules) for evaluator in evaluators] if index % every == 0 else []
            recorded = self._recorded(step, stage)
            if exact is None:
                if recorded and stage is Stage.GRADIENT:
                    name, seen = next(iter(recorded.items()))
                    found.append(Off(step, name, seen[0], np.zeros_like(seen[0]), np.inf, 0.0))
                    if meter is not None:
                        meter.note(step, stage, name, np.inf, 0.0)
                continue
            if stage is Stage.GRADIENT and not recorded:
                name, due = next(iter(exact.items()))
                found.append(Off(step, name, np.zeros_like(due[0]), due[0], np.inf, 0.0))
                if meter is not None:
                    meter.note(step, stage, name, np.inf, 0.0)
                continue
            known = [item for item in rounded if item is not None]
            found += self.compared(step, stage, recorded, exact, known, count=count, meter=meter)
        return found

    def _recorded(self, step: int, stage: Stage) -> Values:
        if stage is Stage.LOCAL_GRADIENT:
            return self.reading.local_gradients(step)
        if stage is Stage.GRADIENT:
            return self.reading.received(step)
        if stage is Stage.UPDATE:
            return self.reading.slots_left(step)
        return self.trace.stage(step, stage)

    def compared(
        self,
        step: int,
        stage: Stage,
        recorded: Values,
        exact: Values,
        rounded: list[Values],
        *,
        count: bool,
        meter: Meter | None,
    ) -> Iterator[Off]:
        """What of a stage's quantities at a step is beyond its allowance.

        Args:
            step: the step.
            stage: the stage.
            recorded: what the arm did.
            exact: what the clauses give.
            rounded: what they give in the arm's precision; empty where the allowance is that of an earlier step.
            count: whether these quantities are counted, and how much of their allowance they took.
            meter: where it is noted what was seen and allowed.
        """
        known = [part for name in recorded if name in exact for part in exact[name] if part.dtype.kind == "f"]
        # Gradients are comparable with one another; a moving mean and a weight are not.
        alike = stage in (Stage.LOCAL_GRADIENT, Stage.GRADIENT)
        largest = [np.nanmax(np.abs(part), initial=0.0) for part in known] if alike else []
        scale = float(max(largest, default=0.0))
        for name, seen in recorded.items():
            if name not in exact:
                if count:
                    self.judgement.skip(f"{stage.value} {name}: no clause gives it", stage)
                continue
            for replica, (value, due) in enumerate(zip(seen, exact[name], strict=True)):
                found, others = _within_range(value, due, [other[name][replica] for other in rounded])
                allowed = allowed_of(self._spread(name, replica, due, others), due, self._safety(stage))
                if np.abs(due).max(initial=0.0) <= NOTHING * scale:
                    # A sum that cancels is as exact as its parts, which nobody has seen.
                    allowed = max(allowed, FLOOR * float(np.spacing(np.float32(scale))))
                if due.dtype.kind != "f":
                    allowed = 0.0
                apart = distance(found, due)
                if count:
                    self.judgement.compared += 1
                if meter is not None:
                    meter.note(step, stage, name, apart, allowed)
                if apart > allowed:
                    yield Off(step, name, found, due, apart, allowed, scale, replica)
                elif count and allowed:
                    self.judgement.ratios.setdefault(stage, []).append(Ratio(apart / allowed, step, name))

    def _spread(self, name: str, replica: int, due: Array, others: Sequence[Array]) -> float:
        """How far rounded evaluations lie from the exact one: as measured, or as at the step where that was done."""
        scale = float(np.abs(due.astype(np.float64)).max(initial=0.0))
        if not others:
            return self._relative.get((name, replica), 0.0) * scale
        spread = max(distance(other, due) for other in others)
        known = self._relative.get((name, replica), 0.0)
        self._relative[name, replica] = max(known, spread / scale if scale and np.isfinite(spread) else 0.0)
        return spread

    def _safety(self, stage: Stage) -> float:
        half = self.reading.training.rounding in HALF_DIGITS
        return HALF_SAFETY if half and stage in (Stage.OUTPUTS, Stage.LOCAL_GRADIENT) else SAFETY


def allowed_of(spread: float, value: Array, safety: float = SAFETY) -> float:
    """What rounding explains of a quantity, from the spread of its perturbed evaluations."""
    return safety * (spread if np.isfinite(spread) else 0.0) + FLOOR * ulp(value.astype(np.float32))


def _within_range(seen: Array, due: Array, rounded: Sequence[Array]) -> tuple[Array, list[Array]]:
    """A recorded array and rounded evaluations of it, without what overflows in the arm's precision.

    Half precisions end at 65504, which a scaled loss reaches as a matter of course. An element that is finite, but not
    in an evaluation in the arm's precision, may be as little so in the arm.
    """
    if due.dtype.kind != "f" or seen.shape != due.shape:
        return seen, list(rounded)
    lost = [~np.isfinite(other) & np.isfinite(due) for other in rounded]
    if not any(part.any() for part in lost):
        return seen, list(rounded)
    overflown = np.logical_or.reduce(lost) & ~np.isfinite(seen)
    kept = [np.where(part, due, other) for part, other in zip(lost, rounded, strict=True)]
    return np.where(overflown, due, seen), kept
